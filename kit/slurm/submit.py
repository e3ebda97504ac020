"""Handing commands to SLURM, through submitit."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kit.errors import KitError
from kit.slurm.settings import SlurmSettings

LAST_LINE_BYTES = 4096


def require_slurm() -> None:
    """Look for SLURM's commands.

    Raises:
        KitError: This machine has none.
    """
    missing = [command for command in ("sbatch", "srun", "squeue") if shutil.which(command) is None]
    if missing:
        raise KitError(
            f"{', '.join(missing)}: not found; runs are handed to SLURM from a machine that has its commands"
        )


def submit(commands: Sequence[Sequence[str]], settings: SlurmSettings, name: str, folder: Path) -> list[str]:
    """Submit commands as one array of jobs.

    Each job becomes its command (`exec`), so that signals reach it, its exit status is the job's, and nothing is
    pickled for anybody to read.

    Args:
        commands: Programs with their arguments; the first by its full path.
        settings: What is asked of SLURM.
        name: Of the jobs, by which they are found again.
        folder: Where the batch script and what jobs print go.

    Returns:
        The jobs' ids, in this order.

    Raises:
        KitError: SLURM does not take them.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=0)
    executor.update_parameters(name=name, **settings.sbatch())
    programs, arguments = [command[0] for command in commands], [list(command) for command in commands]
    try:
        with _outside_of_jobs():
            jobs = executor.map_array(os.execv, programs, arguments)
    except (FailedJobError, FailedSubmissionError) as error:
        raise KitError(f"SLURM does not take the runs: {_sbatch_says(error)}") from error
    return [job.job_id for job in jobs]


def last_words(folder: Path, place: int, of: int) -> str | None:
    """The last line that a job printed, or None where it left none.

    Args:
        folder: As it was given to `submit`.
        place: Of the job in the array.
        of: How many jobs were submitted together.
    """
    for path in folder.glob(f"{_job(place, of)}_0_log.out"):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_LINE_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
        said = [line for line in lines if line and not line.startswith("submitit ")]
        its_own = [line for line in said if not line.startswith(("slurmstepd:", "srun:"))]
        if said:
            return (its_own or said)[-1].removeprefix("kit: ")
    return None


def tidy(folder: Path, place: int, of: int) -> None:
    """Remove what a job left in the folder beside its record."""
    for kind in ("0_log.out", "submitted.pkl"):
        for path in folder.glob(f"{_job(place, of)}_{kind}"):
            path.unlink(missing_ok=True)


def _job(place: int, of: int) -> str:
    """How submitit's names of a job's files begin: with the array's id, which need not be known."""
    return f"*[0-9]_{place}" if of > 1 else "*[0-9]"


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Jobs that are submitted from a job must not take its place over; which cluster it is they shall know."""
    from submitit.helpers import clean_env

    configuration = os.environ.get("SLURM_CONF")
    with clean_env():
        if configuration is not None:
            os.environ["SLURM_CONF"] = configuration
        yield


def _sbatch_says(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error:" in line]
    return (lines[-1] if lines else str(error).strip().splitlines()[-1]).removeprefix("sbatch: error: ")
