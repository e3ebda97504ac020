"""Who else is on the GPU, and how much of its memory the trainer holds."""

import os
from dataclasses import dataclass
from time import monotonic_ns

import psutil

from kit.meters.nvml import Gpu, GpuProcess, Unavailable
from kit.meters.poll import Poller
from kit.results.record import ForeignProcess
from kit.tree import descendants

LOOK_S = 1.0


@dataclass
class _Seen:
    first_ns: int
    last_ns: int
    peak_bytes: int | None
    computes: bool


class ProcessWatch:
    """Lists the GPU's processes about once a second and when asked.

    Args:
        gpu: An open GPU.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._foreign: dict[int, _Seen] = {}
        self._elsewhere: set[int] = set()
        self._peak_bytes: int | None = None
        self._no_memory = "NVML listed none of the trainer's processes"
        self._refused: str | None = None
        self.setting_up = False
        """Between the trainer's launch and `go`."""
        self._poller = Poller("processes", self.look)

    def start(self) -> None:
        """Begin to look."""
        self._poller.start()

    def stop(self) -> None:
        """Stop. Safe to call twice."""
        self._poller.stop()

    def look(self) -> float | None:
        """Look now, as a process that has ended is not listed any more. Says when to look again."""
        try:
            processes = self._gpu.processes()
        except Unavailable as error:
            self._refused = str(error)
            return None if error.lost else LOOK_S
        ours = own_tree()
        self._weigh([process for process in processes if process.pid in ours])
        for process in processes:
            if process.pid not in ours and not self._is_ours_elsewhere(process.pid):
                self._note(process)
        return LOOK_S

    def foreign(self, zero_ns: int) -> tuple[ForeignProcess, ...]:
        """Everybody else's processes, on a clock that is 0 at `zero_ns`."""
        return tuple(
            ForeignProcess(
                pid=pid,
                first_seen_s=(seen.first_ns - zero_ns) / 1e9,
                last_seen_s=(seen.last_ns - zero_ns) / 1e9,
                peak_bytes=seen.peak_bytes,
                computes=seen.computes,
            )
            for pid, seen in sorted(self._foreign.items())
        )

    def peak_bytes(self) -> tuple[int | None, str | None]:
        """The trainer's peak, or why it is not known."""
        if self._peak_bytes is not None:
            return self._peak_bytes, None
        if self._elsewhere:
            return None, "NVML lists process ids of another namespace, as in a container without the host's"
        return None, self._refused or self._no_memory

    def _weigh(self, own: list[GpuProcess]) -> None:
        used = [process.used_bytes for process in own if process.used_bytes is not None]
        if used:
            self._peak_bytes = max(self._peak_bytes or 0, sum(used))
        elif own:
            self._no_memory = "NVML does not say how much memory a process uses"

    def _is_ours_elsewhere(self, pid: int) -> bool:
        """In a container the trainer may be listed under an id that does not exist here; it comes while it sets up."""
        if self.setting_up and pid not in self._foreign and not psutil.pid_exists(pid):
            self._elsewhere.add(pid)
        return pid in self._elsewhere

    def _note(self, process: GpuProcess) -> None:
        now_ns = monotonic_ns()
        seen = self._foreign.setdefault(process.pid, _Seen(now_ns, now_ns, None, process.computes))
        seen.last_ns = now_ns
        if process.used_bytes is not None:
            seen.peak_bytes = max(seen.peak_bytes or 0, process.used_bytes)


def own_tree() -> set[int]:
    """This process and everything below it; the trainer's orphans come here too."""
    return {os.getpid(), *descendants(os.getpid())}


def in_words(process: GpuProcess) -> str:
    """For a person who is to end it."""
    try:
        name = psutil.Process(process.pid).name()
    except psutil.Error:
        name = "name not known"
    used = "" if process.used_bytes is None else f", {process.used_bytes / 1e6:,.0f} MB"
    return f"{process.pid} ({name}{used})"
