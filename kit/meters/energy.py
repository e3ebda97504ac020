"""The energy of a window, from recorded numbers alone, and what speaks against it.

No GPU has confirmed this code yet; it is tested against scripted devices of known energy.
"""

from collections.abc import Callable
from math import hypot, pi

import numpy as np

from kit.meters.by_counter import SURPRISE, by_counter
from kit.meters.by_samples import SEEN, by_samples
from kit.meters.readings import Floats, Measured, Samples, Ticks, Unusable
from kit.results.record import Energy

SENSOR_GAIN = 0.05
"""Error of the power sensor itself, as a fraction: a few percent per card (Yang et al., SC'24)."""
DISAGREEMENT = 0.03
"""Between counter and sensor."""
HARMONICS = 4
MIN_UPDATES = 5
LOCKED = 0.5
"""Mean resultant length from which on the sensor's updates fall on the same moments of steps."""
ATTENUATION = 0.1
"""What a sensor's averaging must leave of a harmonic to matter."""
BLOCK = 100
"""Updates that are judged together: over more, the length of a step is not known well enough."""


def absent(reason: str) -> Energy:
    """No energy, and why: never zero."""
    return Energy(device_j=None, method=None, update_period_s=None, uncertainty_j=None, unavailable_because=reason)


def measure(ticks: Ticks, samples: Samples, stop_s: float) -> Energy:
    """The energy from 0 to `stop_s`: by the counter, or by the sensor where the counter failed."""
    counted, no_counter = _try(lambda: by_counter(ticks, stop_s))
    sampled, no_samples = _try(lambda: by_samples(samples, stop_s))
    flags = [reason.flag for reason in (no_counter, no_samples) if reason is not None and reason.flag is not None]
    best = counted or sampled
    if counted is not None and sampled is not None and not _agree(counted, sampled):
        flags.append("inconsistent")
    notes = {
        "sampled_j": None if sampled is None else sampled.joules,
        "sampled_unavailable_because": None if no_samples is None else str(no_samples),
        "flags": tuple(dict.fromkeys(flags)),
    }
    if best is None:
        return absent(str(no_counter)).model_copy(update=notes)
    return Energy(
        device_j=best.joules,
        method="nvml_total_energy" if counted is not None else "nvml_instant_power",
        update_period_s=ticks.period_s if counted is not None else samples.period_s,
        uncertainty_j=hypot(best.error_j, SENSOR_GAIN * best.joules),
        unavailable_because=None,
        counter_unavailable_because=None if no_counter is None else str(no_counter),
    ).model_copy(update=notes)


def _try(method: Callable[[], Measured]) -> tuple[Measured | None, Unusable | None]:
    try:
        return method(), None
    except Unusable as reason:
        return None, reason


def _agree(counted: Measured, sampled: Measured) -> bool:
    chance_j = SURPRISE * hypot(counted.error_j, sampled.error_j)
    return abs(counted.joules - sampled.joules) <= max(DISAGREEMENT * counted.joules, chance_j)


def mean_power_w(ticks: Ticks, samples: Samples, start_s: float, stop_s: float) -> float | None:
    """Mean power of a stretch outside the window, by the counter's steps in it or else by readings."""
    inside = np.flatnonzero((ticks.at_s >= start_s) & (ticks.at_s <= stop_s))
    if len(inside) > 1 and (np.diff(ticks.mj[inside]) >= 0).all():
        first, last = inside[0], inside[-1]
        return float(ticks.mj[last] - ticks.mj[first]) / 1000 / float(ticks.at_s[last] - ticks.at_s[first])
    watts = samples.watts[(samples.at_s >= start_s) & (samples.at_s <= stop_s)]
    return float(watts.mean()) if len(watts) else None


def aliased(updates_s: Floats, step_s: float) -> bool:
    """Whether a sensor that updates at these times looks at the same moments of every training step.

    It then takes them for the whole step, and the error does not shrink with time. The phases of its updates within a
    step are judged by their mean resultant length, for the step and its first harmonics, as far as the sensor's own
    averaging leaves anything of them.
    """
    if len(updates_s) < MIN_UPDATES or step_s <= 0:
        return False
    seen_s = SEEN * float(np.median(np.diff(updates_s)))
    blocks = np.array_split(updates_s, max(1, round(len(updates_s) / BLOCK)))
    for harmonic in range(1, HARMONICS + 1):
        lengths = [abs(np.exp(2j * pi * harmonic * block / step_s).mean()) for block in blocks]
        left = abs(np.sinc(harmonic * seen_s / step_s))
        if left > ATTENUATION and np.median(lengths) > LOCKED:
            return True
    return False
