"""Energy of a window by a counter.

A counter moves in steps (about 100 ms on data-centre GPUs), and both ends of the window fall between two of them. The
energy between the last step before `go` and the first after stop is known exactly; what of the two broken steps belongs
to the window is shared out between inside and outside by the power on either side, and by how steady it was there.
Where the GPU idles outside, this leaves nearly nothing to guess, however the power inside may vary.
"""

from dataclasses import dataclass
from math import hypot, inf, sqrt

import numpy as np

from kit.meters.readings import Measured, Ticks, Unusable, failure

MIN_STEPS = 3
"""Steps of the counter that a window must hold."""
STALL_STEPS = 3
"""A counter that does not move for so many of its steps stands still."""
EDGE_STEPS = 5
"""Steps beside an edge that tell the power there."""
STEADY = 0.05
"""Power is never taken to be steadier than this fraction of itself."""
SURPRISE = 3.0
"""Standard deviations from which on something is more than chance."""


@dataclass(frozen=True)
class _Power:
    """Power on one side of an edge."""

    watts: float
    variance: float
    """Of energy, per second: J^2/s, as of a random walk. Infinite where the power is not known."""


UNKNOWN = _Power(0.0, inf)


def by_counter(ticks: Ticks, stop_s: float) -> Measured:
    """Energy from 0 to `stop_s`.

    Raises:
        Unusable: The counter failed, stood still, ran backwards or moved too rarely.
    """
    if ticks.failed is not None and ticks.failed.at_s <= stop_s:
        raise failure(ticks.failed)
    inside = np.flatnonzero((ticks.at_s >= 0) & (ticks.at_s <= stop_s))
    limit_s = STALL_STEPS * ticks.period_s
    if not len(inside):
        raise Unusable(f"the energy counter moved 0 times in the window; {MIN_STEPS} are needed")
    first, last = int(inside[0]), int(inside[-1])
    before = first - 1 if first > 0 and ticks.at_s[first - 1] > -limit_s else None
    after = last + 1 if last + 1 < len(ticks.mj) and ticks.at_s[last + 1] < stop_s + limit_s else None
    _check_course(ticks, first if before is None else before, last if after is None else after, stop_s)
    if len(inside) < MIN_STEPS:
        raise Unusable(f"the energy counter moved {len(inside)} times in the window; {MIN_STEPS} are needed")
    head = _share(
        ticks,
        inside_s=float(ticks.at_s[first]),
        inside=_power(ticks, first, min(first + EDGE_STEPS, last)),
        inner=first,
        outside=UNKNOWN if before is None else _power(ticks, max(before - EDGE_STEPS, 0), before),
        outer=before,
    )
    tail = _share(
        ticks,
        inside_s=float(stop_s - ticks.at_s[last]),
        inside=_power(ticks, max(last - EDGE_STEPS, first), last),
        inner=last,
        outside=UNKNOWN if after is None else _power(ticks, after, min(after + EDGE_STEPS, len(ticks.mj) - 1)),
        outer=after,
    )
    middle_j = float(ticks.mj[last] - ticks.mj[first]) / 1000
    return Measured(head.joules + middle_j + tail.joules, hypot(head.error_j, tail.error_j))


def _check_course(ticks: Ticks, first: int, last: int, stop_s: float) -> None:
    """From step `first` to step `last` the counter must have gone on, and upwards."""
    if (np.diff(ticks.mj[first : last + 1]) < 0).any():
        raise Unusable("the energy counter ran backwards", "counter_backwards")
    limit_s = STALL_STEPS * ticks.period_s
    # Only what readings prove: that the meter itself was late is no fault of the counter.
    between_s = ticks.since_s[first + 1 : last + 1] - ticks.seen_s[first:last]
    still_s = max(
        float(between_s.max(initial=0.0)),
        float(ticks.since_s[first]),
        float(min(ticks.read_until_s, stop_s) - ticks.seen_s[last]),
    )
    if still_s > limit_s:
        raise Unusable(f"the energy counter stood still for {still_s:.2f} s", "counter_stalled")
    if ticks.at_s[first] > limit_s or stop_s - ticks.at_s[last] > limit_s:
        raise Unusable("the energy counter was not read at an edge of the window")


def _share(
    ticks: Ticks, *, inside_s: float, inside: _Power, inner: int, outside: _Power, outer: int | None
) -> Measured:
    """What the window has of the step between `inner`, its outermost inside, and `outer`, the next outside.

    Energy on both sides is taken for normal with the variances given, and their sum is known: the expected energy
    inside then takes its part of whatever the sum differs from the sum of both expectations.
    """
    expected_j, inside_j2 = inside.watts * inside_s, inside.variance * inside_s
    if outer is None or outside.variance == inf:
        return Measured(expected_j, sqrt(inside_j2))
    outside_s = abs(float(ticks.at_s[outer] - ticks.at_s[inner])) - inside_s
    step_j = abs(float(ticks.mj[outer] - ticks.mj[inner])) / 1000
    outside_j2 = outside.variance * outside_s
    both_j2 = inside_j2 + outside_j2
    part = inside_j2 / both_j2 if both_j2 > 0 else 0.0
    surprise_j = step_j - expected_j - outside.watts * outside_s
    joules = min(max(expected_j + part * surprise_j, 0.0), step_j)
    # A step that fits the power of neither side leaves open when power changed in it, or what of it the counter saw.
    unexplained_j = max(0.0, abs(surprise_j) - SURPRISE * sqrt(both_j2))
    timing_j = float(ticks.slack_s[outer]) * outside.watts
    return Measured(joules, min(hypot(sqrt(part * outside_j2), unexplained_j, timing_j), step_j))


def _power(ticks: Ticks, first: int, last: int) -> _Power:
    """Power between two steps."""
    at_s, mj = ticks.at_s[first : last + 1], ticks.mj[first : last + 1]
    if len(mj) < 2 or (np.diff(mj) < 0).any():
        return UNKNOWN
    watts = np.diff(mj) / 1000 / np.diff(at_s)
    mean = float(mj[-1] - mj[0]) / 1000 / float(at_s[-1] - at_s[0])
    return _Power(mean, float(np.var(watts) + (STEADY * mean) ** 2) * ticks.period_s)
