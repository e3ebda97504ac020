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
from kit.hardware.gpu import visible_uuid, visible_uuids
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
        KitError: A GPU is asked for and there is none, or it is not clear which.
    """
    if wanted == "cpu":
        return "cpu"
    import pynvml

    try:
        uuid, reason = visible_gpu(), "none is visible"
    except pynvml.NVMLError as error:
        uuid, reason = None, str(error)
    if uuid is not None:
        return "cuda"
    if wanted == "cuda":
        raise KitError(f"device=cuda: no NVIDIA GPU here ({reason}); use device=cpu")
    return "cpu"


def describe(device_type: Literal["cpu", "cuda"], threads: int | None = None, ranks: int = 1) -> Device:
    """The device's description for a record; the threads are torch's, on the CPU. On GPUs each rank has one.

    Raises:
        KitError: There are not so many GPUs, or they are not alike.
    """
    if device_type == "cpu":
        name = _cpu_name()
        return Device(
            type="cpu",
            name=name,
            count=1,
            ranks=ranks,
            cores=len(os.sched_getaffinity(0)),
            threads=threads,
            uuid_hash=None,
            driver=None,
            power_limit_w=None,
        )
    uuids = visible_gpus(ranks)
    with nvml() as library:
        handles = [library.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        names = sorted({library.nvmlDeviceGetName(handle) for handle in handles})
        if len(names) > 1:
            raise KitError(f"device.count={ranks}: expected GPUs that are alike, got {' and '.join(names)}")
        try:
            power_limit_w = min(library.nvmlDeviceGetEnforcedPowerLimit(handle) for handle in handles) / 1000
        except library.NVMLError:
            power_limit_w = None
        return Device(
            type="cuda",
            name=names[0],
            count=ranks,
            ranks=ranks,
            threads=None,
            uuid_hash=hashlib.sha256(",".join(uuids).encode()).hexdigest(),
            driver=library.nvmlSystemGetDriverVersion(),
            power_limit_w=power_limit_w,
        )


def visible_gpu() -> str | None:
    """UUID of the GPU that a run gets (see `visible_uuid`); raises `pynvml.NVMLError` where there is no driver."""
    with nvml() as library:
        return visible_uuid(library)


def visible_gpus(count: int) -> tuple[str, ...]:
    """UUIDs of the GPUs that a run gets; raises `pynvml.NVMLError` where there is no driver.

    Raises:
        KitError: There are not so many.
    """
    with nvml() as library:
        uuids = visible_uuids(library, count)
    if len(uuids) < count:
        raise KitError(f"device.count={count}: expected as many visible GPUs, found {len(uuids)}; give a smaller count")
    return uuids


def software() -> Software:
    """Versions of what a run rests on."""
    return Software(
        python=platform.python_version(),
        torch=metadata.version("torch"),
        dali=_version("nvidia-dali-cuda130"),
        hydra=_version("hydra-core"),
        cuda_driver=_cuda_driver(),
    )


IGNORED = ("--ignore-submodules=all",)
"""Git would run in them too."""


def git_state(folder: Path, *, trusted: bool = True) -> GitState | None:
    """Commit of the checkout that holds `folder`, or None outside of one.

    Args:
        folder: A submission.
        trusted: Otherwise only a checkout above the folder counts: one's configuration can have git run any program.
    """
    if not trusted:
        folder = folder.resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "-C", folder, "status", "--porcelain", "--untracked-files=no", *IGNORED],
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
