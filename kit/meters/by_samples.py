"""Energy of a window by readings of instant power.

A reading is itself a mean over a part of the sensor's period: a quarter of it on A100 and H100, all of it on other
cards (Yang et al., SC'24). So readings count from the time on when they cannot hold power from before `go` any more,
are taken for the middle of what they stand for, and the two ends are filled up with the mean beside them.
"""

from math import hypot, sqrt

import numpy as np

from kit.meters.readings import Floats, Measured, Samples, Unusable, failure

MIN_UPDATES = 3
"""Updates of the sensor that a window must hold."""
SEEN = 0.25
"""Of its period, what the sensor averages over, where it does not see all."""
FILL = 3
"""Periods of the sensor whose mean fills up an end."""
MAX_GAP_S = 1.0
"""Sampling may pause for so long, on a machine that is busy."""


def by_samples(samples: Samples, stop_s: float) -> Measured:
    """Energy from 0 to `stop_s`.

    Raises:
        Unusable: The sensor failed, or the window is too short for it.
    """
    if samples.failed is not None and samples.failed.at_s <= stop_s:
        raise failure(samples.failed)
    period_s = samples.period_s
    inside = (samples.at_s >= 2 * period_s) & (samples.at_s <= stop_s)
    seen_s, watts = samples.at_s[inside], samples.watts[inside]
    updates = _updates(seen_s, watts, period_s)
    if len(updates) < MIN_UPDATES:
        raise Unusable(f"the window holds {len(updates)} updates of instant power; {MIN_UPDATES} are needed")
    gap_s = max(float(np.diff(seen_s).max()), float(seen_s[0]) - 2 * period_s, stop_s - float(seen_s[-1]))
    if gap_s > MAX_GAP_S:
        raise Unusable(f"instant power was not read for {gap_s:.2f} s of the run")
    at_s = seen_s - (1 + SEEN) / 2 * period_s
    head_s, tail_s = float(at_s[0]), stop_s - float(at_s[-1])
    first_w = float(watts[at_s <= at_s[0] + FILL * period_s].mean())
    last_w = float(watts[at_s >= at_s[-1] - FILL * period_s].mean())
    middle_j = float((np.diff(at_s) * (watts[1:] + watts[:-1])).sum()) / 2
    sampling_j = _scatter(updates) * sqrt(stop_s * period_s)
    ends_j = hypot(head_s, tail_s) * float(watts.std())
    return Measured(head_s * first_w + middle_j + tail_s * last_w, hypot(sampling_j, ends_j))


def _updates(at_s: Floats, watts: Floats, period_s: float) -> Floats:
    """One reading per period of the sensor."""
    if not len(at_s):
        return watts
    grid_s = np.arange(at_s[0], at_s[-1] + period_s / 2, period_s)
    return watts[np.minimum(np.searchsorted(at_s, grid_s), len(at_s) - 1)]


def _scatter(updates: Floats) -> float:
    """Standard deviation of one update, by successive differences: what is slower than the sensor is no error."""
    return sqrt(float((np.diff(updates) ** 2).mean()) / 2)
