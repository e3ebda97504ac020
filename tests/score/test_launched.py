"""What the caller of jobs makes of a job that came to nothing, without a cluster."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import LEARNS, make_track, prepare_tiny, write_submission

from kit.errors import KitError
from kit.results.events import Started
from kit.results.record import HiddenLabels, Official, SchedulerJob
from kit.score import launched
from kit.score.claims import Claim, claim_path, losses
from kit.score.entrants import Entrant, open_entrants
from kit.score.launched import Places, score_with_slurm
from kit.score.ledger import KILLED_DIR, RunKey
from kit.score.race import Scoring
from kit.score.seeds import seeds
from kit.slurm import fleet
from kit.slurm.queue import JobState
from kit.slurm.settings import SlurmSettings, read_settings

SECRET = bytes(range(32))


class Scene:
    """A scoring of one run, in which job 5 is submitted and ends without a record."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, settings: SlurmSettings) -> None:
        (self.entrant,) = self._entrants(folder)
        self.settings = settings
        self.scoring = Scoring(
            track=make_track(),
            prepared=prepare_tiny(folder / "data"),
            seeds=1,
            secret=SECRET,
            splits=["published"],
            device="cpu",
            loader="torch",
            isolation="process",
            results_dir=folder / "results",
        )
        self.places = Places(folder / "data", folder / "secret")
        self.live: set[str] = set()
        self.submitted = 0
        self.claimant = "5"
        self.said: list[str] = []
        monkeypatch.setattr(launched, "require_slurm", lambda: None)
        monkeypatch.setattr(launched, "live_jobs", lambda: self.live)
        monkeypatch.setattr(launched, "submit", self._submit)
        monkeypatch.setattr(fleet, "jobs_named", self._jobs_named)
        monkeypatch.setattr(fleet, "max_array_size", lambda: 1001)

    def _entrants(self, folder: Path) -> list[Entrant]:
        path = write_submission(folder / "learns", LEARNS)
        return open_entrants([path], make_track(), folder / "opened", pytest.fail)

    @property
    def claim(self) -> Path:
        return claim_path(self.scoring.results_dir, RunKey(self.entrant.info.source_sha256, "published", 0))

    @property
    def run_dir(self) -> Path:
        (seed,) = seeds(SECRET, make_track(), 1)
        return self.scoring.results_dir / f"20261125T120000Z-tiny-learns-s{seed}-abcdef"

    def _submit(self, commands: Sequence[Any], settings: SlurmSettings, name: str, folder: Path) -> list[str]:
        self.submitted += 1
        if self.submitted == 1:
            self._begin(SchedulerJob(scheduler="slurm", id=self.claimant, restarts=0))
        return ["5"]

    def _begin(self, job: SchedulerJob) -> None:
        """A job claims the run and begins it."""
        self.claim.parent.mkdir(parents=True, exist_ok=True)
        self.claim.write_text(Claim(job=job, host="node", pid=1).model_dump_json())
        self.run_dir.mkdir()
        event = Started(
            run_id=self.run_dir.name,
            submission="learns",
            seed=0,
            track=make_track(),
            device="cpu",
            official=Official(
                pack_sha256=None,
                split="published",
                seed_index=0,
                seeds=1,
                calibration=None,
                labels=HiddenLabels(images=200, chance=0.1, groups=10),
            ),
            job=job,
        )
        (self.run_dir / "events.jsonl").write_text(event.model_dump_json() + "\n")

    def _jobs_named(self, names: set[str]) -> dict[tuple[str, int], JobState]:
        return {(name, 0): JobState(name, "5", "FAILED", "node", "None") for name in names}

    def score(self) -> int:
        return score_with_slurm([self.entrant], self.scoring, self.places, self.settings, self.said.append)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    nothing = ("partition", "account", "qos", "constraint", "exclude", "nodelist")
    settings: dict[str, Any] = {
        **dict.fromkeys((*nothing, "gpus_per_node", "cpus_per_task", "mem_gb")),
        "timeout_min": 60,
        "exclusive": True,
        "array_parallelism": 1,
        "additional_parameters": {},
        "setup": [],
        "wait": True,
        "retries": 1,
        "max_queued": 9,
        "signal_delay_s": 9,
        "poll_s": 1e-6,
        "settle_s": 0,
        "silent_s": 9,
    }
    return Scene(tmp_path, monkeypatch, read_settings(settings))


def test_what_a_killed_job_left_is_put_aside_and_the_run_is_made_again(scene: Scene) -> None:
    assert scene.score() == 1
    assert scene.submitted == 2
    assert not scene.claim.exists()
    assert [path.name for path in (scene.scoring.results_dir / KILLED_DIR).iterdir()] == [scene.run_dir.name]
    first, second = losses(scene.scoring.results_dir)
    assert (first.job, first.state, first.node, first.submission) == ("5", "FAILED", "node", "learns")
    assert first.plan != second.plan
    assert sum("it is made again" in line for line in scene.said) == 1
    assert "it is given up for now" in scene.said[-1]


def test_a_run_that_another_job_is_making_is_left_to_that_job(scene: Scene) -> None:
    scene.live, scene.claimant = {"9"}, "9"
    assert scene.score() == 1
    assert scene.claim.exists()
    assert scene.run_dir.exists()
    scene.submitted = 1
    assert scene.score() == 1
    assert scene.submitted == 1, "nothing is submitted beside it"
    assert "1 run is being made by jobs that were submitted by hand; call again to collect" in scene.said


def test_a_time_limit_that_is_shorter_than_the_tracks_is_refused(scene: Scene) -> None:
    scene.settings = scene.settings.model_copy(update={"timeout_min": 3})
    with pytest.raises(KitError, match=r"timeout_min=3 is less than a run may take: .* allow 180 s; give at least 4"):
        scene.score()
    assert scene.submitted == 0
