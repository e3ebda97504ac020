"""One measurement: the suite and workloads in one or more settings of this machine, alternating."""

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from time import perf_counter

import torch

from kit.hardware.calibration.kernels import Kernel, Series, kernels, synchronise
from kit.hardware.calibration.quiet import Use, Watch
from kit.hardware.calibration.settings import Setting
from kit.hardware.calibration.soundness import Candidate, suspects
from kit.hardware.calibration.timing import Engine, Stopwatch, Task, Timings
from kit.hardware.calibration.workloads import COMPILED, Step, Workload, operators_of
from kit.hardware.profile import LeftOut, workload_label
from kit.results.record import OperatorFlops

TIMING_S = {"cpu": 0.0002, "cuda": 0.003}
"""Of one timing: far above the clock's resolution, and on a GPU above the cost of waiting for it."""
STEP_SLOT_S = 0.06
"""For a training step, of which some should fit."""
COMPILER_SHARE = 0.25
PATIENCE_SHARE = 0.15
RESERVE_SHARE = 0.1
"""Of the budget: what compiling may take, what waiting for quiet may, and what is kept for a second look at points that
make no sense."""
PREPARED_SHARE = 0.4
"""When so much is gone, nothing more is compiled, and of series the smallest size is enough."""
LEAST_SHARE = 0.3
"""To measure in, whatever came before."""
RECHECKS = 2
"""Second looks, of `RECHECK_ROUNDS` rounds each."""
RECHECK_ROUNDS = 3


@dataclass(frozen=True)
class MeasuredKernel:
    """One operator call in one setting."""

    setting: Setting
    kernel: Kernel
    timings: Timings
    refused_because: str | None


@dataclass(frozen=True)
class MeasuredWorkload:
    """One training step in one setting."""

    setting: Setting
    name: str
    compiled: bool
    operators: tuple[OperatorFlops, ...]
    timings: Timings


@dataclass(frozen=True)
class Measurement:
    """What was measured, not yet judged."""

    kernels: tuple[MeasuredKernel, ...]
    workloads: tuple[MeasuredWorkload, ...]
    left_out: tuple[LeftOut, ...]
    rounds: int
    uses: tuple[Use, ...]
    """What others used of the machine, stretch by stretch."""


@dataclass(frozen=True)
class _Prepared:
    setting: Setting
    workload: Workload
    compiled: bool
    operators: tuple[OperatorFlops, ...]
    task: Task


def measure(
    device: torch.device,
    settings: Sequence[Setting],
    suite: Sequence[Series],
    workloads: Sequence[Workload],
    *,
    compiled: Collection[str] = COMPILED,
    watch: Watch,
    budget_s: float,
    tell: Callable[[float], None] = lambda _: None,
) -> Measurement:
    """Time every kernel and workload in every setting, one setting after another within seconds.

    Args:
        device: Where.
        settings: Ways of running there.
        suite: Kernels to time.
        workloads: To be timed eagerly.
        compiled: Names of those to be timed compiled too, while there is time.
        watch: Sees what others do.
        budget_s: Seconds for all of it; longer only where preparing was. What there was no time for is left out.
        tell: Is told the seconds that are gone.
    """
    begun_s = perf_counter()
    points = list(_alternating(device, settings, suite, until_s=begun_s + PREPARED_SHARE * budget_s))
    kernel_tasks = [Task(kernel.series, kernel.isolated.call, setting.applied) for setting, kernel in points]
    compiler_s = min(COMPILER_SHARE * budget_s, PREPARED_SHARE * budget_s - (perf_counter() - begun_s))
    prepared, left_out = _prepare(device, settings, workloads, compiled, compiler_s=compiler_s)
    stopwatch = Stopwatch(timing_s=TIMING_S[device.type], synchronise=partial(synchronise, device))
    engine = Engine(
        stopwatch,
        watch,
        patience_s=PATIENCE_SHARE * budget_s,
        tell=lambda: tell(perf_counter() - begun_s),
    )
    # Whatever preparing took, some time is left to measure.
    ends_s = max(begun_s + budget_s, perf_counter() + LEAST_SHARE * budget_s)
    tasks = [*(item.task for item in prepared), *kernel_tasks]
    rounds = engine.measure(tasks, ends_s=ends_s - RESERVE_SHARE * budget_s)
    measured = [
        (setting, kernel, task)
        for (setting, kernel), task in zip(points, kernel_tasks, strict=True)
        if engine.timings[task].slots
    ]
    refused = _second_look(engine, measured, ends_s)
    late = sum(not engine.timings[task].slots for task in tasks)
    if late:
        left_out.append(LeftOut(what=f"{late} of {len(tasks)} points", because="there was no time for them"))
    return Measurement(
        kernels=tuple(
            MeasuredKernel(setting, kernel, engine.timings[task], refused.get(index))
            for index, (setting, kernel, task) in enumerate(measured)
        ),
        workloads=tuple(
            MeasuredWorkload(item.setting, item.workload.name, item.compiled, item.operators, engine.timings[item.task])
            for item in prepared
            if engine.timings[item.task].slots
        ),
        left_out=tuple(left_out),
        rounds=rounds,
        uses=tuple(engine.uses),
    )


def _alternating(
    device: torch.device, settings: Sequence[Setting], suite: Sequence[Series], *, until_s: float
) -> Iterator[tuple[Setting, Kernel]]:
    """The suite's points, each in all settings before the next; of series that would be late, the smallest only."""
    for whole in suite:
        series = whole if perf_counter() < until_s else replace(whole, sizes=whole.sizes[:1])
        for row in zip_longest(*(list(kernels(device, setting, [series])) for setting in settings)):
            for setting, kernel in zip(settings, row, strict=True):
                if kernel is not None:
                    yield setting, kernel


_Point = tuple[Setting, Kernel, Task]


def _second_look(engine: Engine, points: Sequence[_Point], ends_s: float) -> dict[int, str]:
    """Measure again what makes no sense; what still makes none, by index with the reason."""
    for _ in range(RECHECKS):
        doubtful = _doubtful(engine, points)
        if not doubtful:
            return {}
        engine.measure([points[index][2] for index in doubtful], ends_s=ends_s, rounds=RECHECK_ROUNDS)
    return _doubtful(engine, points)


def _doubtful(engine: Engine, points: Sequence[_Point]) -> dict[int, str]:
    candidates = []
    for setting, kernel, task in points:
        timings, isolated = engine.timings[task], kernel.isolated
        candidates.append(
            Candidate(
                series=f"{setting} {isolated.operator_class} {kernel.series}",
                flops=isolated.flops,
                size_bytes=isolated.size_bytes,
                seconds=timings.seconds,
                spread=timings.spread,
            )
        )
    return suspects(candidates)


def _prepare(
    device: torch.device,
    settings: Sequence[Setting],
    workloads: Sequence[Workload],
    to_compile: Collection[str],
    *,
    compiler_s: float,
) -> tuple[list[_Prepared], list[LeftOut]]:
    """Make the steps and run each once, so that what happens once has happened."""
    prepared, left_out = [], []
    compiler = _Compiler(device, compiler_s)
    for workload in workloads:
        for setting in settings:
            with setting.applied():
                try:
                    step = workload.make(setting.dtype, device)
                    operators = operators_of(step, device)
                except RuntimeError as error:  # such as an LSTM in bfloat16, which not all processors have
                    label = workload_label(workload.name, setting.dtype, compiled=False)
                    left_out.append(LeftOut(what=label, because=str(error).splitlines()[0]))
                    continue
                task = Task(workload.name, step, setting.applied, STEP_SLOT_S)
                prepared.append(_Prepared(setting, workload, False, operators, task))
                if workload.name not in to_compile:
                    continue
                compiled, because = compiler.make(workload, setting)
                if compiled is None:
                    label = workload_label(workload.name, setting.dtype, compiled=True)
                    left_out.append(LeftOut(what=label, because=because))
                    continue
            prepared.append(
                _Prepared(
                    setting, workload, True, operators, Task(workload.name, compiled, setting.applied, STEP_SLOT_S)
                )
            )
    return prepared, left_out


class _Compiler:
    """Compiles steps while its time lasts: each is expected to take as long as the longest before it."""

    def __init__(self, device: torch.device, left_s: float) -> None:
        self._device = device
        self._left_s = left_s
        self._longest_s = 0.0
        self._failure = None if device.type == "cuda" or _has_compiler() else "there is no C++ compiler here"

    def make(self, workload: Workload, setting: Setting) -> tuple[Step | None, str]:
        """A compiled step that has run once, or the reason why there is none."""
        if self._failure is not None:
            return None, self._failure
        if self._left_s < self._longest_s or self._left_s <= 0:
            return None, f"no time was left for the compiler (the longest of its runs took {self._longest_s:.0f} s)"
        begun_s = perf_counter()
        step = workload.make(setting.dtype, self._device, compiled=True)
        try:
            with _quietly():
                step()
                synchronise(self._device)
        except Exception as error:  # whatever a compiler may raise
            line = str(error).strip().partition("\n")[0]
            self._failure = f"torch.compile failed: {type(error).__name__}: {line}"[:300]
            return None, self._failure
        took_s = perf_counter() - begun_s
        self._left_s -= took_s
        self._longest_s = max(self._longest_s, took_s)
        return step, ""


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in ("c++", "g++", "clang++"))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the compiler's advice about things that a user of this command has no say in."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
