"""Energy of the processor: the counters (RAPL, of Intel and AMD alike) that Linux shows under powercap."""

from collections.abc import Iterator
from pathlib import Path

from kit.doctor.finding import Finding, missing, ok, warning

NAME = "processor energy"
OPEN_IT = (
    "the machine's owner can open them until the next start with chmod a+r {zones}/intel-rapl:*/energy_uj, or for good "
    'with a udev rule: SUBSYSTEM=="powercap", KERNEL=="intel-rapl:*", RUN+="/bin/chmod a+r /sys%p/energy_uj". They are '
    "closed because they tell other users what runs (CVE-2020-8694)"
)
MASKED = (
    "in a container: bind-mount /sys/devices/virtual/powercap, read-only, which container engines mask; "
    "what then counts is the whole socket"
)


def rapl(powercap: Path = Path("/sys/class/powercap"), cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """Whether there are counters, and whether they may be read."""
    zones = sorted(powercap.glob("intel-rapl:*"))
    if not zones:
        yield _none(powercap, cpuinfo)
        return
    readable: list[str] = []
    refused: list[tuple[str, OSError | ValueError]] = []
    for zone in zones:
        try:
            int((zone / "energy_uj").read_text())
            readable.append((zone / "name").read_text().strip())
        except (OSError, ValueError) as error:
            refused.append((zone.name, error))
    if not refused:
        yield ok(NAME, f"counters of {', '.join(readable)}")
        return
    name, why = refused[0]
    reason = why.strerror if isinstance(why, OSError) and why.strerror else str(why)
    found = f"{len(refused)} of {len(zones)} counters cannot be read ({name}: {reason})"
    advice = OPEN_IT.format(zones=powercap) if isinstance(why, PermissionError) else MASKED
    yield warning(NAME, found, advice) if readable else missing(NAME, found, advice)


def _none(powercap: Path, cpuinfo: Path) -> Finding:
    try:
        virtual = any("hypervisor" in line.split() for line in cpuinfo.read_text().splitlines())
    except OSError:
        virtual = False
    if virtual:
        return missing(NAME, "a virtual machine without counters", "it can only be measured on the machine itself")
    return missing(NAME, f"no counters in {powercap}", f"load the driver (modprobe intel_rapl_msr); {MASKED}")
