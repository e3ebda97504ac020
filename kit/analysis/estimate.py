"""Logs of ratios with their intervals, and the interval of a median."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from statistics import NormalDist, median

CONFIDENCE = 0.95
QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
"""Half an interval's width in standard errors."""


@dataclass(frozen=True)
class Estimate:
    """The log of a positive number, and how far its interval reaches down and up.

    Independent errors add in quadrature on each side, so that a difference of two medians has the interval that their
    own intervals imply (Zou and Donner, Statistics in Medicine 27, 2008).
    """

    log: float
    down: float = 0.0
    up: float = 0.0
    complete: bool = True
    """False where an error is not known, as the spread of something that was measured once."""

    @property
    def exact(self) -> bool:
        """Whether it is known without error."""
        return self.complete and self.down == self.up == 0

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper log; None where no error is known, or there is none."""
        if self.down == self.up == 0:
            return None
        return self.log - self.down, self.log + self.up

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.log + other.log,
            math.hypot(self.down, other.down),
            math.hypot(self.up, other.up),
            self.complete and other.complete,
        )

    def __neg__(self) -> "Estimate":
        return Estimate(-self.log, self.up, self.down, self.complete)

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self + -other


EXACTLY_ONE = Estimate(0.0)


def known_within(log: float, standard_error: float) -> Estimate:
    """A log with a normal error; an error of 0 is one that is not known."""
    return Estimate(log, QUANTILE * standard_error, QUANTILE * standard_error, complete=standard_error > 0)


def log_median(values: Sequence[float]) -> Estimate:
    """The log of the median of positive values with its order-statistic interval; infinite values are allowed.

    One value has no known spread. Below six the whole range is taken, which covers the median with less than 95 %
    (see `coverage`).
    """
    middle = math.log(median(values))
    if len(values) == 1:
        return Estimate(middle, complete=False)
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    low, high = ordered[rank - 1], ordered[-rank]
    return Estimate(middle, middle - math.log(low), math.log(high) - middle if math.isfinite(high) else math.inf)


def coverage(count: int) -> float:
    """How often the interval of `log_median` holds the true median."""
    return _interval(count)[1]


def interval_rank(count: int) -> int:
    """The largest k such that the k-th value from below and from above enclose the median with the confidence."""
    return _interval(count)[0]


@cache
def _interval(count: int) -> tuple[int, float]:
    """The rank and the coverage; from counts of coins, so that it is exact."""
    all_ways = 2**count
    rank, ways, below = 1, 1, 1  # below: how many ways `count` coins have to show at most rank - 1 heads
    at_most = int((1 - Fraction(str(CONFIDENCE))) / 2 * all_ways)
    while 2 * rank < count:
        ways = ways * (count - rank + 1) // rank
        if below + ways > at_most:
            break
        below += ways
        rank += 1
    return rank, 1 - 2 * below / all_ways
