"""Who else uses the machine: what other processes take while something is timed."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

SLACK_S = 0.02
"""/proc/stat counts in hundredths of a second."""
MAX_CORES = 0.04
MAX_SHARE = 0.01
"""Others may take so much of one core, or of all cores together, without being counted as a disturbance."""
QUIET_S = 0.2
"""How long it must be quiet before something is measured again."""


@dataclass(frozen=True)
class Reading:
    """Running totals at one time."""

    at_s: float
    foreign_s: float
    """CPU time since boot that went to others, or that the hypervisor took."""
    gpu_processes: int = 0
    """Others that compute on the GPU just now."""


@dataclass(frozen=True)
class Use:
    """What others used between two readings."""

    wall_s: float
    foreign_s: float
    gpu_processes: int
    cores: int

    @property
    def disturbing(self) -> bool:
        """Whether a timing in between is worth little."""
        allowed_s = SLACK_S + max(MAX_CORES, MAX_SHARE * self.cores) * self.wall_s
        return self.foreign_s > allowed_s or self.gpu_processes > 0


class Watch:
    """Keeps an eye on others.

    Args:
        read: Gives the totals.
        cores: Of this machine.
        sleep: Lets time pass.
    """

    def __init__(
        self, read: Callable[[], Reading], *, cores: int | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.read = read
        self._cores = cores or os.cpu_count() or 1
        self._sleep = sleep

    def since(self, before: Reading) -> Use:
        """What others used since `before`."""
        now = self.read()
        return Use(
            wall_s=now.at_s - before.at_s,
            foreign_s=max(0.0, now.foreign_s - before.foreign_s),
            gpu_processes=max(before.gpu_processes, now.gpu_processes),
            cores=self._cores,
        )

    def wait_for_quiet(self, patience_s: float) -> bool:
        """Wait until others leave the machine alone, at most so long; returns whether they do."""
        begun = before = self.read()
        while before.at_s - begun.at_s < patience_s:
            self._sleep(QUIET_S)
            if not self.since(before).disturbing:
                return True
            before = self.read()
        return False


def cpu_reader(
    gpu_processes: Callable[[], int] = lambda: 0, *, stat: Path = Path("/proc/stat")
) -> Callable[[], Reading]:
    """Totals of this machine: what all processors did, less what this process and its children did."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    this = psutil.Process()

    def read() -> Reading:
        fields = [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]
        return Reading(
            at_s=time.monotonic(),
            foreign_s=busy_ticks(fields) * tick_s - _own_s(this),
            gpu_processes=gpu_processes(),
        )

    return read


def busy_ticks(fields: list[int]) -> int:
    """Of the first eight numbers of /proc/stat, all but idle and waiting; stolen time is somebody else's work."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = fields
    return user + nice + system + interrupts + soft_interrupts + stolen


def _own_s(this: psutil.Process) -> float:
    ended = os.times()
    own_s = time.process_time() + ended.children_user + ended.children_system
    for child in this.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        own_s += times.user + times.system + times.children_user + times.children_system
    return own_s
