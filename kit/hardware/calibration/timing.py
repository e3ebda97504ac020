"""The engine: times many short things in turn, in rounds, and knows which timings others disturbed.

Everything is measured once per round, and neighbours in the list within seconds of each other: what drifts, drifts for
all alike, and two settings of one machine that alternate in the list can be compared more finely than either can be
known. Disturbances only ever add time, so low quantiles are kept: of the timings in a slot, and of the slots.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter

from kit.hardware.calibration.quiet import Use, Watch

LOW = 0.25
"""The quantile that stands for an undisturbed timing."""
MAX_ROUNDS = 12
TIMINGS = 3
LONGEST_SLOT = 4
"""So many timings a slot is to have, unless it gets so many times longer than planned."""
ENOUGH_SLOTS = 3
UNKNOWN_SPREAD = 0.25
LEAST_SPREAD = 0.03
"""Of fewer slots than enough, at least the one is stated; of any number, never less than the other: what the machine as
a whole does from minute to minute shows in no slot."""
STRETCH_S = 0.5
"""Others are watched over stretches so long: shorter ones drown in the resolution of the system's clocks."""
RETRIES = 2
"""Of a disturbed stretch in one round."""


@dataclass(frozen=True, eq=False)
class Task:
    """One thing to time in one setting."""

    name: str
    call: Callable[[], object]
    setting: Callable[[], AbstractContextManager[None]] = nullcontext
    slot_s: float = 0.01
    """To be spent on it at a time."""


class Stopwatch:
    """Seconds per call of a task.

    Args:
        timing_s: Calls are repeated until one timing is so long: far above the clock's resolution, and above the cost
            of `synchronise`.
        synchronise: Waits for the device.
        now: Seconds, by a steady clock.
    """

    def __init__(
        self,
        *,
        timing_s: float,
        synchronise: Callable[[], None] = lambda: None,
        now: Callable[[], float] = perf_counter,
    ) -> None:
        self.now = now
        self._timing_s = timing_s
        self._synchronise = synchronise
        self._calls: dict[Task, int] = {}

    def time(self, task: Task) -> float:
        """One slot: the low quantile of its timings. Where others make it slow, few of them."""
        with task.setting():
            self._run(task, 1)
            calls = self._calls.get(task) or self._enough_calls(task)
            timings: list[float] = []
            begun = self.now()
            while self.now() - begun < task.slot_s * (1 if len(timings) >= TIMINGS else LONGEST_SLOT):
                timings.append(self._run(task, calls) / calls)
        return quantile(timings, LOW)

    def _enough_calls(self, task: Task) -> int:
        calls = 1
        while self._run(task, calls) < self._timing_s:
            calls *= 2
        self._calls[task] = calls
        return calls

    def _run(self, task: Task, calls: int) -> float:
        call = task.call
        self._synchronise()
        begun = self.now()
        for _ in range(calls):
            call()
        self._synchronise()
        return self.now() - begun


@dataclass
class Timings:
    """The slots of one task."""

    clean: list[float] = field(default_factory=list)
    disturbed: list[float] = field(default_factory=list)

    @property
    def slots(self) -> list[float]:
        """What counts: the undisturbed ones, where there are any."""
        return self.clean or self.disturbed

    @property
    def seconds(self) -> float:
        """Per call."""
        return quantile(self.slots, LOW)

    @property
    def spread(self) -> float:
        """Relative; how far a repetition may lie off: twice as far as the lowest or the middle slot does.

        Twice, because so about nine in ten points of a repeated calibration agree within both spreads.
        """
        slots = self.slots
        if len(slots) < ENOUGH_SLOTS:
            return max(UNKNOWN_SPREAD, (max(slots) - min(slots)) / self.seconds)
        off = max(self.seconds - min(slots), quantile(slots, 0.5) - self.seconds)
        return max(LEAST_SPREAD, 2 * off / self.seconds)


class Engine:
    """Times tasks in rounds, and never for longer than it may.

    Args:
        stopwatch: Times one slot.
        watch: Sees what others do.
        patience_s: What waiting for quiet, and measuring again what was disturbed, may cost in all.
        tell: Is called after every stretch.
    """

    def __init__(
        self,
        stopwatch: Stopwatch,
        watch: Watch,
        *,
        patience_s: float,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._stopwatch = stopwatch
        self._watch = watch
        self._patience_s = patience_s
        self._tell = tell
        self.timings: dict[Task, Timings] = defaultdict(Timings)
        """What there was no time for has no slots."""
        self.uses: list[Use] = []
        """What others used in each stretch, those that were repeated included."""

    def measure(self, tasks: Sequence[Task], *, ends_s: float, rounds: int = MAX_ROUNDS) -> int:
        """Time every task once per round, in their order.

        Args:
            tasks: Those that are to be compared are neighbours.
            ends_s: When to be done, by the stopwatch's clock.
            rounds: No more than these.

        Returns:
            How many whole rounds there was time for.
        """
        for number in range(rounds):
            position = 0
            while position < len(tasks):
                if self._stopwatch.now() > ends_s:
                    return number
                position += self._stretch(tasks[position:])
                self._tell()
        return rounds

    def _stretch(self, tasks: Sequence[Task]) -> int:
        """Time the next tasks until others could be watched for long enough; again, while that was disturbed."""
        taken, clean = self._watched(tasks, for_s=STRETCH_S)
        begun = self._stopwatch.now()
        for _ in range(RETRIES):
            left_s = self._patience_s - (self._stopwatch.now() - begun)
            if clean or left_s <= 0:
                break
            self._watch.wait_for_quiet(left_s)
            _, clean = self._watched(tasks[:taken], for_s=float("inf"))
        self._patience_s -= self._stopwatch.now() - begun
        return taken

    def _watched(self, tasks: Sequence[Task], *, for_s: float) -> tuple[int, bool]:
        before = self._watch.read()
        begun = self._stopwatch.now()
        slots: list[tuple[Task, float]] = []
        for task in tasks:
            slots.append((task, self._stopwatch.time(task)))
            if self._stopwatch.now() - begun > for_s:
                break
        use = self._watch.since(before)
        self.uses.append(use)
        for task, seconds in slots:
            timings = self.timings[task]
            (timings.disturbed if use.disturbing else timings.clean).append(seconds)
        return len(slots), not use.disturbing


def quantile(values: Sequence[float], share: float) -> float:
    """Interpolated between order statistics."""
    ordered = sorted(values)
    below, part = divmod(share * (len(ordered) - 1), 1)
    upper = ordered[min(int(below) + 1, len(ordered) - 1)]
    return ordered[int(below)] + part * (upper - ordered[int(below)])
