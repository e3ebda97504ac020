"""One side of a comparison: what is known of a run, of an entry's runs or of a published result."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from kit.errors import KitError
from kit.hardware.roof import Roof
from kit.hardware.specs import DTYPES, GpuSpec
from kit.results.record import OperatorFlops


@dataclass(frozen=True)
class Goal:
    """What was raced. What a published table does not say is None."""

    dataset: str
    metric: str
    target: float
    track: str | None = None
    version: int | None = None
    fingerprint: str | None = None
    rehearsal: bool = False

    def __str__(self) -> str:
        text = f"{self.metric} of {self.target:.2%} on {self.dataset}"
        return text if self.track is None else f"{text} (track {self.track} version {self.version})"


@dataclass(frozen=True)
class Capability:
    """A kind of device, and what is known of its speed."""

    name: str
    spec: GpuSpec | None = None
    profile: Roof | None = None
    """Measured on the device."""
    assumed: str | None = None
    """What was not said of the device, and rests on a guess."""

    def is_as_fast_as(self, other: "Capability") -> bool:
        """Whether it is the same device, or one that differs in no rate: a V100 with more memory."""
        if self.name == other.name:
            return True
        if self.spec is None or other.spec is None:
            return False
        return _rates(self.spec) == _rates(other.spec)


@dataclass(frozen=True)
class Side:
    """Everything that a speed-up is split by. Raw values of each run; what is not known is None.

    A multiply-add is two operations, here as everywhere in the kit.
    """

    name: str
    goal: Goal
    times_s: tuple[float, ...]
    """To the target, one per run; infinite where a run missed it."""
    capability: Capability
    devices: int | None
    flops: tuple[float, ...] | None = None
    """Training operations to the target, one per run."""
    flops_method: Literal["counted", "estimated"] | None = None
    """In a replay, or as 3 x forward x images."""
    flops_log_error: float = 0.0
    """Standard error of the log of an estimate."""
    flops_unknown_because: str | None = None
    samples: float | None = None
    """Training images to the target, repetitions counted."""
    operators: tuple[OperatorFlops, ...] = ()
    """Of training, evaluations apart; of all runs together."""
    network: str | None = None
    """Equal where one network trains on images of one size: the same operations per sample."""
    recipe: str | None = None
    """Equal where one recipe with one declared length was run: what differs in samples to the target is chance."""
    clock: str = "kit"
    """Whose rules the time was taken by."""

    def __post_init__(self) -> None:
        if not self.times_s or not all(time > 0 for time in self.times_s):
            raise KitError(f"{self.name}: expected times to the target above 0 s, got {_listed(self.times_s)}")
        missed = sum(math.isinf(time) for time in self.times_s)
        if math.isinf(median(self.times_s)):
            raise KitError(
                f"{self.name}: {missed} of {len(self.times_s)} runs did not reach the target: "
                "there is no median time to it"
            )
        if self.devices is not None and self.devices < 1:
            raise KitError(f"{self.name}: expected at least one device, got {self.devices}")
        if self.samples is not None and not self.samples > 0:
            raise KitError(f"{self.name}: expected samples to the target above 0, got {self.samples:g}")
        if self.flops is not None:
            if len(self.flops) != len(self.times_s):
                raise KitError(f"{self.name}: expected operations of {len(self.times_s)} runs, got {len(self.flops)}")
            if not all(flops > 0 for flops in self.flops):
                raise KitError(f"{self.name}: expected training operations above 0, got {_listed(self.flops)}")

    @property
    def time_s(self) -> float:
        """Median time to the target."""
        return median(self.times_s)

    @property
    def train_flops(self) -> float | None:
        """Median training operations to the target."""
        return None if self.flops is None else median(self.flops)

    @property
    def seconds_per_flop(self) -> tuple[float, ...]:
        """Of each run that reached the target; empty where operations are unknown."""
        pairs = zip(self.times_s, self.flops or (), strict=False)
        return tuple(time / flops for time, flops in pairs if math.isfinite(time))


def require_same_goal(a: Side, b: Side) -> None:
    """Refuse what raced for different things.

    Raises:
        KitError: Another target, another version of a track, or other data.
    """
    for side, other in ((a, b), (b, a)):
        if side.goal.rehearsal and not other.goal.rehearsal:
            raise KitError(f"{side.name} is a rehearsal on other data: it cannot be compared with {other.name}")
    same = ("dataset", "metric", "target")
    if any(getattr(a.goal, name) != getattr(b.goal, name) for name in same) or _differ(a.goal.track, b.goal.track):
        raise KitError(f"a comparison needs one target: {a.name} raced {a.goal}, {b.name} {b.goal}")
    if _differ(a.goal.version, b.goal.version):
        raise KitError(
            f"a comparison needs one version of track {a.goal.track}: "
            f"{a.name} raced version {a.goal.version}, {b.name} version {b.goal.version}"
        )
    if _differ(a.goal.fingerprint, b.goal.fingerprint):
        raise KitError(
            f"a comparison needs one dataset: {a.name} and {b.name} trained on {a.goal.dataset} with fingerprints "
            f"{(a.goal.fingerprint or '')[:12]} and {(b.goal.fingerprint or '')[:12]}"
        )


def mix_flops(operators: Iterable[OperatorFlops]) -> float:
    """Operations of all calls."""
    return math.fsum(row.calls * row.flops_per_call for row in operators)


def same_mix(a: Sequence[OperatorFlops], b: Sequence[OperatorFlops]) -> bool:
    """Whether two lists hold the same calls in the same proportions."""
    calls_a, calls_b = _calls(a), _calls(b)
    if calls_a.keys() != calls_b.keys() or not calls_a:
        return False
    total_a, total_b = sum(calls_a.values()), sum(calls_b.values())
    return all(math.isclose(calls_a[row] / total_a, calls_b[row] / total_b, rel_tol=1e-9) for row in calls_a)


def mix_distance(a: Sequence[OperatorFlops], b: Sequence[OperatorFlops], roof: Roof) -> float:
    """How far two mixes are apart, 0 to 1: the share of a device's time that goes to other calls.

    Calls are alike within a factor of two in operations and bytes.
    """
    one, other = _time_shares(a, roof), _time_shares(b, roof)
    # Exactly rounded: the order of a set is another in each process.
    return math.fsum(abs(one.get(kind, 0) - other.get(kind, 0)) for kind in one.keys() | other.keys()) / 2


def _time_shares(operators: Sequence[OperatorFlops], roof: Roof) -> dict[tuple[object, ...], float]:
    seconds: dict[tuple[object, ...], float] = {}
    for row in operators:
        sizes = (math.frexp(row.flops_per_call)[1], math.frexp(row.bytes_per_call)[1])
        kind = (row.operator_class, row.dtype, row.phase, *sizes)
        seconds[kind] = seconds.get(kind, 0) + roof.seconds([row])
    total = math.fsum(seconds.values())
    return {kind: value / total for kind, value in seconds.items()}


def _calls(operators: Iterable[OperatorFlops]) -> dict[tuple[object, ...], int]:
    """Calls by everything else that matters to a roof."""
    calls: dict[tuple[object, ...], int] = {}
    for row in operators:
        key = tuple(value for name, value in row if name not in ("calls", "busy_s"))
        if row.calls:
            calls[key] = calls.get(key, 0) + row.calls
    return calls


def _rates(spec: GpuSpec) -> tuple[object, ...]:
    return spec.family, spec.form, spec.bandwidth_gb_s, *(spec.peak_tflops(dtype) for dtype in DTYPES)


def _differ(a: object, b: object) -> bool:
    return a is not None and b is not None and a != b


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values[:5]) or "none"
