"""`kit score`: every submission with every seed, once; whatever ends it, the next call goes on."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from profiles import make_profile
from tiny import CRASHES, LEARNS, answers_of, carries, make_track, prepare_tiny, write_submission

from kit.analysis.board import Board, Row, make_board
from kit.analysis.material import read_material
from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.hardware.profile import Profile
from kit.referee.replay import count
from kit.results.record import Flops, Record
from kit.results.signing import SIGNATURE_FILE, load_key, new_key, public_key, sign, verify
from kit.results.store import read_record, write_record
from kit.score.entrants import Entrant, open_entrants
from kit.score.ledger import KILLED_DIR, exclusive
from kit.score.race import Scoring
from kit.score.score import score
from kit.score.seeds import seeds

SECRET = bytes(range(32))
SEEDS = 2


class Clock:
    """Calibrations of a machine that never changes, each with another id."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, device: str) -> Profile:
        self.calls += 1
        return make_profile(id=f"20261124T12000{self.calls}Z-made-abcdef")


@dataclass(frozen=True)
class Scene:
    """A scoring that was made once."""

    entrants: list[Entrant]
    scoring: Scoring
    said: list[str]

    @property
    def results(self) -> Path:
        return self.scoring.results_dir

    def copy(self, to: Path) -> "Scene":
        """Its results elsewhere, to go on with."""
        shutil.copytree(self.results, to)
        return replace(self, scoring=replace(self.scoring, results_dir=to), said=[])

    def go_on(self, **differently: Any) -> list[str]:
        """Score again; what was said."""
        said: list[str] = []
        score(self.entrants, replace(self.scoring, calibrate=None, **differently), said.append)
        return said


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def entrants(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> list[Entrant]:
    folder = tmp_path_factory.mktemp("entrants")
    sources = {"learns": LEARNS, "crashes": CRASHES, "carries": carries(answers_of(prepared))}
    paths = [write_submission(folder / "submissions" / name, source) for name, source in sources.items()]
    return open_entrants(paths, make_track(), folder / "opened", pytest.fail)


@pytest.fixture(scope="module")
def scene(prepared: Prepared, entrants: list[Entrant], tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("scoring")
    new_key(folder / "key.pem")
    scoring = Scoring(
        track=make_track(),
        prepared=prepared,
        seeds=SEEDS,
        secret=SECRET,
        splits=["published", "resplit", "control"],
        device="cpu",
        loader="torch",
        isolation="process",
        results_dir=folder / "results",
        key=load_key(folder / "key.pem"),
        calibrate=Clock(),
    )
    said: list[str] = []
    score(entrants, scoring, said.append)
    return Scene(entrants, scoring, said)


def records(results: Path) -> Iterator[tuple[Path, Record]]:
    """Every run, in the order of their starts."""
    found = [(path, read_record(path)) for path in results.glob("2*")]
    yield from sorted(found, key=lambda pair: pair[1].started_at)


def board_of(results: Path, **how: Any) -> Board:
    return make_board(read_material(results), **how)


def row(board: Board, name: str) -> Row:
    (table,) = board.tables
    (found,) = (row for row in table.rows if row.entry.submission == name)
    return found


def which(record: Record) -> tuple[str, str, int]:
    assert record.official is not None
    return record.submission.name, record.official.split, record.official.seed_index


def of(results: Path, name: str, split: str = "published", index: int = 0) -> Path:
    """The folder of one run."""
    (folder,) = (folder for folder, record in records(results) if which(record) == (name, split, index))
    return folder


# ---- all runs, once


def test_every_submission_is_run_with_every_seed_on_every_split_one_seed_after_another(scene: Scene) -> None:
    assert [which(record) for _, record in records(scene.results)] == [
        (name, split, index)
        for split in ("published", "resplit", "control")
        for index in range(SEEDS)
        for name in ("learns", "crashes", "carries")
    ]


def test_all_are_run_with_the_same_seeds_which_follow_from_the_secret(scene: Scene) -> None:
    expected = seeds(SECRET, make_track(), SEEDS)
    for _, record in records(scene.results):
        assert record.official is not None
        assert record.seed == expected[record.official.seed_index]


def test_one_that_crashes_stops_nobody(scene: Scene) -> None:
    outcomes = Counter((record.submission.name, record.outcome) for _, record in records(scene.results))
    assert outcomes["crashes", "crashed"] == 3 * SEEDS
    board = board_of(scene.results)
    assert row(board, "learns").rank == 1 or row(board, "carries").rank == 1
    crashed = row(board, "crashes")
    assert (crashed.rank, crashed.entry.success.value, crashed.entry.runs) == (None, 0, SEEDS)
    assert any("crashes, seed 0: crashed: in setup: ValueError: not today" in line for line in scene.said)


def test_operations_of_the_published_runs_are_counted(scene: Scene) -> None:
    for _, record in records(scene.results):
        name, split, _ = which(record)
        if name == "learns":
            assert record.flops.method == ("replay" if split == "published" else "pending")
    median = row(board_of(scene.results), "learns").entry.train_flops.median
    assert median is not None
    # One product of (10, 400) with (400, 100); a multiply-add is two operations.
    assert median.value == pytest.approx(2 * 10 * 400 * 100, rel=0.2)


def test_every_run_is_signed_by_the_key(scene: Scene) -> None:
    assert scene.scoring.key is not None
    public = public_key(scene.scoring.key)
    for folder, _ in records(scene.results):
        found = verify(folder)
        assert (found.state, found.public_key) == ("valid", public), found.because
    (signer,) = row(board_of(scene.results, names={public: "the organizers"}), "learns").signers
    assert (signer.name, signer.runs) == ("the organizers", SEEDS)


def test_calibrations_before_and_after_say_whether_the_machine_changed(scene: Scene) -> None:
    assert isinstance(scene.scoring.calibrate, Clock)
    assert scene.scoring.calibrate.calls == 2
    assert row(board_of(scene.results), "learns").calibration == "steady"
    for _, record in records(scene.results):
        assert record.official is not None
        published = record.official.split == "published"
        assert record.official.calibration == ("20261124T120001Z-made-abcdef" if published else None)


# ---- who learns, and who carries the answers


def test_who_learns_passes_on_a_new_split_and_with_shuffled_labels(scene: Scene) -> None:
    found = row(board_of(scene.results), "learns")
    assert found.resplit is not None
    assert found.control is not None
    assert (found.resplit.verdict, found.control.verdict) == ("holds", "holds")
    assert not found.flags


def test_who_carries_the_test_labels_is_flagged_by_both(scene: Scene) -> None:
    found = row(board_of(scene.results), "carries")
    assert set(found.flags) == {"control", "resplit"}


def test_the_board_ranks_published_runs_alone(scene: Scene) -> None:
    board = board_of(scene.results)
    (table,) = board.tables
    assert table.dataset_fingerprint == scene.scoring.prepared.fingerprint
    assert [row.entry.runs for row in table.rows] == [SEEDS] * 3
    assert not board.left_out


def test_data_of_other_splits_lie_where_only_their_owner_looks(scene: Scene, prepared: Prepared) -> None:
    fingerprints = {record.track.dataset_fingerprint for _, record in records(scene.results)}
    assert len(fingerprints) == 2 + SEEDS  # published, resplit, and a shuffle for each seed
    hidden = prepared.root.parent / ".scoring"
    assert hidden.stat().st_mode & 0o077 == 0


# ---- again


def test_the_same_call_again_runs_nothing_and_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    before = {path: path.stat().st_mtime_ns for path in copy.results.rglob("*") if path.is_file()}
    said = copy.go_on()
    assert said == ["18 of 18 runs are there already"]
    after = {path: path.stat().st_mtime_ns for path in copy.results.rglob("*") if path.is_file()}
    assert {path: time for path, time in after.items() if path.name != ".scoring.lock"} == {
        path: time for path, time in before.items() if path.name != ".scoring.lock"
    }


def test_a_run_that_is_gone_is_made_again_and_no_other(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    shutil.rmtree(of(copy.results, "carries", index=1))
    before = {folder for folder, _ in records(copy.results)}
    said = copy.go_on()
    (made,) = {folder for folder, _ in records(copy.results)} - before
    assert which(read_record(made)) == ("carries", "published", 1)
    assert verify(made).state == "valid"
    assert said[0] == "17 of 18 runs are there already"
    assert said[1].startswith("6 of 18: carries, seed 1: reached in")


def test_a_run_that_is_not_counted_yet_is_counted_and_not_repeated(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    folder = of(copy.results, "learns")
    (folder / SIGNATURE_FILE).unlink()
    complete = read_record(folder)
    write_record(complete.model_copy(update={"flops": Flops(method="pending")}), folder)
    copy.go_on()
    counted = read_record(of(copy.results, "learns"))
    assert counted.id == complete.id
    assert counted.time == complete.time
    assert counted.flops.train_total == complete.flops.train_total
    assert verify(folder).state == "valid"


def test_a_signed_record_is_counted_by_nobody_else(scene: Scene, tmp_path: Path) -> None:
    assert scene.scoring.key is not None
    folder = scene.copy(tmp_path / "results").results / of(scene.results, "learns").name
    write_record(read_record(folder).model_copy(update={"flops": Flops(method="pending")}), folder)
    sign(folder, scene.scoring.key)
    with pytest.raises(KitError, match="the record is signed; kit score counts it"):
        count(folder / "record.json", scene.scoring.prepared, lambda event: None)
    assert verify(folder).state == "valid"


def test_a_run_without_signature_is_signed_and_not_repeated(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    folder = of(copy.results, "crashes", "control", 1)
    (folder / SIGNATURE_FILE).unlink()
    copy.go_on()
    assert verify(folder).state == "valid"


def test_a_cancelled_run_is_made_again(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    folder = of(copy.results, "crashes")
    (folder / SIGNATURE_FILE).unlink()
    write_record(
        read_record(folder).model_copy(update={"outcome": "cancelled", "reason": "ended from outside"}), folder
    )
    assert copy.go_on()[0] == "17 of 18 runs are there already"
    again = [record.outcome for _, record in records(copy.results) if which(record) == ("crashes", "published", 0)]
    assert again == ["cancelled", "crashed"]
    board = board_of(copy.results)
    assert row(board, "crashes").entry.runs == SEEDS
    assert [(item.file, item.because) for item in board.left_out] == [
        (f"{folder.name}/record.json", "no result: ended from outside")
    ]


def test_what_a_killed_run_left_is_put_aside_and_other_peoples_runs_are_not(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    folder = of(copy.results, "crashes", index=1)
    (folder / "record.json").unlink()
    theirs = copy.results / "20261124T120000Z-tiny-theirs-s1-abcdef"
    theirs.mkdir()
    (theirs / "events.jsonl").write_text(json.dumps({"type": "started", "official": None}) + "\n")
    said = copy.go_on()
    assert not folder.exists()
    assert (copy.results / KILLED_DIR / folder.name / "events.jsonl").exists()
    assert theirs.exists()
    assert said[0] == f"{folder.name} was killed, and is made again; what it left is in {copy.results / KILLED_DIR}"
    assert said[1] == "17 of 18 runs are there already"


# ---- what is refused


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "more seeds": ({"seeds": 3}, "number of seeds was 2, now 3"),
    "another secret": ({"secret": bytes(32)}, r"seed \d \(another secret\) was"),
    "another target": ({"track": make_track(target=0.8)}, "target was 0.9, now 0.8"),
    "another version": ({"track": make_track(version=2)}, "track was tiny version 1, now tiny version 2"),
    "another loader": ({"loader": "dali"}, "loader was torch, now dali"),
    "another seal": ({"isolation": "sandbox"}, "isolation was process, now sandbox"),
}


@pytest.mark.parametrize(("differently", "message"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_other_arguments_are_refused_and_what_differs_is_said(
    scene: Scene, differently: dict[str, Any], message: str
) -> None:
    before = sorted(scene.results.iterdir())
    with pytest.raises(KitError, match=f"holds runs of another scoring .*{message}"):
        scene.go_on(**({"splits": ["published"]} | differently))
    assert sorted(scene.results.iterdir()) == before


def test_a_second_scoring_of_the_same_results_is_refused(scene: Scene) -> None:
    with exclusive(scene.results), pytest.raises(KitError, match="another kit score is at work here"):
        scene.go_on()


def test_a_record_that_was_changed_after_it_was_signed_stops_the_scoring(scene: Scene, tmp_path: Path) -> None:
    copy = scene.copy(tmp_path / "results")
    folder = of(copy.results, "learns")
    record = folder / "record.json"
    record.write_bytes(record.read_bytes().replace(b'"reached": true', b'"reached":  true'))
    with pytest.raises(KitError, match=rf"{folder.name}: the signature does not hold: record\.json was changed"):
        copy.go_on()
