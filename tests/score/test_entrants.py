"""What may race: opened and checked before the first run, and fixed from then on."""

from pathlib import Path

import pytest
from tiny import LEARNS, make_track, write_submission

from kit.errors import KitError
from kit.results.source import source_sha256
from kit.score.entrants import Entrant, open_entrants
from kit.submission.pack import encode, pack, read_pack


def opened(tmp_path: Path, *paths: Path) -> tuple[list[Entrant], list[str]]:
    refused: list[str] = []
    return open_entrants(paths, make_track(), tmp_path / "opened", refused.append), refused


def test_a_folder_is_copied_so_that_later_changes_do_not_race(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "mine", LEARNS, config={"lr": 0.5})
    (folder / "__pycache__").mkdir()
    (folder / ".notes").write_text("mine alone")
    (entrant,), refused = opened(tmp_path, folder)
    (folder / "submission.py").write_text("raise SystemExit")
    assert not refused
    assert (entrant.folder / "submission.py").read_text() == LEARNS
    assert sorted(path.name for path in entrant.folder.iterdir()) == ["submission.py", "submission.yaml"]
    assert (entrant.info.name, entrant.info.config, entrant.pack_sha256) == ("mine", {"lr": 0.5}, None)


def test_who_cannot_race_is_named_and_the_others_race(tmp_path: Path) -> None:
    good = write_submission(tmp_path / "good", LEARNS)
    elsewhere = write_submission(tmp_path / "elsewhere", LEARNS, tracks=["digits"])
    twice = write_submission(tmp_path / "copy" / "good", LEARNS)
    broken = write_submission(tmp_path / "broken", LEARNS, authors=[])
    entrants, refused = opened(tmp_path, good, elsewhere, tmp_path / "nowhere", twice, broken)
    assert [entrant.info.name for entrant in entrants] == ["good"]
    assert len(refused) == 4
    assert "'elsewhere' enters digits, not track 'tiny'" in refused[0]
    assert f"{tmp_path / 'nowhere'}: No such file or directory" in refused[1]
    assert f"{twice}: the same submission as one before" in refused[2]
    assert "authors" in refused[3]


def test_without_anybody_who_can_race_there_is_no_race(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="none of the submissions can race"):
        opened(tmp_path, tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "mine", LEARNS)
    (folder / "loop").symlink_to(folder / "loop")
    good = write_submission(tmp_path / "good", LEARNS)
    (entrant,), (refusal,) = opened(tmp_path, folder, good)
    assert entrant.info.name == "good"
    assert str(folder / "loop") in refusal


def test_a_pack_is_unpacked_and_known_by_its_hash(tmp_path: Path) -> None:
    folder = write_submission(tmp_path / "mine", LEARNS)
    path, packed = pack(folder, tmp_path / "mine.kit.zip")
    (entrant,), refused = opened(tmp_path, path, folder)
    assert entrant.pack_sha256 == packed.sha256
    assert entrant.info.source_sha256 == packed.source_sha256 == source_sha256(folder) == source_sha256(entrant.folder)
    assert refused == [f"{folder}: the same submission as one before; it races once"]


def test_a_pack_with_one_changed_byte_is_refused(tmp_path: Path) -> None:
    path, _ = pack(write_submission(tmp_path / "mine", LEARNS), tmp_path / "mine.kit.zip")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"import torch", b"import trick", 1))
    with pytest.raises(KitError, match="none"):
        opened(tmp_path, path)
    _, (refusal,) = opened(tmp_path, path, write_submission(tmp_path / "good", LEARNS))
    assert f"{path}: refused: " in refusal


def test_a_pack_that_was_written_by_hand_is_checked(tmp_path: Path) -> None:
    path, _ = pack(write_submission(tmp_path / "mine", LEARNS), tmp_path / "mine.kit.zip")
    path.write_bytes(encode(read_pack(path).files | {"submission.py": b"def train(:\n"}))
    _, (refusal,) = opened(tmp_path, path, write_submission(tmp_path / "good", LEARNS))
    assert refusal.startswith(f"{path}: submission.py:1: ")
