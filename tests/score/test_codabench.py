"""The bundle is one that Codabench loads, and its scoring program scores what it unpacks."""

import json
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from records import make_official, make_record, make_results
from support import ROOT, kit
from tiny import LEARNS, write_submission

from kit.analysis.scoring import summarize
from kit.catalog import load_track
from kit.errors import KitError
from kit.results.record import Flops, Record
from kit.score.codabench.bundle import write_bundle
from kit.score.codabench.program import scores_of
from kit.score.codabench.settings import SETTINGS_FILE, Settings
from kit.submission.pack import pack

IMAGE = "example.org/kit:0.1.0"
GRANTED = {"index", "name", "description", "input_data", "reference_data", "ingestion_program", "scoring_program"}


def make_run(track: str = "digits", seeds: int = 1, target: float | None = None, **differently: Any) -> Record:
    """An organizer's run on the CPU of a track that ships with the kit, or of one like it with another target."""
    race = load_track(track)
    fingerprint = race.dataset_fingerprint or "f" * 64
    raced = race.model_dump() | {"limits": race.limits, "dataset_fingerprint": fingerprint}
    raced |= {} if target is None else {"target": target}
    told = make_record().track.model_copy(update=raced)
    return make_record(**{"track": told, "official": make_official(seeds=seeds)} | differently)


def unpack_bundle(path: Path, target: Path) -> dict[str, Any]:
    """Unpack as Codabench does, and check what its unpacker of version 2 asks for; returns competition.yaml."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
    competition = yaml.safe_load((target / "competition.yaml").read_bytes())
    assert competition["version"] == 2
    assert competition["title"]
    assert competition["docker_image"]
    for file in (competition["image"], competition["terms"], *(page["file"] for page in competition["pages"])):
        assert (target / file).stat().st_size > 0, file
    (task,) = competition["tasks"]
    assert task.keys() <= GRANTED
    assert {"index", "name", "scoring_program"} <= task.keys()
    for key in ("scoring_program", "reference_data"):
        assert task[key].endswith("/"), "without a slash the zip lands beside the bundle"
        assert (target / task[key]).is_dir()
    (phase,) = competition["phases"]
    assert isinstance(phase["start"], str), "a date that YAML reads loses its time of day"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", phase["start"])
    assert phase["tasks"] == [task["index"]]
    assert phase["execution_time_limit"] > 0
    (board,) = competition["leaderboards"]
    assert {"title", "key", "columns"} <= board.keys()
    assert [column["index"] for column in board["columns"]] == list(range(len(board["columns"])))
    assert all(column["sorting"] in ("asc", "desc") for column in board["columns"])
    return competition  # type: ignore[no-any-return]


@pytest.mark.parametrize("track", ["digits", "cifar10", "imagenet_mlperf"])
def test_a_bundle_is_one_that_codabench_loads(track: str, tmp_path: Path) -> None:
    write_bundle(make_run(track, seeds=3), tmp_path / "bundle.zip", IMAGE)
    competition = unpack_bundle(tmp_path / "bundle.zip", tmp_path / "at")
    assert competition["docker_image"] == IMAGE
    first = competition["leaderboards"][0]["columns"][0]
    assert (first["key"], first["sorting"]) == ("seconds", "asc")
    settings = Settings.model_validate_json((tmp_path / "at/reference_data" / SETTINGS_FILE).read_bytes())
    assert (settings.track.name, settings.seeds, settings.isolation, settings.device) == (track, 3, "process", "cpu")
    limits = settings.track.limits
    assert competition["phases"][0]["execution_time_limit"] >= 3 * (limits.setup_s + limits.run_s)


def test_two_bundles_have_secrets_of_their_own_and_entrants_see_neither(tmp_path: Path) -> None:
    secrets = set()
    for number in range(2):
        write_bundle(make_run(), tmp_path / f"{number}.zip", IMAGE)
        competition = unpack_bundle(tmp_path / f"{number}.zip", tmp_path / str(number))
        settings = (tmp_path / str(number) / "reference_data" / SETTINGS_FILE).read_text()
        secrets.add(json.loads(settings)["secret"])
        assert "input_data" not in competition["tasks"][0]
        pages = "".join(path.read_text() for path in (tmp_path / str(number) / "pages").iterdir())
        assert not any(secret in pages for secret in secrets)
    assert len(secrets) == 2


def test_what_a_record_says_of_itself_is_no_markup_on_the_page(tmp_path: Path) -> None:
    submission = make_record().submission.model_copy(update={"name": "<script>\n# x"})
    write_bundle(make_run(submission=submission), tmp_path / "bundle.zip", IMAGE)
    unpack_bundle(tmp_path / "bundle.zip", tmp_path / "at")
    page = (tmp_path / "at/pages/overview.md").read_text()
    assert "<script>" not in page
    assert "\n# x" not in page


def test_a_bundle_needs_an_image_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with pytest.raises(KitError, match="expected the name of a container image"):
        write_bundle(make_run(), path, "two words")
    path.write_text("mine")
    with pytest.raises(KitError, match="is there already"):
        write_bundle(make_run(), path, IMAGE)
    assert path.read_text() == "mine"


def test_scores_are_finite_numbers_that_a_board_there_can_hold() -> None:
    results = make_results(3.0, 1.0, 2.0, flops=Flops(method="replay", train_total=10**15, trusted=True))
    scores = scores_of(summarize(results), sealed=True)
    assert scores == {"seconds": 2, "reached": 1, "expected_s": 2, "train_teraflop": 1000, "sealed": 1}
    missed = scores_of(summarize(make_results(3.0, None, None)), sealed=False)
    assert missed == {"reached": pytest.approx(1 / 3), "expected_s": 23, "sealed": 0}
    huge = make_results(1.0, flops=Flops(method="replay", train_total=10**23, trusted=True))
    assert "train_teraflop" not in scores_of(summarize(huge), sealed=False)


# ---- the scoring program, as a worker runs it


def worker(tmp_path: Path, run: Record, handed_in: Path | None) -> Path:
    """What a worker lays out for the scoring step: the unpacked bundle, and the unpacked submission in input/res."""
    write_bundle(run, tmp_path / "bundle.zip", IMAGE)
    unpack_bundle(tmp_path / "bundle.zip", tmp_path / "app/program_of_bundle")
    (tmp_path / "app/input").mkdir()
    (tmp_path / "app/program_of_bundle/reference_data").rename(tmp_path / "app/input/ref")
    (tmp_path / "app/program_of_bundle/scoring_program").rename(tmp_path / "app/program")
    (tmp_path / "app/input/res").mkdir()
    (tmp_path / "app/output").mkdir()
    if handed_in is not None:
        with zipfile.ZipFile(handed_in) as archive:
            archive.extractall(tmp_path / "app/input/res")
    return tmp_path / "app"


def score(app: Path) -> subprocess.CompletedProcess[str]:
    """Run the program's command where a worker would, with this machine's places for the container's."""
    command = yaml.safe_load((app / "program/metadata.yaml").read_text())["command"]
    python, *arguments = [part.replace("/app/", f"{app}/") for part in shlex.split(command)]
    assert python == "python3"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=app / "program",
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(app)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_scoring_program_runs_a_pack_and_writes_its_scores(tmp_path: Path) -> None:
    learns = write_submission(tmp_path / "class_means", LEARNS, tracks=["digits"])
    pack(learns, tmp_path / "entry.kit.zip")
    app = worker(tmp_path, make_run(seeds=1, target=0.8), tmp_path / "entry.kit.zip")
    done = score(app)
    assert done.returncode == 0, done.stdout + done.stderr
    scores = json.loads((app / "output/scores.json").read_text())
    (record,) = (app / "output/records").glob("2*/record.json")
    content = json.loads(record.read_text())
    assert content["official"]["split"] == "published"
    assert scores["reached"] == 1
    assert scores["seconds"] == pytest.approx(content["time"]["to_target_s"])
    assert scores["train_teraflop"] == pytest.approx(content["flops"]["train_total"] / 1e12)
    assert scores["sealed"] == 0
    columns = yaml.safe_load((app / "program_of_bundle/competition.yaml").read_text())["leaderboards"][0]["columns"]
    assert scores.keys() <= {column["key"] for column in columns}
    secret = json.loads((app / "input/ref" / SETTINGS_FILE).read_text())["secret"]
    shown = [path for path in (app / "output").rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert shown == []


def test_what_is_no_pack_is_refused_with_the_reason_and_no_scores(tmp_path: Path) -> None:
    app = worker(tmp_path, make_run(), None)
    (app / "input/res/scores.json").write_text('{"seconds": 0.001}')
    done = score(app)
    assert done.returncode == 1
    assert "kit: not a pack: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (app / "output/scores.json").exists()


def test_a_pack_for_another_track_is_refused(tmp_path: Path) -> None:
    pack(ROOT / "baselines/glyphs_cnn", tmp_path / "entry.kit.zip")
    done = score(worker(tmp_path, make_run(), tmp_path / "entry.kit.zip"))
    assert done.returncode == 1
    assert "not track 'digits'" in done.stderr


def test_a_bundle_of_another_version_of_the_kit_is_refused(tmp_path: Path) -> None:
    app = worker(tmp_path, make_run(), None)
    settings = app / "input/ref" / SETTINGS_FILE
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"kit_version": "0.0.1"}))
    done = score(app)
    assert done.returncode == 1
    assert "the bundle was written by kit 0.0.1" in done.stderr


def test_codabench_is_exported_from_a_record_with_an_image(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(make_run().model_dump_json())
    without = kit("export", "record.json", "--format", "codabench", "-o", "b.zip", cwd=tmp_path)
    assert (without.returncode, "with --image" in without.stderr) == (2, True)
    done = kit("export", "record.json", "--format", "codabench", "-o", "b.zip", "--image", IMAGE, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "b.zip\n")
    assert zipfile.is_zipfile(tmp_path / "b.zip")
