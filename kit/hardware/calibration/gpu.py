"""What NVML tells of the GPU that is measured. No GPU has confirmed this yet."""

from collections.abc import Callable
from typing import Any

from kit.hardware.gpu import gpu_handle
from kit.hardware.machine import nvml


def foreign_processes(ours: int) -> Callable[[], int]:
    """A count of the processes that compute on the GPU, less our own (1 once torch has a context there)."""
    import pynvml

    pynvml.nvmlInit()
    handle = gpu_handle(pynvml)

    def count() -> int:
        try:
            return max(0, len(pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) - ours)
        except pynvml.NVMLError:
            return 0

    return count


def running_processes() -> int:
    """How many processes compute on the GPU now; in a container only their number can be known, not which are ours."""
    with nvml() as library:
        return _asked(library.nvmlDeviceGetComputeRunningProcesses, gpu_handle(library), read=len) or 0


def clock_mhz() -> float | None:
    """Of the multiprocessors, now."""
    with nvml() as library:
        found: float | None = _asked(
            library.nvmlDeviceGetClockInfo, gpu_handle(library), library.NVML_CLOCK_SM, read=float
        )
    return found


def temperature_c() -> float | None:
    """Of the chip, now."""
    with nvml() as library:
        found: float | None = _asked(
            library.nvmlDeviceGetTemperature, gpu_handle(library), library.NVML_TEMPERATURE_GPU, read=float
        )
    return found


def throttled_because() -> str | None:
    """Why the clock is held down now, or None."""
    with nvml() as library:
        reasons: int = _asked(library.nvmlDeviceGetCurrentClocksEventReasons, gpu_handle(library), read=int) or 0
        names = {
            "power cap": library.nvmlClocksEventReasonSwPowerCap,
            "thermal": library.nvmlClocksEventReasonSwThermalSlowdown | library.nvmlClocksEventReasonHwThermalSlowdown,
            "hardware": library.nvmlClocksEventReasonHwSlowdown,
        }
        return ", ".join(name for name, bits in names.items() if reasons & bits) or None


def _asked(question: Callable[..., Any], *arguments: Any, read: Callable[[Any], Any]) -> Any:
    import pynvml

    try:
        return read(question(*arguments))
    except pynvml.NVMLError:
        return None
