"""Ends a trainer that takes more memory or processes than it may, where no kernel keeps it to them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import psutil

from kit.meters.poll import Poller
from kit.track import Limits
from kit.tree import descendants

LOOK_EVERY_S = 0.2
MACHINES_SHARE = 0.9
PRIVATE, SHARED, THREADS = "RssAnon:", "RssShmem:", "Threads:"
"""In a process's status. What nothing but its end gives back; pages of files can be dropped."""


@dataclass(frozen=True)
class Overuse:
    """What was taken."""

    fate: Literal["out_of_memory", "crashed"]
    reason: str


def allowed_bytes(limits: Limits) -> int:
    """Of memory, on this machine."""
    return min(limits.memory_bytes, int(MACHINES_SHARE * psutil.virtual_memory().total))


class Guard:
    """Looks at a process tree five times a second.

    What the tree has counts, and with it by how much the machine's shared memory has grown since the start, as files in
    memory belong to no process. Of several processes' memory never more counts than the machine has less to give since.

    Args:
        pid: Top of the tree.
        limits: What it may take.
        end: Called once, when it took more.
    """

    def __init__(self, pid: int, limits: Limits, end: Callable[[], None]) -> None:
        self._pid = pid
        self._processes = limits.processes
        self._before = psutil.virtual_memory()
        self._memory_bytes = allowed_bytes(limits)
        self._end = end
        self._poller = Poller("guard", self._look)
        self.found: Overuse | None = None

    def start(self) -> None:
        """Begin to look."""
        self._poller.start()

    def stop(self) -> None:
        """Stop looking."""
        self._poller.stop()

    def _look(self) -> float | None:
        try:
            self.found = self._overuse()
        except Exception as error:  # whoever blinds the watcher shall gain nothing by it
            self.found = Overuse("crashed", f"the trainer's processes could not be watched: {error}")
        if self.found is None:
            return LOOK_EVERY_S
        self._end()
        return None

    def _overuse(self) -> Overuse | None:
        tree = [self._pid, *islice(descendants(self._pid), self._processes)]
        taken = [status for pid in tree if (status := _status(pid)) is not None]
        if max(len(tree), sum(status[THREADS] for status in taken)) > self._processes:
            return Overuse("crashed", f"more than {self._processes:,} processes and threads")
        now = psutil.virtual_memory()
        grown = max(0, now.shared - self._before.shared)  # what others gave back is no room for more
        private = [status[PRIVATE] << 10 for status in taken]
        shared = sum(status[SHARED] << 10 for status in taken)
        # Forked processes share pages until they write to them: together they have less than each says.
        at_most = min(sum(private) + max(shared, grown), self._before.available - now.available)
        memory_bytes = max(at_most, max(private, default=0) + grown)
        if memory_bytes > self._memory_bytes:
            took, allowed = f"{memory_bytes / 1e9:.2f} GB", f"{self._memory_bytes / 1e9:.2f} GB"
            return Overuse("out_of_memory", f"the trainer took {took} of memory, {allowed} are allowed")
        if now.available < (1 - MACHINES_SHARE) / 2 * now.total:
            left = f"{now.available / 1e9:.2f} GB of the machine's {now.total / 1e9:.2f} GB of memory"
            return Overuse("out_of_memory", f"only {left} were left")
        return None


def _status(pid: int) -> dict[str, int] | None:
    found = dict.fromkeys((PRIVATE, SHARED, THREADS), 0)
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()  # the name in it need not be text
    except OSError:  # it ended
        return None
    for line in lines:
        key, *values = line.split()
        if (name := key.decode(errors="replace")) in found:
            found[name] = int(values[0])
    return found
