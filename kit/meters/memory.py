"""Peak host memory of a process tree."""

import threading
from pathlib import Path

from kit.tree import descendants

SAMPLE_S = 1.0


class MemoryMeter:
    """Samples a process and everything below it, about once a second and when asked."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="memory", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def sample(self) -> None:
        """Look now: a process that has ended can no longer be asked."""
        for pid in descendants(self._pid):
            peak = _peak_bytes(pid)
            if peak is not None:
                self._peaks[pid] = max(peak, self._peaks.get(pid, 0))

    def stop(self) -> int | None:
        """Stop, and give the sum of all processes' peaks in bytes; None when none was ever seen."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        return sum(self._peaks.values()) or None

    def _follow(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.sample()


def _peak_bytes(pid: int) -> int | None:
    """The kernel's own high-water mark (VmHWM): nothing between two samples is missed."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")  # it holds a name of the process's choice
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
