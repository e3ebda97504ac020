"""What a training would take on another device, from calibrations of both: reference times of tier `predicted`.

The ratio of times between two devices is got in three steps, all in logs:

1. Curves: the ratio of what the two devices' curves say for the workload's operators, call by call.
2. Correction: reference workloads were timed on both devices, and step 1 can be tried on them. Its errors come from
   curves of single classes that are off, so they are shared by workloads that spend their time in the same classes: a
   Gaussian process over shares of time carries them over.
3. Interval: each reference workload is predicted from the others. The errors of those that spend their time as the
   run does say how far its prediction may be off; the table of these errors is part of the result.

Where reference workloads are predicted badly, nothing is predicted.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, floor, hypot, log, log10, sqrt
from statistics import median

import numpy as np

from kit.errors import KitError
from kit.hardware.curves import Kernels
from kit.hardware.profile import Profile, WorkloadTime
from kit.results.record import OperatorFlops
from kit.track import Model

MAX_MEDIAN_ERROR = 0.15
MAX_P90_ERROR = 0.40
"""Of the reference workloads, each predicted from the others: above these a pair of devices is refused."""
SD_ALL, SD_CLASS, SD_SIZE = 0.05, 0.05, 0.05
"""Standard deviations, in logs, of what curves are off by: all alike, one class in one direction, such a class in one
dtype at one order of magnitude of its calls' time."""
SD_REST = 0.05
"""And of what they cannot explain. Only the proportions matter: the interval comes from the errors that there are.
Equal ones predicted reference workloads from each other best (30 pairs of settings of one processor)."""
UNLIKE = 0.1
"""Weight of the errors of all reference workloads alike, beside one that spends all its time as the run does (1)."""
STANDARD_ERRORS = 1.8
"""Half of a 95 % interval. The study's intervals held 93 % and 94 % of its truths in its two quiet runs."""
MIN_REFERENCES = 5

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


def predict(
    operators: Sequence[OperatorFlops],
    a: Profile,
    b: Profile,
    operators_b: Sequence[OperatorFlops] | None = None,
) -> Prediction:
    """Predict what a workload that ran on device `a` takes on device `b`.

    Args:
        operators: Of the workload, as counted on `a`.
        a: Profile of the device that it ran on.
        b: Profile of the other device.
        operators_b: Its operators on `b` where they are others: in another dtype, say, or with another library.

    Raises:
        KitError: A profile has no curve for an operator, or the two have too few reference workloads in common.
    """
    kernels = Kernels(a), Kernels(b)
    references = list(_references(a, b, main_dtype(operators), main_dtype(operators_b or operators)))
    if len(references) < MIN_REFERENCES:
        raise KitError(
            f"profiles {a.id} and {b.id} have {len(references)} reference workloads in common in "
            f"{main_dtype(operators)}, {MIN_REFERENCES} are needed: calibrate both with one version of the kit"
        )
    cases = [_case(on_a.operators, on_b.operators, kernels) for on_a, on_b in references]
    true = [log(on_b.step_s / on_a.step_s) for on_a, on_b in references]
    errors = [measured - case.log_ratio for measured, case in zip(true, cases, strict=True)]
    left_out = [
        _log_ratio(case, cases[:index] + cases[index + 1 :], errors[:index] + errors[index + 1 :])
        for index, case in enumerate(cases)
    ]
    checks = tuple(
        Check(workload=on_a.name, ratio=exp(measured), predicted=exp(predicted))
        for (on_a, _), measured, predicted in zip(references, true, left_out, strict=True)
    )
    case = _case(operators, operators_b or operators, kernels)
    off = _error_like(case, cases, [one - other for one, other in zip(true, left_out, strict=True)])
    # A spread is twice what the slots of one time are off by.
    repeat = hypot(*(median(workload.spread for workload in profile.workloads) / 2 for profile in (a, b)))
    log_ratio, half_width = _log_ratio(case, cases, errors), hypot(STANDARD_ERRORS * off, repeat)
    relative = sorted(check.error for check in checks)
    return Prediction(
        ratio=exp(log_ratio),
        low=exp(log_ratio - half_width),
        high=exp(log_ratio + half_width),
        checks=checks,
        median_error=float(np.quantile(relative, 0.5)),
        p90_error=float(np.quantile(relative, 0.9)),
    )


def main_dtype(operators: Sequence[OperatorFlops]) -> str:
    """The dtype of most of the operations; float32 where there are none."""
    flops: defaultdict[str, float] = defaultdict(float)
    for row in operators:
        flops[row.dtype] += row.calls * row.flops_per_call
    return max(flops, key=lambda dtype: flops[dtype], default="float32")


@dataclass(frozen=True)
class _Case:
    """A workload on both devices: step 1, and what its error is shared with."""

    log_ratio: float
    shares: Shares


def _references(a: Profile, b: Profile, dtype_a: str, dtype_b: str) -> Iterator[tuple[WorkloadTime, WorkloadTime]]:
    """The eager reference workloads of both devices, each in the dtype that the workload has there."""
    on_b = {workload.name: workload for workload in b.workloads if workload.dtype == dtype_b and not workload.compiled}
    for workload in a.workloads:
        if workload.dtype == dtype_a and not workload.compiled and workload.name in on_b:
            yield workload, on_b[workload.name]


def _case(
    operators_a: Sequence[OperatorFlops],
    operators_b: Sequence[OperatorFlops],
    kernels: tuple[Kernels, Kernels],
) -> _Case:
    on_a, on_b = _seconds(operators_a, kernels[0]), _seconds(operators_b, kernels[1])
    total_a, total_b = sum(on_a.values()), sum(on_b.values())
    shares: defaultdict[tuple[object, ...], float] = defaultdict(float)
    for seconds, total in ((on_a, total_a), (on_b, total_b)):
        for key, value in seconds.items():
            shares[key] += value / total / 2
    return _Case(log(total_b / total_a), shares)


def _seconds(operators: Sequence[OperatorFlops], kernels: Kernels) -> dict[tuple[object, ...], float]:
    """By class, dtype, direction and order of magnitude of a call."""
    seconds: defaultdict[tuple[object, ...], float] = defaultdict(float)
    for row in operators:
        call_s = kernels.seconds(row)
        seconds[row.operator_class, row.backward, row.dtype, floor(log10(call_s))] += row.calls * call_s
    return seconds


def _by_class(seconds: Shares) -> dict[object, float]:
    found: defaultdict[object, float] = defaultdict(float)
    for (operator_class, backward, *_), value in seconds.items():
        found[operator_class, backward] += value
    return found


def _log_ratio(case: _Case, cases: Sequence[_Case], errors: Sequence[float]) -> float:
    """Step 1 corrected by the errors of other cases: the mean of a Gaussian process."""
    between = np.array([[_covariance(one.shares, other.shares) for other in cases] for one in cases])
    to_case = np.array([_covariance(case.shares, other.shares) for other in cases])
    weights = np.linalg.solve(between + SD_REST**2 * np.eye(len(cases)), to_case)
    return case.log_ratio + float(weights @ np.array(errors))


def _error_like(case: _Case, cases: Sequence[_Case], errors: Sequence[float]) -> float:
    """Root mean square of errors in logs, by how much of their time the cases spend in the same classes, squared."""
    weights = np.array([_in_common(case.shares, other.shares) ** 2 for other in cases])
    squares = np.square(errors)
    return sqrt(float(weights @ squares + UNLIKE * squares.mean()) / (float(weights.sum()) + UNLIKE))


def _in_common(one: Shares, other: Shares) -> float:
    """0 to 1."""
    one_class, other_class = _by_class(one), _by_class(other)
    return sum(min(share, other_class[key]) for key, share in one_class.items() if key in other_class)


def _covariance(one: Shares, other: Shares) -> float:
    sizes = sum(share * other[key] for key, share in one.items() if key in other)
    one_class, other_class = _by_class(one), _by_class(other)
    classes = sum(share * other_class[key] for key, share in one_class.items() if key in other_class)
    return SD_ALL**2 + SD_CLASS**2 * classes + SD_SIZE**2 * sizes
