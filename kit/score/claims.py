"""What jobs on many machines must agree on: who makes which run, and on what kind of machine.

RESULTS/.jobs/claims/<run>     who is making a run; left behind by those alone that were killed
RESULTS/.jobs/device.json      the machine of this scoring's first job
RESULTS/.jobs/lost.jsonl       every job that came to nothing
RESULTS/.jobs/<name>.plan      what an array of jobs is to make; gone when all of it is collected
RESULTS/.jobs/<name>/          the array's batch script, and what its jobs printed
"""

import os
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from pydantic import AwareDatetime, ValidationError

from kit.errors import KitError
from kit.results.record import Device, SchedulerJob, Split
from kit.score.ledger import RunKey, device_words
from kit.slurm.queue import jobs_of_user
from kit.track import Model

JOBS_DIR = ".jobs"
CLAIMS_DIR = f"{JOBS_DIR}/claims"
DEVICE_FILE = f"{JOBS_DIR}/device.json"
LOST_FILE = f"{JOBS_DIR}/lost.jsonl"
PLAN_SUFFIX = ".plan"


class Claim(Model):
    """Who makes a run."""

    job: SchedulerJob | None
    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.job is None else f"job {self.job.id}"


class Loss(Model):
    """A job that came to nothing: its run is made again, or was given up."""

    plan: str
    place: int
    """Of the job, in the plan's array."""
    at: AwareDatetime
    submission: str
    source_sha256: str
    split: Split
    seed_index: int
    job: str | None
    state: str | None
    node: str | None
    reason: str


def claim_path(results_dir: Path, key: RunKey) -> Path:
    """Where a run's claim lies."""
    return results_dir / CLAIMS_DIR / f"{key.source_sha256}-{key.split}-{key.seed_index}"


@contextmanager
def claimed(results_dir: Path, key: RunKey, job: SchedulerJob | None) -> Iterator[None]:
    """Be the only one who makes a run, on all machines that share the results.

    Raises:
        KitError: Somebody else is making it, or began to and was killed.
    """
    path = claim_path(results_dir, key)
    claim = Claim(job=job, host=socket.gethostname(), pid=os.getpid())
    if not _write_first(path, claim):
        raise KitError(
            f"this run is being made by {read_claim(path) or 'somebody else'}, or was when that was killed: kit score "
            f"finds out which; nothing is run twice ({path})"
        )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_claim(path: Path) -> Claim | None:
    """A claim, or None where there is none that can be read."""
    try:
        return Claim.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def held_claims(results_dir: Path, live_jobs: Collection[str] | None) -> dict[str, Claim]:
    """Claims, by their files' names, of whom may still be at work; those of the dead are removed.

    Args:
        results_dir: Where.
        live_jobs: Ids of the jobs that wait or run; None where no queue can be asked, so that any may.
    """
    held = {}
    folder = results_dir / CLAIMS_DIR
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        claim = read_claim(path)
        if claim is not None and not path.name.startswith(".") and _may_live(claim, live_jobs):
            held[path.name] = claim
        else:
            path.unlink(missing_ok=True)
    return held


def _may_live(claim: Claim, live_jobs: Collection[str] | None) -> bool:
    if claim.job is not None:
        return live_jobs is None or claim.job.id in live_jobs
    return claim.host != socket.gethostname() or psutil.pid_exists(claim.pid)


def agreed_device(results_dir: Path) -> Device | None:
    """The machine of the first job, or None before that."""
    try:
        return Device.model_validate_json((results_dir / DEVICE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise KitError(f"{results_dir / DEVICE_FILE}: cannot be read: {error}") from error


def agree_on_device(results_dir: Path, device: Device) -> None:
    """Take this machine for the scoring's, or be of its kind.

    Raises:
        KitError: Runs of this scoring are made on another kind of machine.
    """
    if _write_first(results_dir / DEVICE_FILE, device):
        return
    first = agreed_device(results_dir)
    if first is not None and device_words(first) != device_words(device):
        raise KitError(
            f"this machine is another than that of the first run: {device_words(device)}, not {device_words(first)}; "
            "ask for nodes of one kind (hydra.launcher.partition=, constraint= or nodelist=)"
        )


def note_loss(results_dir: Path, loss: Loss) -> None:
    """Write down what came to nothing. One process at a time does."""
    path = results_dir / LOST_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(loss.model_dump_json() + "\n")


def losses(results_dir: Path) -> list[Loss]:
    """What came to nothing so far."""
    try:
        lines = (results_dir / LOST_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with suppress(ValidationError):  # cut short where the disk was full
            found.append(Loss.model_validate_json(line))
    return found


def refuse_jobs(results_dir: Path) -> None:
    """Leave a folder alone that jobs of a cluster write to.

    Raises:
        KitError: There are such jobs, or it cannot be known.
    """
    plans = {path.stem for path in (results_dir / JOBS_DIR).glob(f"*{PLAN_SUFFIX}")}
    claims = results_dir / CLAIMS_DIR
    if not plans and not (claims.is_dir() and any(claims.iterdir())):
        return
    jobs = jobs_of_user()
    if plans and (jobs is None or any(job.live and job.name in plans for job in jobs)):
        raise KitError(f"{results_dir}: jobs of SLURM are making runs here; collect them with --launcher slurm first")
    held = held_claims(results_dir, None if jobs is None else {job.id for job in jobs if job.live})
    if held:
        raise KitError(f"{results_dir}: {next(iter(held.values()))} is making a run here; wait for it ({claims})")


def _write_first(path: Path, content: Model) -> bool:
    """Write a file whole, unless there is one; over a network file system too, a link is made once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content.model_dump_json())
            os.link(partial, path)
        finally:
            os.unlink(partial)
    except FileExistsError:
        return False
    except OSError as error:
        raise KitError(f"cannot write to {path.parent}: {error.strerror}") from error
    return True
