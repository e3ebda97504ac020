"""Prepared data: split as the track says, hidden labels apart, damage found."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from support import ROOT

from kit.data.prepared import PublicArrays, prepare, read
from kit.data.sources import digits
from kit.errors import KitError
from kit.track import Track

DIGITS = Track.model_validate(yaml.safe_load((ROOT / "conf/track/digits.yaml").read_text()))


def test_the_digits_are_split_by_class_and_none_is_lost_or_doubled() -> None:
    from sklearn.datasets import load_digits

    raw = digits.load()
    assert len(raw.train_labels) == 1000
    assert len(raw.test_labels) == 797
    everything = np.concatenate([raw.train_images, raw.test_images]).reshape(1797, 64)
    original = (load_digits().data * (255 / 16)).round()
    assert sorted(map(tuple, everything)) == sorted(map(tuple, original))
    share = np.bincount(raw.train_labels) / np.bincount(np.concatenate([raw.train_labels, raw.test_labels]))
    assert np.abs(share - 1000 / 1797).max() < 0.01


def test_the_order_of_test_images_tells_nothing_of_their_labels() -> None:
    labels = digits.load().test_labels
    same_as_next = (labels[1:] == labels[:-1]).mean()
    assert 0.05 < same_as_next < 0.15
    assert abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1]) < 0.1


def test_preparation_gives_the_fingerprint_of_the_track_every_time(tmp_path: Path) -> None:
    first = prepare(DIGITS, tmp_path / "one")
    second = prepare(DIGITS, tmp_path / "two")
    assert first.fingerprint == second.fingerprint == DIGITS.dataset_fingerprint


def test_the_public_folder_holds_no_test_labels(tmp_path: Path) -> None:
    prepared = prepare(DIGITS, tmp_path)
    labels = prepared.test_labels()
    files = sorted(path.relative_to(prepared.public_dir).as_posix() for path in prepared.public_dir.rglob("*"))
    assert files == ["test_images.npy", "train_images.npy", "train_labels.npy"]
    for path in prepared.public_dir.iterdir():
        content = path.read_bytes()
        for kind in (np.uint8, np.int16, np.int32, np.int64):
            assert labels.astype(kind).tobytes() not in content


def test_a_preparation_that_was_killed_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    prepared = prepare(DIGITS, tmp_path)
    (prepared.root / "dataset.json").rename(tmp_path / "elsewhere")
    with pytest.raises(KitError, match=r"dataset\.json"):
        read(prepared.root)


@pytest.mark.parametrize("name", ["public/train_images.npy", "public/test_images.npy", "private/test_labels.npy"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_file_is_found_and_named(name: str, damage: str, tmp_path: Path) -> None:
    path = prepare(DIGITS, tmp_path).root / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        content[-1] ^= 1
        path.write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(KitError, match=name):
        prepare(DIGITS, tmp_path)


@pytest.mark.parametrize("content", ["", "{", '{"spec": 1}', "[]"])
def test_a_damaged_description_is_named(content: str, tmp_path: Path) -> None:
    root = prepare(DIGITS, tmp_path).root
    (root / "dataset.json").write_text(content)
    with pytest.raises(KitError, match=r"dataset\.json"):
        prepare(DIGITS, tmp_path)


def test_data_of_another_fingerprint_is_refused(tmp_path: Path) -> None:
    other = DIGITS.model_copy(update={"dataset_fingerprint": "0" * 64})
    with pytest.raises(KitError, match="fingerprint"):
        prepare(other, tmp_path)
    assert prepare(other.model_copy(update={"dataset_fingerprint": None}), tmp_path).fingerprint


def test_an_unknown_dataset_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no dataset 'nothing'; known: digits"):
        prepare(DIGITS.model_copy(update={"dataset": "nothing"}), tmp_path)


def test_the_public_folder_is_read_through_its_descriptor(tmp_path: Path) -> None:
    import os

    prepared = prepare(DIGITS, tmp_path)
    descriptor = os.open(prepared.public_dir, os.O_RDONLY)
    arrays = PublicArrays(descriptor)
    os.close(descriptor)
    shutil.rmtree(prepared.root)
    assert arrays.train_images.shape == (1000, 1, 8, 8)
    assert arrays.test_images.shape == (797, 1, 8, 8)
