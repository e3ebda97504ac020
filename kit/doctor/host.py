"""The machine without its GPU: system, load, limits, clock, compiler, folders."""

import os
import platform
import resource
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from kit.doctor.finding import Finding, missing, ok, warning
from kit.hardware.machine import describe

BUSY_PERCENT = 10
"""Of the whole processor, used by others: more disturbs a run that is timed."""
MIN_FREE_BYTES = 1 << 30
MIN_SHARED_BYTES = 1 << 30
MIN_FILES = 1024
MIN_PROCESSES = 1024
SLOW_CLOCKS = {"hpet", "acpi_pm", "jiffies", "refined-jiffies"}


def system(name: str = sys.platform) -> Iterator[Finding]:
    """Python and the operating system."""
    found = f"Python {platform.python_version()} on {platform.platform()}"
    if name == "linux":
        yield ok("system", found)
    else:
        yield missing("system", found, "kit needs Linux: it keeps trainers apart by means that only Linux has")


def processor(interval_s: float = 0.5) -> Iterator[Finding]:
    """Cores, and what else runs on them just now."""
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count()
    yield ok("processor", f"{describe('cpu').name}, {usable} of {there} cores usable")
    before = _seconds_used()
    busy_percent = psutil.cpu_percent(interval=interval_s)
    used = {pid: (name, s - before[pid][1]) for pid, (name, s) in _seconds_used().items() if pid in before}
    found = f"{busy_percent:.0f} % of the processor is busy with other work"
    if busy_percent < BUSY_PERCENT:
        yield ok("load", found)
        return
    pid, (name, s) = max(used.items(), key=lambda item: item[1][1], default=(0, ("", 0.0)))
    if s > 0:
        found += f", most of it with {name} (process {pid})"
    yield warning("load", found, "time nothing until it is over: other work makes a run slower")


def limits(shared: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """What a user may open and start, and the memory through which processes pass batches."""
    for name, which, least, flag in (
        ("open files", resource.RLIMIT_NOFILE, MIN_FILES, "n"),
        ("processes", resource.RLIMIT_NPROC, MIN_PROCESSES, "u"),
    ):
        allowed, _ = resource.getrlimit(which)
        if allowed == resource.RLIM_INFINITY or allowed >= least:
            yield ok(name, "no limit" if allowed == resource.RLIM_INFINITY else f"up to {allowed:,}")
        else:
            yield warning(name, f"up to {allowed:,}", f"loaders may need more: ulimit -{flag} {4 * least}")
    advice = f"the torch loader needs {MIN_SHARED_BYTES >> 30} GiB; in Docker --shm-size=2g, or run with loader=dali"
    try:
        free = shutil.disk_usage(shared).free
    except OSError as error:
        yield warning("shared memory", f"{shared}: {error.strerror}", advice)
        return
    found = f"{free / 2**30:.1f} GiB free"
    yield ok("shared memory", found) if free >= MIN_SHARED_BYTES else warning("shared memory", found, advice)


def clock(
    source: Path = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
) -> Iterator[Finding]:
    """What times are taken with."""
    resolution_s = time.get_clock_info("monotonic").resolution
    try:
        kind = source.read_text().strip()
    except OSError:
        kind = "a source that the kernel does not name"
    found = f"CLOCK_MONOTONIC from {kind}, resolution {resolution_s * 1e9:,.0f} ns"
    if kind in SLOW_CLOCKS or resolution_s > 1e-6:
        yield warning(
            "clock", found, "reading this clock is slow or coarse: boot with clocksource=tsc where that is stable"
        )
    else:
        yield ok("clock", found)


def compiler(path: str = os.defpath, headers: Path | None = None) -> Iterator[Finding]:
    """What torch.compile builds with. A trainer looks in the system's folders alone, not where $PATH leads.

    Args:
        path: Where a trainer looks.
        headers: Folder of Python's headers.
    """
    headers = headers or Path(sysconfig.get_path("include"))
    advice = "only torch.compile needs it; for Debian: apt install g++ python3-dev, for Fedora: dnf install "
    advice += "gcc-c++ python3-devel"
    found = shutil.which("g++", path=path)
    if found is None:
        elsewhere = shutil.which("g++")
        where = f"{elsewhere} is not where a trainer looks ({path})" if elsewhere else f"no g++ in {path}"
        yield missing("compiler", where, advice)
    elif not (headers / "Python.h").exists():
        yield warning("compiler", f"{found}, but no Python.h in {headers}", advice)
    else:
        yield ok("compiler", f"{found}, with Python's headers")


def results_folder(folder: Path) -> Iterator[Finding]:
    """Whether records can be written, and how much room there is."""
    name, existing = "results folder", folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        advice = "name a folder that you may write to: kit run results_dir=..."
        yield missing(name, f"{folder} cannot be written: {error.strerror}", advice)
        return
    found = f"{folder}, {free / 2**30:,.1f} GiB free"
    if free < MIN_FREE_BYTES:
        yield warning(name, found, "make room: a full disk ends a run without its record")
    else:
        yield ok(name, found)


def _seconds_used() -> dict[int, tuple[str, float]]:
    """Processor time of every process but this one."""
    used = {}
    for process in psutil.process_iter(["name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.pid != os.getpid():
            used[process.pid] = (process.info["name"] or "?", times.user + times.system)
    return used
