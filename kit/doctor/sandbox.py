"""What keeping hostile code apart needs of this machine. Honest code runs without any of it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kit.doctor.apart import how_it_ended
from kit.doctor.finding import Finding, missing, ok, warning
from kit.referee.descriptor import public_folder

BOX = (
    "--unshare-all",
    "--die-with-parent",
    "--ro-bind",
    "/",
    "/",
    "--dev",
    "/dev",
    "--proc",
    "/proc",
    "--tmpfs",
    "/tmp",
)
TRIAL_S = 10
USER_NAMESPACES = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user.max_user_namespaces": ("0", "10000"),
}
"""Settings of the kernel: the value that forbids user namespaces, and one that allows them."""
IN_CONTAINER = (
    "allow user namespaces; in a container start it with --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt systempaths=unconfined"
)


def bubblewrap(path: str | None = None, settings: Path = Path("/proc/sys")) -> Iterator[Finding]:
    """Whether bubblewrap is there, and whether a box of it starts.

    Args:
        path: Folders to look for it in, as $PATH.
        settings: The kernel's.
    """
    name = "bubblewrap"
    program = shutil.which("bwrap", path=path)
    if program is None:
        advice = "only keeping hostile code apart needs it: apt install bubblewrap, or dnf install bubblewrap"
        yield missing(name, "no bwrap on the path", advice)
        return
    try:
        done = subprocess.run([program, *BOX, "true"], capture_output=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        yield missing(name, f"{program}: a box did not end within {TRIAL_S} s", _allow_namespaces(settings))
        return
    if done.returncode == 0:
        yield ok(name, f"{program}: a box starts")
    else:
        how = how_it_ended(done.returncode, done.stderr)
        yield missing(name, f"{program}: no box starts ({how})", _allow_namespaces(settings))


def read_only_data() -> Iterator[Finding]:
    """Whether the data can be handed over as a mount of its own that nothing leads out of."""
    name = "read-only data"
    with tempfile.TemporaryDirectory(prefix="kit-") as folder, public_folder(Path(folder)) as (_, mounted):
        if mounted:
            yield ok(name, "data go to the trainer as a read-only mount")
        else:
            advice = "only hostile code is held by it; it takes root (CAP_SYS_ADMIN) and Linux 5.12"
            yield warning(name, "data go to the trainer as an open folder, which leads out of itself", advice)


def cgroups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[Finding]:
    """Whether memory and number of processes could be capped."""
    name = "cgroups"
    lines = own.read_text().splitlines()
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None or not (root / "cgroup.controllers").exists():
        advice = "only caps on memory and processes need it: boot with systemd.unified_cgroup_hierarchy=1"
        yield missing(name, f"no cgroup v2 in {root}", advice)
        return
    group = root / path.lstrip("/")
    delegate = "start kit with systemd-run --user --scope -p Delegate=yes; only caps on memory and processes need it"
    try:
        there = set((group / "cgroup.controllers").read_text().split())
    except OSError as error:
        yield missing(name, f"{group}: {error.strerror}", delegate)
        return
    lacking = sorted({"memory", "pids"} - there)
    if lacking:
        yield missing(name, f"{group} does not control {' and '.join(lacking)}", delegate)
    elif not all(os.access(place, os.W_OK) for place in (group, group / "cgroup.procs")):
        yield missing(name, f"{group} belongs to somebody else", delegate)
    else:
        yield ok(name, f"v2, {group} is ours")


def _allow_namespaces(settings: Path) -> str:
    wrong = []
    for name, (forbids, allows) in USER_NAMESPACES.items():
        try:
            value = (settings / name.replace(".", "/")).read_text().strip()
        except OSError:
            continue  # this kernel has no such setting
        if value == forbids:
            wrong.append(f"{name}={allows}")
    return f"allow user namespaces, as administrator: sysctl {' '.join(wrong)}" if wrong else IN_CONTAINER
