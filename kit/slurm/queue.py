"""Asking SLURM, without its accounting: `squeue` and `scontrol` are on every cluster, a database for `sacct` is not."""

import os
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
"""States that a job does not leave (squeue(1)); every other one may still become a run."""
ANSWER_S = 60
DEFAULT_MAX_ARRAY = 1001
"""slurm.conf(5), MaxArraySize."""


@dataclass(frozen=True)
class JobState:
    """What SLURM says of one job."""

    name: str
    id: str
    """As people write it: 12, or 12_3 in an array."""
    state: str
    node: str
    reason: str
    """Why it waits."""

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED


def jobs_named(names: Collection[str]) -> dict[tuple[str, int], JobState] | None:
    """The jobs of these names, by name and place in the array; SLURM forgets ended ones after some minutes.

    Returns:
        None where SLURM does not answer: that says nothing about the jobs.
    """
    jobs = _jobs(f"--name={','.join(sorted(names))}")
    return None if jobs is None else {(job.name, int(job.id.partition("_")[2] or 0)): job for job in jobs}


def jobs_of_user() -> list[JobState] | None:
    """Every job of whoever asks, or None where SLURM does not answer."""
    return _jobs(f"--user={os.getuid()}")


def live_jobs() -> set[str] | None:
    """Ids of the user's jobs that wait or run, or None where SLURM does not answer."""
    jobs = jobs_of_user()
    return None if jobs is None else {job.id for job in jobs if job.live}


def _jobs(which: str) -> list[JobState] | None:
    answer = _ask("squeue", "-h", "-r", "-t", "all", which, "-o", "%j|%i|%T|%N|%r")
    return None if answer is None else [JobState(*line.split("|", 4)) for line in answer.splitlines()]


def max_array_size() -> int:
    """How many jobs one array may have."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.MULTILINE)
    return int(match[1]) if match else DEFAULT_MAX_ARRAY


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
