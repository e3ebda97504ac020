"""What meters hand over: recorded numbers, with time in seconds after `go`."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from kit.results.record import EnergyFlag

Floats = NDArray[np.float64]

SENSOR_PERIOD_S = 0.1
"""Where none can be seen, because power never changed; no sensor of NVIDIA's is known to be slower."""
MIN_CHANGES = 5


@dataclass(frozen=True)
class Failure:
    """When and why something could not be read any more."""

    at_s: float
    reason: str
    lost: bool


@dataclass(frozen=True)
class Ticks:
    """The steps of a counter."""

    since_s: Floats
    """The last reading that did not show the step had begun."""
    seen_s: Floats
    """The first that did had ended."""
    mj: NDArray[np.int64]
    """On the counter after the step."""
    read_until_s: float
    """The last reading of all had begun."""
    failed: Failure | None = None

    @cached_property
    def period_s(self) -> float:
        """Between two steps, as observed; 0 where there were not two."""
        return float(np.median(np.diff(self.seen_s))) if len(self.seen_s) > 1 else 0.0

    @cached_property
    def at_s(self) -> Floats:
        """When the steps happened: in the middle of when they can have. Late readings show the latest step only."""
        return (np.maximum(self.since_s, self.seen_s - self.period_s) + self.seen_s) / 2

    @property
    def slack_s(self) -> Floats:
        """Standard deviation of that."""
        return (self.seen_s - np.maximum(self.since_s, self.seen_s - self.period_s)) / sqrt(12)


@dataclass(frozen=True)
class Samples:
    """Readings of instant power."""

    at_s: Floats
    watts: Floats
    failed: Failure | None = None

    @cached_property
    def period_s(self) -> float:
        """Of the sensor's updates: the shortest time between two changes, but for a few."""
        changed_s = self.at_s[1:][np.diff(self.watts) != 0]
        gaps_s = np.diff(changed_s)
        if len(gaps_s) < MIN_CHANGES:
            return SENSOR_PERIOD_S
        return min(float(np.quantile(gaps_s, 0.1)), SENSOR_PERIOD_S)


@dataclass(frozen=True)
class Measured:
    """Energy of a window by one method."""

    joules: float
    error_j: float
    """One standard deviation of what sampling and edges leave open, the sensor's gain aside."""


class Unusable(Exception):  # noqa: N818 - an answer, not an error
    """A method cannot say the energy; the message says why."""

    def __init__(self, reason: str, flag: EnergyFlag | None = None) -> None:
        super().__init__(reason)
        self.flag = flag


def failure(failed: Failure) -> Unusable:
    """That something could not be read to the end of the window."""
    when = f", {failed.at_s:.2f} s after go" if failed.at_s > 0 else ""
    return Unusable(f"{failed.reason}{when}", "device_lost" if failed.lost else None)
