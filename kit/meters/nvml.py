"""One GPU as NVML shows it: thin and typed; whatever NVML refuses is refused with its reason."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pynvml

PowerScope = Literal["gpu", "module"]
SCOPES: tuple[tuple[PowerScope, int], ...] = (("gpu", 0), ("module", 1))
"""NVML's numbers of power scopes. Grace Hopper has instant power of the module alone, which is GPU and CPU."""

REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this GPU or its driver does not support it",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to read it",
    pynvml.NVML_ERROR_NOT_FOUND: "there is no such GPU",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the driver is not loaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "there is no NVIDIA driver",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "the driver is too old to know it",
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU is lost: it fell off the bus or is not accessible",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU needs a reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver and library are of different versions; restart the machine",
    pynvml.NVML_ERROR_TIMEOUT: "the driver did not answer",
}


class Unavailable(Exception):  # noqa: N818 - often an answer, not an error
    """NVML does not give something; the message says why.

    Args:
        reason: In a few words.
        lost: Whether the whole device is gone.
    """

    def __init__(self, reason: str, *, lost: bool = False) -> None:
        super().__init__(reason)
        self.lost = lost


def _asked(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        reason = REASONS.get(error.value, str(error))
        raise Unavailable(f"NVML: {reason}", lost=error.value == pynvml.NVML_ERROR_GPU_IS_LOST) from error


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds a context on the GPU."""

    pid: int
    used_bytes: int | None
    """None where NVML does not say."""
    computes: bool
    """Or draws only."""


class Gpu:
    """The GPU of a UUID, open until `close`.

    Raises:
        Unavailable: NVML cannot be used, or has no such device.
    """

    def __init__(self, uuid: str) -> None:
        _asked(pynvml.nvmlInit)
        try:
            self._handle = _asked(pynvml.nvmlDeviceGetHandleByUUID, uuid)
            self._whole = self._refusal(uuid)
            self._power, self.power_scope = self._instant_power()
            self._temperature = _first_that_works(
                lambda: pynvml.nvmlDeviceGetTemperatureV(self._handle, pynvml.NVML_TEMPERATURE_GPU),
                lambda: pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU),
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give NVML back. Safe also when the device is lost."""
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()

    # ---- energy and power

    def counter_mj(self) -> int:
        """The total-energy counter, in millijoules since the driver was loaded.

        Raises:
            Unavailable: There is none, or it is not this run's alone.
        """
        if self._whole is not None:
            raise Unavailable(self._whole)
        return int(_asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle))

    def power_mw(self) -> int:
        """Instant power in milliwatts: never the mean over the last second, in which a short run is lost.

        Raises:
            Unavailable: The GPU or its driver has none, or it is not this run's alone.
        """
        if self._whole is not None:
            raise Unavailable(self._whole)
        return int(_asked(self._power))

    def _refusal(self, uuid: str) -> str | None:
        """Why this device's energy cannot be had at all."""
        if uuid.startswith("MIG-"):
            return "MIG: power is measured for the whole GPU, not for an instance"
        try:
            if _asked(pynvml.nvmlDeviceGetMigMode, self._handle)[0]:
                return "MIG is on: power is measured for the whole GPU, not for an instance"
        except Unavailable:
            pass  # before Ampere there is no MIG
        if self._architecture() < pynvml.NVML_DEVICE_ARCH_VOLTA:
            return "GPUs before Volta have no energy counter"
        try:
            mode = _asked(pynvml.nvmlDeviceGetVirtualizationMode, self._handle)
        except Unavailable:
            return None
        if mode == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU:
            return "a virtual GPU: power is measured for the whole GPU, which the host may share out"
        return None

    def _architecture(self) -> int:
        try:
            return int(_asked(pynvml.nvmlDeviceGetArchitecture, self._handle))
        except Unavailable:
            return int(pynvml.NVML_DEVICE_ARCH_UNKNOWN)

    def _instant_power(self) -> tuple[Callable[[], int], PowerScope | None]:
        for name, scope in SCOPES:
            read = self._power_field(scope)
            try:
                read()
            except pynvml.NVMLError:
                continue
            return read, name
        # From Ampere on this call gives a mean over one second; before, what the field would give.
        if self._architecture() < pynvml.NVML_DEVICE_ARCH_AMPERE:
            return lambda: pynvml.nvmlDeviceGetPowerUsage(self._handle), "gpu"
        return self._power_field(0), None

    def _power_field(self, scope: int) -> Callable[[], int]:
        def read() -> int:
            fields = [(pynvml.NVML_FI_DEV_POWER_INSTANT, scope)]
            (field,) = pynvml.nvmlDeviceGetFieldValues(self._handle, fields)
            if field.nvmlReturn != pynvml.NVML_SUCCESS:
                raise pynvml.NVMLError(field.nvmlReturn)
            return int(field.value.uiVal)

        return read

    # ---- state

    def clocks_mhz(self) -> tuple[int | None, int | None]:
        """Clocks of the multiprocessors and of the memory."""
        kinds = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
        sm, memory = (_number(pynvml.nvmlDeviceGetClockInfo, self._handle, kind) for kind in kinds)
        return sm, memory

    def temperature_c(self) -> int | None:
        """Of the chip."""
        return _number(self._temperature)

    def throttled_ns(self) -> tuple[int | None, int | None]:
        """Time in which clocks were held down for power and for heat, in nanoseconds since some start."""
        policies = pynvml.NVML_PERF_POLICY_POWER, pynvml.NVML_PERF_POLICY_THERMAL
        power, heat = (_number(self._throttled_ns, policy) for policy in policies)
        return power, heat

    def _throttled_ns(self, policy: int) -> int:
        return int(pynvml.nvmlDeviceGetViolationStatus(self._handle, policy).violationTime)

    def processes(self) -> Sequence[GpuProcess]:
        """Whoever holds a context on the GPU; in a container NVML may list nobody, or ids of the host.

        Raises:
            Unavailable: NVML does not say.
        """
        found: dict[int, GpuProcess] = {}
        lists = (
            (pynvml.nvmlDeviceGetGraphicsRunningProcesses, False),
            (pynvml.nvmlDeviceGetComputeRunningProcesses, True),
        )
        for function, computes in lists:
            for process in _asked(function, self._handle):
                found[process.pid] = GpuProcess(process.pid, process.usedGpuMemory, computes)
        return list(found.values())


def _first_that_works(*reads: Callable[[], Any]) -> Callable[[], Any]:
    for read in reads:
        with suppress(pynvml.NVMLError):
            read()
            return read
    return reads[0]


def _number(read: Callable[..., Any], *arguments: Any) -> int | None:
    """What is worth a column, and nothing when it cannot be read."""
    try:
        return int(read(*arguments))
    except pynvml.NVMLError:
        return None
