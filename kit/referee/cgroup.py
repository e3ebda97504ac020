"""Caps that the kernel keeps: a control group (v2) for a trainer's processes, where this user may make one.

systemd allows it in `systemd-run --user --scope -p Delegate=yes kit score ...`. Elsewhere a watcher caps (overuse.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from os import W_OK, access, getpid
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from kit.referee.overuse import Overuse, allowed_bytes
from kit.track import Limits

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NEEDED = ("memory", "pids")
REFEREES = "kit-referees"
"""Groups that hold processes cannot hold capped groups, so the referee moves into one of its own."""
PATIENCE_S = 1.0
ENTER = 'echo $$ > "$0" && exec "$@"'


class NotDelegated(Exception):  # noqa: N818 - an answer, not an error
    """No group of this user's can cap a trainer; the message says why."""


@dataclass(frozen=True)
class ControlGroup:
    """A group for one trainer."""

    folder: Path
    memory_bytes: int

    @property
    def enter(self) -> Sequence[str]:
        """The beginning of a command line that is to run inside."""
        return ["/bin/sh", "-c", ENTER, str(self.folder / "cgroup.procs")]

    def overuse(self) -> Overuse | None:
        """What the kernel ended a process for, or None."""
        for line in (self.folder / "memory.events").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and int(count):
                return Overuse(
                    "out_of_memory", f"the trainer took more than {self.memory_bytes / 1e9:.2f} GB of memory"
                )
        return None


def own_group(root: Path = ROOT, own: Path = OWN) -> Path:
    """The group of this process, if groups in it may be made and capped.

    Raises:
        NotDelegated: They may not.
    """
    path = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), None)
    if path is None or not (root / "cgroup.controllers").exists():
        raise NotDelegated(f"no cgroup v2 in {root}")
    group = root / path.lstrip("/")
    if group.name == REFEREES:
        group = group.parent
    try:
        there = (group / "cgroup.controllers").read_text().split()
    except OSError as error:
        raise NotDelegated(f"{group}: {error.strerror}") from error
    if lacking := [name for name in NEEDED if name not in there]:
        raise NotDelegated(f"{group} does not control {' and '.join(lacking)}")
    if not access(group / "cgroup.procs", W_OK):
        raise NotDelegated(f"{group} is not this user's")
    return group


@contextmanager
def control_group(limits: Limits, root: Path = ROOT, own: Path = OWN) -> Iterator[ControlGroup]:
    """A group with a trainer's caps, until the end.

    Raises:
        NotDelegated: None can be had here.
    """
    group = own_group(root, own)
    folder = group / f"kit-trainer-{uuid4().hex[:12]}"
    memory_bytes = allowed_bytes(limits)
    try:
        (group / REFEREES).mkdir(exist_ok=True)
        (group / REFEREES / "cgroup.procs").write_text(str(getpid()))
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in NEEDED))
        folder.mkdir()
        caps = {"memory.max": memory_bytes, "memory.swap.max": 0, "memory.oom.group": 1, "pids.max": limits.processes}
        for name, value in caps.items():
            (folder / name).write_text(str(value))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        raise NotDelegated(f"{error.filename}: {error.strerror}") from error
    try:
        yield ControlGroup(folder, memory_bytes)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Its processes take a moment to be gone."""
    until_s = monotonic() + PATIENCE_S
    with suppress(OSError):
        (folder / "cgroup.kill").write_text("1")
    while monotonic() < until_s:
        try:
            folder.rmdir()
        except OSError:
            sleep(0.01)
        else:
            return
