"""What keeping hostile code apart needs of this machine. Honest code runs without any of it."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kit.doctor.apart import how_it_ended
from kit.doctor.finding import Finding, missing, ok, warning
from kit.errors import KitError
from kit.referee.cgroup import OWN, ROOT, NotDelegated, own_group
from kit.referee.descriptor import public_folder
from kit.referee.sandbox import require

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


def sandbox() -> Iterator[Finding]:
    """Whether `isolation=sandbox` works: the box of a sealed run itself, with its filter of system calls."""
    try:
        require()
    except KitError as error:
        advice = "only isolation=sandbox needs it: mend what bubblewrap's line says; apt install libseccomp2"
        yield missing("sandbox", str(error).removesuffix("; see kit doctor"), advice)
    else:
        yield ok("sandbox", "isolation=sandbox works")


def read_only_data() -> Iterator[Finding]:
    """Whether the data can be handed over as a mount of its own that nothing leads out of."""
    name = "read-only data"
    with (
        tempfile.TemporaryDirectory(prefix="kit-") as folder,
        public_folder(Path(folder), sealed=False) as (_, mounted),
    ):
        if mounted:
            yield ok(name, "data go to the trainer as a read-only mount")
        else:
            advice = "only isolation=process: it takes root (CAP_SYS_ADMIN) and Linux 5.12; a sandbox has one anyway"
            yield warning(name, "data go to the trainer as an open folder, which leads out of itself", advice)


def cgroups(root: Path = ROOT, own: Path = OWN) -> Iterator[Finding]:
    """Whether the kernel can cap memory and number of processes."""
    name = "cgroups"
    try:
        group = own_group(root, own)
    except NotDelegated as error:
        advice = (
            "a watcher caps sealed runs instead, five times a second; for the kernel to do it, start kit with "
            "systemd-run --user --scope -p Delegate=yes"
        )
        yield missing(name, str(error), advice)
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
