"""What a training would take on another device, from calibrations of both: reference times of tier `predicted`.

The ratio of times between two devices is got in three steps, all in logs:

1. Curves: each operator class's share of the time on the first device (as measured where the count says, else by its
   curves) times the ratio of the two devices' curves for those calls.
2. Correction: reference workloads were timed on both devices, and step 1 can be tried on them. Its errors come from
   curves of single classes that are off, so they are shared by workloads that spend their time in the same classes: a
   Gaussian process over shares of time carries them over.
3. Interval: each reference workload is predicted from the others. The largest error, in units of what the process
   expected, widens its interval for the run; the table of these errors is part of the result.

Where reference workloads are predicted badly, nothing is predicted.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, log, sqrt
from statistics import median

import numpy as np

from kit.errors import KitError
from kit.hardware.curves import Kernels
from kit.hardware.profile import Profile, WorkloadTime, workload_label
from kit.results.record import OperatorFlops
from kit.track import Model

MAX_MEDIAN_ERROR = 0.15
MAX_P90_ERROR = 0.40
"""Of the reference workloads, each predicted from the others: above these a pair of devices is refused."""
SD_ALL, SD_CLASS, SD_SIZE = 0.05, 0.2, 0.1
"""Standard deviations, in logs, of what curves are off by: all alike, one class in one direction and dtype, one class at
one order of magnitude of its calls' time."""
SD_REST = 0.05
"""And of what they cannot explain."""

Shares = Mapping[tuple[object, ...], float]
"""Of a workload's time, by what its error is shared with."""


class Check(Model):
    """A reference workload, predicted from the others."""

    workload: str
    ratio: float
    """Its time on the second device per time on the first, as measured."""
    predicted: float

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.predicted / self.ratio - 1)


class Prediction(Model):
    """Time on the second device per time on the first."""

    ratio: float
    low: float
    high: float
    """95 %."""
    checks: tuple[Check, ...]
    median_error: float
    p90_error: float

    @property
    def refused_because(self) -> str | None:
        """Why it must not be used, or None."""
        if self.median_error > MAX_MEDIAN_ERROR or self.p90_error > MAX_P90_ERROR:
            return (
                f"the reference workloads are predicted with errors of {self.median_error:.0%} (median) and "
                f"{self.p90_error:.0%} (90th percentile), at most {MAX_MEDIAN_ERROR:.0%} and {MAX_P90_ERROR:.0%} "
                "allowed; re-run on the reference device instead"
            )
        return None
