"""What a device can attain at best on a mix of operators."""

import math
from collections.abc import Iterable
from typing import Literal, Protocol

from kit.errors import KitError
from kit.hardware.curves import Kernels
from kit.hardware.profile import Profile
from kit.hardware.specs import GpuSpec
from kit.results.record import OperatorFlops

GENERAL_DTYPES = ("float32", "bfloat16", "float16")
"""Where the precision that is asked for is not known of a device, the first of these that is."""


class Roof(Protocol):
    """A device's attainable speed. Ratios are taken only between roofs that were got in the same way."""

    @property
    def name(self) -> str:
        """The device's."""

    @property
    def method(self) -> Literal["measured", "spec"]:
        """How it was got: from curves that were measured on the device, or from its data sheet."""

    @property
    def log_error(self) -> float:
        """Standard error of the log of a ratio of this roof to another's on the same operators."""

    def seconds(self, operators: Iterable[OperatorFlops]) -> float:
        """Time that one such device needs at least for these calls."""


class SpecRoof:
    """The roofline of a data sheet: every call takes its operations at peak or its bytes at full bandwidth."""

    method: Literal["spec"] = "spec"
    log_error = 0.38
    """Shares of time by class, scaled by spec ratios, err by 88 % at the 90th percentile over 7 NVIDIA GPUs."""

    def __init__(self, spec: GpuSpec) -> None:
        self._spec = spec

    @property
    def name(self) -> str:
        """The device's."""
        return self._spec.name

    def seconds(self, operators: Iterable[OperatorFlops]) -> float:
        """The sum over all calls. A dtype that the sheet lacks runs at the rate of float32."""
        bandwidth = self._spec.bandwidth_gb_s * 1e9
        return math.fsum(
            row.calls * max(row.flops_per_call / self._peak(row.dtype), row.bytes_per_call / bandwidth)
            for row in operators
        )

    def _peak(self, dtype: str) -> float:
        """Operations per second."""
        for candidate in (dtype, *GENERAL_DTYPES):
            peak_tflops = self._spec.peak_tflops(candidate)
            if peak_tflops is not None:
                return peak_tflops * 1e12
        raise KitError(f"{self.name} has no rate in the table of specs, in {dtype} or any other dtype")


class ProfileRoof:
    """A device's measured curves: every call takes what such a call took by itself."""

    method: Literal["measured"] = "measured"
    log_error = 0.2
    """Root mean square of sums over curves in the study of the normalization (docs/normalization.md): 0.18."""

    def __init__(self, profile: Profile) -> None:
        self._kernels = Kernels(profile)

    @property
    def profile(self) -> Profile:
        """What it rests on."""
        return self._kernels.profile

    @property
    def name(self) -> str:
        """The device's."""
        return self.profile.device.name

    def seconds(self, operators: Iterable[OperatorFlops]) -> float:
        """The sum over all calls.

        Raises:
            KitError: There is no curve for one of them.
        """
        return math.fsum(row.calls * self._kernels.seconds(row) for row in operators)


def nominal_dtype(spec: GpuSpec) -> str:
    """The precision that a device is taken to work in where nothing is said: TPUs multiply in bfloat16."""
    if spec.vendor == "Google":
        return "bfloat16"
    return next((dtype for dtype in GENERAL_DTYPES if spec.peak_tflops(dtype) is not None), GENERAL_DTYPES[0])
