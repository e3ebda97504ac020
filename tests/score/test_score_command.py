"""`kit score` on the command line: a mistake is one line, and nothing is made."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from tiny import LEARNS, prepare_tiny, write_submission, write_track

from kit.results.store import read_record


def kit_score(folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command on the tiny track, unsealed and not calibrated."""
    places = ["--data-dir", folder / "data", "--results", folder / "results", "--track", write_track(folder)]
    how = ["--no-calibrate", "--isolation", "process", "--loader", "torch", "--device", "cpu"]
    command = [sys.executable, "-m", "kit.cli", "score", *map(str, (*places, *how, *arguments))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    prepare_tiny(tmp_path / "data")
    write_submission(tmp_path / "good", LEARNS)
    return tmp_path


def test_one_that_is_refused_is_named_the_others_race_and_the_status_says_so(place: Path) -> None:
    done = kit_score(place, place / "good", place / "nowhere", "--seeds", 1)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        f"refused: {place / 'nowhere'}: No such file or directory",
        done.stdout.splitlines()[1],
        f"all runs are made; kit board {place / 'results'} ranks them",
    ]
    assert done.stdout.splitlines()[1].startswith("1 of 1: good, seed 0: reached in ")
    (run,) = (place / "results").glob("2*")
    record = read_record(run)
    assert record.official is not None
    assert (record.official.pack_sha256, record.official.seeds) == (None, 1)
    assert stat.S_IMODE((place / "results.secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "none of the submissions can race"),
        (["good", "--key", "nowhere.pem"], "there is no key here; kit key new"),
        (["good", "--secret", "results/a.secret"], "would lie in the results"),
        (["good", "--price", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["good", "--secret", "file/a.secret"], "cannot write a secret"),
        (["good", "--results", "file/results", "--secret", "a.secret"], "cannot write results to"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_made(place: Path, arguments: list[str], said: str) -> None:
    (place / "file").write_text("")
    given = [argument if argument.startswith("--") else place / argument for argument in arguments]
    done = kit_score(place, *given)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("kit: ")
    assert done.stderr.count("\n") == 1
    assert not list(place.glob("results/2*"))
