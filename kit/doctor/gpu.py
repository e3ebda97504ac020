"""The GPU that a run would get, and what NVML tells of it. To be run in a process of its own (`kit.doctor.apart`)."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import psutil
import pynvml

from kit.doctor.finding import Finding, missing, ok, warning
from kit.errors import KitError
from kit.hardware.gpu import gpu_handle, visible_uuid
from kit.hardware.machine import nvml

STEP_WITHIN_S = 1.0
"""Data-centre GPUs move their energy counter every 20 to 100 ms."""
INSTANT_POWER_SCOPES = {"GPU": 0, "module": 1}
"""Grace Hopper gives instant power of the module alone."""

ADVICE = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this GPU, its driver or its mode has no such reading",
    pynvml.NVML_ERROR_NO_PERMISSION: "ask the administrator for the right to read it",
    pynvml.NVML_ERROR_GPU_IS_LOST: "restart the machine; dmesg has lines with Xid that say why the GPU was lost",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset the GPU (nvidia-smi --gpu-reset) or restart the machine",
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "install a newer driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated under way: restart the machine",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "runs use the processor; for a GPU install NVIDIA's driver, or start the "
    "container with --gpus all",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "runs use the processor; for a GPU load NVIDIA's driver (modprobe nvidia)",
}
OTHERWISE = "see what nvidia-smi says"

Look = Callable[[str, Any], Finding]
"""What a row's name and an NVML handle come to; raises NVMLError where NVML refuses."""


def gpu() -> Iterator[Finding]:
    """A row for the GPU, and one for each thing that a measurement needs of it."""
    try:
        with nvml():
            yield from _looks()
    except pynvml.NVMLError as error:
        yield _refused("gpu", error)


def _looks() -> Iterator[Finding]:
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        yield missing("gpu", "NVIDIA's driver lists no GPU", "runs use the processor; start containers with --gpus all")
        return
    try:
        handle = gpu_handle(pynvml)
    except KitError as error:
        yield missing("gpu", str(error), "nvidia-smi -L lists what can be named")
        return
    for name, look in LOOKS.items():
        try:
            yield look(name, handle)
        except pynvml.NVMLError as error:
            yield _refused(name, error)


def _refused(name: str, error: pynvml.NVMLError) -> Finding:
    return missing(name, f"NVML: {error}", ADVICE.get(error.value, OTHERWISE))


def _identity(name: str, handle: Any) -> Finding:
    pynvml.nvmlDeviceGetUUID(handle)
    count = pynvml.nvmlDeviceGetCount()
    which = "" if count == 1 else f", number {pynvml.nvmlDeviceGetIndex(handle)} of {count} counted from 0"
    driver = pynvml.nvmlSystemGetDriverVersion()
    return ok(name, f"{pynvml.nvmlDeviceGetName(handle)}{which}, driver {driver}, has a UUID")


def _mig(name: str, handle: Any) -> Finding:
    if (visible_uuid(pynvml) or "").startswith("MIG-"):
        on = True
    else:
        try:
            on = bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
        except pynvml.NVMLError_NotSupported:
            return ok(name, "this GPU cannot be divided")
    if not on:
        return ok(name, "off: the GPU is whole")
    advice = (
        "power is measured for the whole GPU: to measure energy, the administrator turns it off (nvidia-smi -mig 0)"
    )
    return warning(name, "on: the GPU is divided", advice)


def _power_limit(name: str, handle: Any) -> Finding:
    limit_w = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
    default_w = pynvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000
    if limit_w == default_w:
        return ok(name, f"{limit_w:.0f} W, the default")
    advice = f"times and energies differ from others of this model: nvidia-smi -pl {default_w:.0f} sets it back"
    return warning(name, f"{limit_w:.0f} W, the default is {default_w:.0f} W", advice)


def _persistence(name: str, handle: Any) -> Finding:
    if pynvml.nvmlDeviceGetPersistenceMode(handle):
        return ok(name, "on: the driver stays loaded")
    advice = "the first use of the GPU takes seconds, and its counters start anew: nvidia-smi -pm 1, as administrator"
    return warning(name, "off: between programs the driver forgets the GPU", advice)


def _processes(name: str, handle: Any) -> Finding:
    asked = pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses
    pids = sorted({process.pid for ask in asked for process in ask(handle)})
    if not pids:
        return ok(name, "none (in a container, none that NVML shows there)")
    listed = ", ".join(f"{pid} {_process_name(pid)}".strip() for pid in pids)
    return warning(name, listed, "end them before a run that counts: they share its time and its energy")


def _process_name(pid: int) -> str:
    try:
        return f"({psutil.Process(pid).name()})"
    except psutil.Error:
        return ""


def _energy(name: str, handle: Any) -> Finding:
    first_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    until_s = monotonic() + STEP_WITHIN_S
    while (now_mj := pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) == first_mj:
        if monotonic() > until_s:
            found = f"the counter stands still at {first_mj / 1000:,.0f} J"
            return warning(name, found, "energy would be absent from the record; a newer driver may help")
        sleep(0.002)
    return ok(name, f"the counter moves, at {now_mj / 1000:,.0f} J")


def _instant_power(name: str, handle: Any) -> Finding:
    refusals = []
    for scope, number in INSTANT_POWER_SCOPES.items():
        (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [(pynvml.NVML_FI_DEV_POWER_INSTANT, number)])
        if field.nvmlReturn == pynvml.NVML_SUCCESS:
            return ok(name, f"{field.value.uiVal / 1000:.0f} W, of the {scope}")
        refusals.append(field.nvmlReturn)
    raise pynvml.NVMLError(refusals[0])


def _clocks(name: str, handle: Any) -> Finding:
    sm, memory = (pynvml.nvmlDeviceGetClockInfo(handle, kind) for kind in (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM))
    return ok(name, f"{sm} MHz, memory {memory} MHz")


def _temperature(name: str, handle: Any) -> Finding:
    return ok(name, f"{pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU)} °C")


def _throttling(name: str, handle: Any) -> Finding:
    policies = pynvml.NVML_PERF_POLICY_POWER, pynvml.NVML_PERF_POLICY_THERMAL
    power_s, heat_s = (pynvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime / 1e9 for policy in policies)
    return ok(name, f"counted: {power_s:,.1f} s for power, {heat_s:,.1f} s for heat since the driver was loaded")


LOOKS: dict[str, Look] = {
    "gpu": _identity,
    "gpu mig": _mig,
    "gpu power limit": _power_limit,
    "gpu persistence": _persistence,
    "gpu processes": _processes,
    "gpu energy": _energy,
    "gpu instant power": _instant_power,
    "gpu clocks": _clocks,
    "gpu temperature": _temperature,
    "gpu throttling": _throttling,
}
