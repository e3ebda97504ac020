"""Plans: runs that any scheduler's jobs make, one by one; nothing is run twice, and kit score collects."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from tiny import CRASHES, LEARNS, make_track, prepare_tiny, write_submission, write_track

from kit.errors import KitError
from kit.results.record import Device, SchedulerJob
from kit.results.signing import new_key, verify
from kit.results.store import read_record
from kit.score.claims import agree_on_device, claim_path, claimed, held_claims
from kit.score.ledger import RunKey
from kit.score.plan import Planned, Shared, read_plan, read_planned, write_plan

KEY = RunKey("0" * 64, "published", 1)
CPU = Device(type="cpu", name="a CPU", count=1, cores=2, threads=None, uuid_hash=None, driver=None, power_limit_w=None)


class Place:
    """Two submissions, and commands on them as their organizer types them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        self.plan = folder / "runs.plan"
        prepare_tiny(folder / "data")
        new_key(folder / "key.pem")
        self.good = write_submission(folder / "good", LEARNS)
        self.bad = write_submission(folder / "bad", CRASHES)
        self.track = write_track(folder)

    def score(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        places = ["--data-dir", self.folder / "data", "--results", self.results, "--track", self.track]
        how = ["--isolation", "process", "--loader", "torch", "--device", "cpu", "--seeds", 1]
        return self.kit("score", self.good, self.bad, *places, *how, *arguments)

    def task(self, number: int, job: str | None = None) -> "subprocess.CompletedProcess[str]":
        return self.kit("task", self.plan, number, job=job)

    def kit(self, *arguments: object, job: str | None = None) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        environment |= {} if job is None else {"SLURM_JOB_ID": job}
        command = [sys.executable, "-m", "kit.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_run_of_a_plan_is_made_once_and_kit_score_collects_and_signs(place: Place) -> None:
    planned = place.score("--plan", place.plan)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout == f"{place.plan}: 2 runs; kit task {place.plan} NUMBER makes each, from 0 to 1\n"
    assert [run.submission for run in read_plan(place.plan)] == ["good", "bad"]
    assert place.results.with_suffix(".secret").read_text().strip() not in place.plan.read_text()

    good, again, bad = place.task(0, job="77"), place.task(0), place.task(1)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("good, seed 0: reached in ")
    assert (again.returncode, again.stdout.startswith("good, seed 0: made before, reached in")) == (0, True)
    assert (bad.returncode, "crashed: in setup: ValueError: not today" in bad.stdout) == (1, True)
    records = [read_record(path) for path in place.results.glob("2*")]
    assert sorted(record.submission.name for record in records) == ["bad", "good"]
    jobs = {record.submission.name: record.job for record in records}
    assert jobs == {"good": SchedulerJob(scheduler="slurm", id="77", restarts=0), "bad": None}

    collected = place.score("--key", place.folder / "key.pem", "--plan", place.folder / "more.plan")
    assert collected.returncode == 0, collected.stderr
    assert "there is nothing to plan" in collected.stdout
    assert not (place.folder / "more.plan").exists()
    assert {verify(place.results / record.id).state for record in records} == {"valid"}


def test_a_plan_is_not_written_over_and_what_it_lacks_is_one_line(place: Place) -> None:
    assert place.score("--plan", place.plan).returncode == 0
    again = place.score("--plan", place.plan)
    assert (again.returncode, "there is a plan already" in again.stderr) == (2, True)
    beyond = place.task(2)
    assert (beyond.returncode, beyond.stderr) == (2, f"kit: {place.plan}: there is no run 2 in this plan\n")
    (place.good / "submission.py").write_text(f"{LEARNS}\n# faster\n")
    changed = place.task(0)
    assert (changed.returncode, changed.stderr.count("\n")) == (2, 1)
    assert "was changed since the runs were planned" in changed.stderr
    assert not list(place.results.glob("2*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hydra.launcher.retries=3"], "hydra.launcher.retries=3: there is no launcher to set; add --launcher slurm"),
        (["--launcher", "slurm", "hydra.launcher.retires=3"], "there is nothing called 'hydra.launcher.retires'"),
        (["--launcher", "slurm", "hydra.launcher.retries=-3"], "hydra.launcher.retries: Input should be greater than"),
        (["--launcher", "slurm", "--calibrate"], "--calibrate measures this machine"),
    ],
)
def test_a_mistake_about_launchers_is_one_line(place: Place, arguments: list[str], said: str) -> None:
    done = place.score(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not place.results.exists()


# ---- claims


def test_a_run_is_claimed_by_one_and_free_again_when_that_one_is_done(tmp_path: Path) -> None:
    job = SchedulerJob(scheduler="slurm", id="5_1", restarts=0)
    refused = pytest.raises(KitError, match=r"is being made by job 5_1.*nothing is run twice")
    with claimed(tmp_path, KEY, job), refused, claimed(tmp_path, KEY, None):
        pytest.fail("claimed twice")
    with claimed(tmp_path, KEY, None):
        assert claim_path(tmp_path, KEY).exists()
    assert not claim_path(tmp_path, KEY).exists()


def test_claims_of_the_dead_are_removed_and_of_those_that_may_live_are_kept(tmp_path: Path) -> None:
    job = SchedulerJob(scheduler="slurm", id="5_1", restarts=0)
    with claimed(tmp_path, KEY, job):
        assert len(held_claims(tmp_path, {"5_1"})) == 1
        assert len(held_claims(tmp_path, None)) == 1, "no queue can be asked"
        assert len(held_claims(tmp_path, {"5_2"})) == 0
        assert not claim_path(tmp_path, KEY).exists()
    with claimed(tmp_path, KEY, None):
        assert len(held_claims(tmp_path, set())) == 1, "a process that lives"


def test_a_scoring_is_on_machines_of_one_kind(tmp_path: Path) -> None:
    agree_on_device(tmp_path, CPU)
    agree_on_device(tmp_path, CPU.model_copy(update={"threads": 3}))
    with pytest.raises(KitError, match="1 x another CPU, 2 cores, not 1 x a CPU, 2 cores; ask for nodes of one kind"):
        agree_on_device(tmp_path, CPU.model_copy(update={"name": "another CPU"}))


def test_a_job_reads_of_a_plan_what_was_written(tmp_path: Path) -> None:
    shared = Shared(
        track=make_track(),
        seeds=3,
        results_dir=tmp_path / "results",
        data_dir=tmp_path / "data",
        secret=tmp_path / "secret",
        device="cpu",
        ranks=1,
        loader="torch",
        isolation="sandbox",
        cost=None,
    )
    runs = [
        Planned(
            submission=f"entry_{number}",
            path=tmp_path / f"{number}.kit.zip",
            source_sha256=f"{number:064x}",
            split="published",
            seed_index=number % 3,
            dataset_fingerprint="f",
        )
        for number in range(1000)
    ]
    write_plan(tmp_path / "a.plan", shared, runs)
    assert read_plan(tmp_path / "a.plan") == runs
    assert read_planned(tmp_path / "a.plan", 777) == (shared, runs[777])
    (tmp_path / "b.plan").write_text("nonsense\n" * 3)
    with pytest.raises(KitError, match=r"b\.plan: not a plan of this kit"):
        read_planned(tmp_path / "b.plan", 1)
