"""The machine that a run uses, described without torch."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from kit.errors import KitError
from kit.results.record import Device, GitState, Software


@contextmanager
def nvml() -> "Iterator[Any]":
    """The NVML binding, initialised; raises `pynvml.NVMLError` where there is no driver."""
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """What `device=` means on this machine.

    Raises:
        KitError: A GPU is asked for and there is none.
    """
    if wanted == "cpu":
        return "cpu"
    import pynvml

    try:
        with nvml() as library:
            count = library.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        count, reason = 0, str(error)
    else:
        reason = "NVML lists none"
    if count:
        return "cuda"
    if wanted == "cuda":
        raise KitError(f"device=cuda: no NVIDIA GPU here ({reason}); use device=cpu")
    return "cpu"


def describe(device_type: Literal["cpu", "cuda"], threads: int | None) -> Device:
    """The device's description for a record."""
    if device_type == "cpu":
        name = _cpu_name()
        return Device(type="cpu", name=name, count=1, threads=threads, uuid_hash=None, driver=None, power_limit_w=None)
    with nvml() as library:
        handle = gpu_handle(library)
        try:
            power_limit_w = library.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
        except library.NVMLError:
            power_limit_w = None
        return Device(
            type="cuda",
            name=library.nvmlDeviceGetName(handle),
            count=1,
            threads=None,
            uuid_hash=hashlib.sha256(library.nvmlDeviceGetUUID(handle).encode()).hexdigest(),
            driver=library.nvmlSystemGetDriverVersion(),
            power_limit_w=power_limit_w,
        )


def visible_gpu() -> str:
    """The GPU that a run gets: the first of CUDA_VISIBLE_DEVICES, else NVML's first. A UUID, or an index."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() or "0"


def gpu_handle(library: Any) -> Any:
    """NVML's handle of `visible_gpu`."""
    gpu = visible_gpu()
    if gpu.isdigit():
        return library.nvmlDeviceGetHandleByIndex(int(gpu))
    return library.nvmlDeviceGetHandleByUUID(gpu)


def software() -> Software:
    """Versions of what a run rests on."""
    return Software(
        python=platform.python_version(),
        torch=metadata.version("torch"),
        dali=_version("nvidia-dali-cuda130"),
        hydra=_version("hydra-core"),
        cuda_driver=_cuda_driver(),
    )


def git_state(folder: Path) -> GitState | None:
    """Commit of the checkout that holds `folder`, or None outside of one."""
    try:
        commit = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return GitState(commit=commit, dirty=bool(changes.strip()))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cuda_driver() -> str | None:
    import pynvml

    try:
        with nvml() as library:
            version = library.nvmlSystemGetCudaDriverVersion()
    except pynvml.NVMLError:
        return None
    return f"{version // 1000}.{version % 1000 // 10}"


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
