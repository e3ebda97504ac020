"""The state of prepared data: whole, absent, damaged in every way, interrupted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.catalog import load_track
from kit.data.preparation import prepare
from kit.data.sources import Request
from kit.doctor.data import prepared_data
from kit.doctor.finding import Finding


@pytest.fixture
def digits(tmp_path: Path, data_dir: Path) -> Path:
    """Prepared digits of the test's own."""
    prepared = prepare(load_track("digits"), data_dir, Request())
    return Path(shutil.copytree(prepared.root, tmp_path / "digits"))


def look(data_dir: Path, *tracks: str) -> list[Finding]:
    return list(prepared_data([load_track(name) for name in tracks], data_dir))


def test_whole_data_are_told_with_their_tracks(digits: Path) -> None:
    (finding,) = look(digits.parent, "digits")
    assert (finding.name, finding.status) == ("data digits", "ok")
    assert finding.found.endswith("MB, for digits")


def test_tracks_of_one_dataset_share_a_row(tmp_path: Path) -> None:
    findings = look(tmp_path, "cifar10", "digits", "cifar10_96")
    assert [finding.name for finding in findings] == ["data cifar10", "data digits"]
    assert [finding.status for finding in findings] == ["missing", "missing"]
    assert findings[0].found == "not prepared, for cifar10, cifar10_96"
    assert findings[0].advice is not None
    assert "kit data prepare cifar10" in findings[0].advice


def flip_a_byte(root: Path) -> None:
    path = max((root / "public").rglob("*.npy"), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(root: Path) -> None:
    path = next((root / "public").rglob("*.npy"))
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (flip_a_byte, "damaged"),
        (cut, "damaged"),
        (lambda root: (root / "private" / "test_labels.npy").unlink(), "No such file"),
        (lambda root: (root / "dataset.json").write_text("{"), "dataset.json"),
    ],
    ids=["a flipped bit", "a cut file", "a lost file", "a broken description"],
)
def test_damaged_data_are_told_with_what_to_remove(harm: Callable[[Path], object], found: str, digits: Path) -> None:
    harm(digits)
    (finding,) = look(digits.parent, "digits")
    assert finding.status == "warning"
    assert found in finding.found
    assert finding.advice == f"remove {digits}, then kit data prepare digits"


def test_half_prepared_data_go_on(tmp_path: Path) -> None:
    (tmp_path / ".digits.partial").mkdir()
    (finding,) = look(tmp_path, "digits")
    assert finding.status == "missing"
    assert finding.advice == "kit data prepare digits goes on where it stopped"
