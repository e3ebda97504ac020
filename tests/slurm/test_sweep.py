"""`kit run --multirun hydra/launcher=slurm`: one job per run, whose failure is a failure."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from slurm_cluster import Cluster
from support import RIGHT_ANSWERS, ROOT, SETUP_NOTHING

from kit.results.store import read_record

ONE_GOES_WRONG = (
    SETUP_NOTHING
    + RIGHT_ANSWERS
    + """
def train(run, state):
    if run.seed == 1:
        raise ValueError("not with this seed")
    run.evaluate(lambda images: answers())
"""
)


def test_every_run_is_a_job_and_one_that_fails_hides_no_other(
    tmp_path: Path, cluster: Cluster, submission: Callable[..., Path], kit_command: Callable[..., list[str]]
) -> None:
    quick = ["exclusive=false", "poll_s=0.2", "settle_s=2"]
    done = subprocess.run(
        kit_command(
            *("--multirun", "hydra/launcher=slurm", *(f"hydra.launcher.{setting}" for setting in quick)),
            *(f"submission={submission(ONE_GOES_WRONG)}", "seed=0,1", "device=cpu", "loader=torch"),
            *("count_flops=false", f"hydra.sweep.dir={tmp_path / 'sweep'}"),
        ),
        cwd=ROOT,
        env=os.environ | cluster.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    records = {record.seed: record for record in map(read_record, (tmp_path / "results").glob("2*"))}
    assert {seed: record.outcome for seed, record in records.items()} == {0: "reached", 1: "crashed"}
    assert "seed=0: reached in " in done.stdout
    assert "seed=1: crashed: ValueError: not with this seed" in done.stdout
    jobs = {str(record.job.id) for record in records.values() if record.job is not None}
    (array,) = {job.partition("_")[0] for job in jobs}
    assert jobs == {f"{array}_0", f"{array}_1"}
    states = cluster.run("squeue", "-h", "-r", "-t", "all", f"--jobs={array}", "-o", "%i %T").stdout.split("\n")
    assert f"{array}_{records[1].job and records[1].job.id[-1]} FAILED" in states
    assert not list((tmp_path / "sweep").rglob("*result*")), "no result is pickled"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(signal.SIGUSR2, "the time limit of its job was near"), (signal.SIGTERM, "ended from outside")],
)
def test_a_job_that_is_ended_leaves_a_record_that_blames_nobody(
    sent: signal.Signals,
    reason: str,
    tmp_path: Path,
    submission: Callable[..., Path],
    kit_command: Callable[..., list[str]],
) -> None:
    """A scheduler signals all processes of a job, the referee last."""
    folder = submission(f"{SETUP_NOTHING}\nimport time\ndef train(run, state):\n    time.sleep(600)\n")
    command = subprocess.Popen(
        kit_command(f"submission={folder}", "loader=torch", "device=cpu"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    for line in command.stdout:
        if "the clock runs" in line:
            break
    for process in reversed(psutil.Process(command.pid).children(recursive=True)):
        process.send_signal(sent)
    command.send_signal(sent)
    command.communicate()
    assert command.returncode == 130
    (run,) = (tmp_path / "results").glob("2*")
    record = read_record(run)
    assert (record.outcome, record.reason) == ("cancelled", reason)
