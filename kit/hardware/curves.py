"""What one call costs by a profile's curves: times between and beyond the sizes that were measured."""

from functools import cached_property
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from kit.hardware.profile import BOUND_BY_BYTES, Curve, Profile
from kit.results.record import OperatorFlops

NEAR = 1.0
"""Points count by their distance in logs of operations and bytes, as exp(-(distance / NEAR)^2 / 2)."""
RIDGE = 0.1
"""Pull of the slopes towards `SLOPE`, in points' weights: where few points are near, time goes as size does."""
SLOPE = {1: 0.8, 2: 0.5}
"""By how many sizes a class is known by: bytes alone, or operations and bytes."""
SAME_AS = {"other": "elementwise"}

Floats = NDArray[np.float64]


class Kernels:
    """A device's times per call, by a local linear fit of log time in the logs of operations and bytes.

    All points of a class, dtype and direction take part: two devices that were measured by one suite have the same
    points, so that what a shape has of its own cancels in the ratio of their times.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._fits: dict[tuple[str, str, bool], _Fit] = {}

    def seconds(self, row: OperatorFlops) -> float:
        """Per call, of calls like a record's row.

        Raises:
            KitError: The profile has no curve for them.
        """
        operator_class = SAME_AS.get(row.operator_class, row.operator_class)
        key = operator_class, row.dtype, row.backward
        fit = self._fits.get(key)
        if fit is None:
            curve = self.profile.curve(operator_class, row.dtype, backward=row.backward)
            fit = self._fits[key] = _Fit(curve)
        return fit.seconds(row.flops_per_call, row.bytes_per_call)


class _Fit:
    def __init__(self, curve: Curve) -> None:
        self._curve = curve

    @cached_property
    def _points(self) -> tuple[Floats, Floats]:
        sizes = np.array(
            [_logs(self._curve, point.flops_per_call, point.bytes_per_call) for point in self._curve.points]
        )
        return sizes, np.log([point.seconds for point in self._curve.points])

    def seconds(self, flops: float, size_bytes: float) -> float:
        """Below the smallest size as there; above the largest at its rate."""
        sizes, times = self._points
        wanted = np.array(_logs(self._curve, flops, size_bytes))
        inside = np.clip(wanted, sizes.min(0), sizes.max(0))
        away = sizes - inside
        weights = np.exp(-(away**2).sum(1) / (2 * NEAR**2))
        weights = weights / weights.max()
        terms = np.column_stack([np.ones(len(sizes)), away])
        pull = RIDGE * np.diag([0.0] + [1.0] * sizes.shape[1])
        slopes = np.array([0.0] + [SLOPE[sizes.shape[1]]] * sizes.shape[1])
        weighted = terms.T * weights
        fitted = np.linalg.solve(weighted @ terms + pull, weighted @ times + pull @ slopes)[0]
        return exp(float(fitted) + max(0.0, float((wanted - inside).max())))


def _logs(curve: Curve, flops: float, size_bytes: float) -> list[float]:
    by_bytes = curve.operator_class in BOUND_BY_BYTES or curve.operator_class == "norm"
    return [log(max(size_bytes, 1.0))] if by_bytes else [log(max(flops, 1.0)), log(max(size_bytes, 1.0))]
