"""`kit score --launcher slurm` on a real SLURM: whatever happens to jobs, every run is made, and made once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from slurm_cluster import Cluster
from support import ROOT
from tiny import LEARNS, prepare_tiny, write_submission, write_track

from kit.analysis.board import make_board
from kit.analysis.material import read_material
from kit.hardware.turn import FOLDER_VARIABLE
from kit.results.record import Record
from kit.results.signing import new_key, verify
from kit.results.store import read_record
from kit.score.claims import CLAIMS_DIR, JOBS_DIR, losses
from kit.score.ledger import KILLED_DIR

WAIT_S = 600
LOOK_S = 0.1


def waits(gate: Path) -> str:
    """A submission that learns when a file is there, with the clock running."""
    return LEARNS.replace("def train(run, state):\n", f"def train(run, state):\n    wait('{gate}')\n").replace(
        "def setup(run):",
        "def wait(gate):\n    import os, time\n    while not os.path.exists(gate):\n        time.sleep(0.05)\n\n\n"
        "def setup(run):",
    )


class Scoring:
    """`kit score` on the tiny track, as an organizer types it."""

    def __init__(self, folder: Path, cluster: Cluster, submissions: dict[str, str], seeds: int) -> None:
        self.results = folder / "results"
        self._environment = os.environ | cluster.environment | {"PYTHONPATH": str(ROOT)}
        prepare_tiny(folder / "data")
        new_key(folder / "key.pem")
        paths = [write_submission(folder / "submissions" / name, source) for name, source in submissions.items()]
        track = write_track(folder, limits={"setup_s": WAIT_S, "run_s": WAIT_S})
        self._line = [
            *(sys.executable, "-m", "kit.cli", "score", *map(str, paths), "--track", str(track)),
            *("--data-dir", str(folder / "data"), "--results", str(self.results), "--key", str(folder / "key.pem")),
            *("--seeds", str(seeds), "--isolation", "process", "--loader", "torch"),
        ]

    def start(self, *how: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self._line, *how], cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def slurm(self, **settings: Any) -> list[str]:
        # Each job with locks of its own, as on a node of its own: otherwise they would take turns.
        own_locks = f"['export {FOLDER_VARIABLE}=$(mktemp -d -p {self.results.parent})']"
        quick = {"exclusive": False, "poll_s": 0.2, "settle_s": 2, "setup": own_locks} | settings
        return ["--launcher", "slurm", *(f"hydra.launcher.{name}={value!s}" for name, value in quick.items())]

    def finish(self, *how: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*how)
        output, _ = process.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    # ---- what is there

    def records(self) -> list[Record]:
        return [read_record(path.parent) for path in sorted(self.results.glob("2*/record.json"))]

    def made(self) -> Counter[tuple[str, int]]:
        """How often each run has a result."""
        results = [record for record in self.records() if record.outcome != "cancelled"]
        return Counter((record.submission.name, record.official.seed_index) for record in results if record.official)

    def running(self, submission: str) -> dict[int, tuple[str, Path]]:
        """Runs whose clock runs: job and folder, by number of the seed."""
        found = {}
        for path in self.results.glob(f"2*-{submission}-*/events.jsonl"):
            events = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if events and events[-1]["type"] == "clock_started" and not (path.parent / "record.json").exists():
                found[events[0]["official"]["seed_index"]] = events[0]["job"]["id"], path.parent
        return found

    def began(self) -> int:
        """Runs that were ever started."""
        return len(list(self.results.glob("2*"))) + len(list((self.results / KILLED_DIR).glob("2*")))


def until(true: Callable[[], bool], scoring: "subprocess.Popen[str] | None" = None) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        assert scoring is None or scoring.poll() is None, scoring.communicate()[0]
        time.sleep(LOOK_S)


def referee_of(job: str, results: Path) -> psutil.Process:
    """The process that a job is; what it forked looks like it, and is younger."""

    def matching() -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                environment, command = process.environ(), process.cmdline()
            except psutil.Error:
                continue
            array, place = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
            its_job = environment.get("SLURM_JOB_ID") if array is None else f"{array}_{place}"
            if its_job == job and "task" in command and any(word.startswith(str(results)) for word in command):
                yield process

    return min(matching(), key=psutil.Process.create_time)


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_S)
def test_one_job_cancelled_one_trainer_and_one_referee_killed_and_the_board_is_complete_and_right(
    tmp_path: Path, cluster: Cluster, gate: Path
) -> None:
    scoring = Scoring(tmp_path, cluster, {"held": waits(gate), "first": LEARNS, "second": f"{LEARNS}\n#\n"}, seeds=3)
    command = scoring.start(*scoring.slurm())
    try:
        until(lambda: len(scoring.running("held")) == 3, command)
        held = scoring.running("held")
        cluster.run("scancel", held[0][0])
        trainer = referee_of(held[1][0], scoring.results).children(recursive=True)[-1]
        trainer.kill()
        referee_of(held[2][0], scoring.results).kill()
        until(lambda: len(losses(scoring.results)) == 2 and (held[1][1] / "record.json").exists(), command)
        gate.touch()
        output, _ = command.communicate(timeout=WAIT_S)
    finally:
        command.kill()
    assert command.returncode == 0, output
    assert "all runs are made" in output

    every = {(name, seed): 1 for name in ("held", "first", "second") for seed in range(3)}
    assert scoring.made() == every
    outcomes = Counter((record.submission.name, record.outcome) for record in scoring.records())
    assert outcomes == {
        ("first", "reached"): 3,
        ("second", "reached"): 3,
        ("held", "reached"): 2,
        ("held", "crashed"): 1,
        ("held", "cancelled"): 1,
    }
    assert scoring.began() == len(every) + 2, "something ran twice"
    (aside,) = (scoring.results / KILLED_DIR).iterdir()
    assert aside.name == held[2][1].name
    assert {(loss.seed_index, loss.job) for loss in losses(scoring.results)} == {(0, held[0][0]), (2, held[2][0])}
    assert "made again" in output
    jobs = [record.job for record in scoring.records()]
    assert all(job is not None and job.restarts == 0 for job in jobs)

    for record in scoring.records():
        if record.outcome != "cancelled":
            assert verify(scoring.results / record.id).state == "valid"
    board = make_board(read_material(scoring.results))
    (table,) = board.tables
    rows = {row.entry.submission: (row.entry.runs, row.entry.success.value) for row in table.rows}
    assert rows == {"first": (3, 1.0), "second": (3, 1.0), "held": (3, pytest.approx(2 / 3))}
    assert not list((scoring.results / CLAIMS_DIR).iterdir())
    assert not list((scoring.results / JOBS_DIR).glob("*.plan"))
    again = scoring.finish(*scoring.slurm())
    assert "9 of 9 runs are there already" in again.stdout
    assert scoring.made() == every


def test_runs_are_submitted_and_left_and_collected_by_the_same_command(
    tmp_path: Path, cluster: Cluster, gate: Path
) -> None:
    scoring = Scoring(tmp_path, cluster, {"held": waits(gate)}, seeds=1)
    left = scoring.finish(*scoring.slurm(wait=False))
    assert left.returncode == 0, left.stdout
    assert "1 run is with SLURM; the same command goes on" in left.stdout
    until(lambda: len(scoring.running("held")) == 1)

    again = scoring.finish(*scoring.slurm(wait=False))
    assert "submitted" not in again.stdout, "what is under way is not submitted again"
    here = scoring.finish("--no-calibrate", "--device", "cpu")
    assert here.returncode == 2
    assert "jobs of SLURM are making runs here; collect them with --launcher slurm" in here.stdout

    gate.touch()
    collected = scoring.finish(*scoring.slurm())
    assert collected.returncode == 0, collected.stdout
    (record,) = scoring.records()
    assert record.outcome == "reached"
    assert record.flops.method == "replay"
    assert verify(scoring.results / record.id).state == "valid"
    assert scoring.began() == 1
    assert not list((scoring.results / JOBS_DIR).glob("kit-*"))


@pytest.mark.slow
def test_a_plan_is_made_by_an_array_of_jobs_that_sbatch_submits(tmp_path: Path, cluster: Cluster) -> None:
    scoring, plan = Scoring(tmp_path, cluster, {"first": LEARNS}, seeds=2), tmp_path / "runs.plan"
    assert scoring.finish("--plan", str(plan), "--device", "cpu").returncode == 0
    task = f"cd {ROOT} && srun {sys.executable} -m kit.cli task {plan} $SLURM_ARRAY_TASK_ID"
    cluster.run("sbatch", "--array=0-1", "--no-requeue", f"--output={tmp_path}/%A_%a.log", "--wrap", task)
    until(lambda: not cluster.run("squeue", "-h").stdout)
    assert scoring.made() == {("first", 0): 1, ("first", 1): 1}, [log.read_text() for log in tmp_path.glob("*.log")]
    done = scoring.finish("--plan", str(tmp_path / "none.plan"), "--device", "cpu")
    assert "there is nothing to plan" in done.stdout
    assert {verify(scoring.results / record.id).state for record in scoring.records()} == {"valid"}


@pytest.mark.slow
def test_a_run_that_is_preempted_is_made_again_by_kit_alone(tmp_path: Path, cluster: Cluster, gate: Path) -> None:
    scoring = Scoring(tmp_path, cluster, {"held": waits(gate)}, seeds=1)
    command = scoring.start(*scoring.slurm())
    try:
        until(lambda: len(scoring.running("held")) == 1, command)
        cluster.run("srun", "--partition=urgent", "--exclusive", "true")
        until(lambda: len(losses(scoring.results)) == 1, command)
        gate.touch()
        output, _ = command.communicate(timeout=WAIT_S)
    finally:
        command.kill()
    assert command.returncode == 0, output
    assert scoring.made() == {("held", 0): 1}
    (loss,) = losses(scoring.results)
    assert loss.state == "PREEMPTED"
    assert scoring.began() == 2


@pytest.mark.slow
def test_who_waits_may_be_killed_and_a_run_that_is_lost_for_good_is_said_and_gives_status_1(
    tmp_path: Path, cluster: Cluster, gate: Path
) -> None:
    scoring = Scoring(tmp_path, cluster, {"held": waits(gate)}, seeds=2)
    command = scoring.start(*scoring.slurm())
    until(lambda: len(scoring.running("held")) == 2, command)
    command.kill()
    command.communicate()
    jobs = {seed: job for seed, (job, _) in scoring.running("held").items()}
    os.kill(referee_of(jobs[0], scoring.results).pid, signal.SIGKILL)
    gate.touch()
    done = scoring.finish(*scoring.slurm(retries=0))
    assert done.returncode == 1, done.stdout
    assert "given up for now" in done.stdout
    assert "1 run is not made yet" in done.stdout
    assert scoring.made() == {("held", 1): 1}
    done = scoring.finish(*scoring.slurm(retries=0))
    assert done.returncode == 0, done.stdout
    assert scoring.made() == {("held", 0): 1, ("held", 1): 1}
    assert scoring.began() == 3
