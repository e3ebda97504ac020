"""Synthetic data come in the published formats and are read by the same code as the published data."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kit.data.sources import ImageEntry, cifar10, imagenet
from kit.data.synthesize import write_cifar10, write_imagenet
from kit.errors import KitError


def content(entry: ImageEntry) -> bytes:
    with open(entry.container, "rb") as file:
        file.seek(entry.offset)
        return file.read(entry.size)


def test_a_synthetic_cifar10_is_one_in_both_versions(tmp_path: Path) -> None:
    paths = [write_cifar10(tmp_path, train=123, test=40, binary=binary) for binary in (False, True)]
    assert [path.name for path in paths] == [cifar10.PYTHON.archive, cifar10.BINARY.archive]
    one, other = (cifar10.load(path, rehearsal=True, download_dir=None) for path in paths)
    assert one.train_images.shape == (123, 3, 32, 32)
    assert one.test_images.shape == (40, 3, 32, 32)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert np.bincount(one.test_labels).tolist() == [4] * 10


@pytest.mark.parametrize("binary", [False, True])
def test_the_same_call_writes_the_same_archive(tmp_path: Path, binary: bool) -> None:
    digests = {
        hashlib.sha256(write_cifar10(tmp_path / name, train=10, test=5, binary=binary).read_bytes()).hexdigest()
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_a_synthetic_imagenet_is_one_as_tree_and_as_tars(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    tree = write_imagenet(
        tmp_path / "tree", classes=3, train=7, test=5, tell=lambda done, total: told.append((done, total))
    )
    tars = write_imagenet(tmp_path / "tars", classes=3, train=7, test=5, tars=True)
    one, other = (imagenet.find(path, rehearsal=True) for path in (tree, tars))
    for split in ("train", "test"):
        ours, theirs = ([(e.name, e.label, content(e)) for e in getattr(raw, split)] for raw in (one, other))
        assert ours == theirs
    assert [entry.label for entry in one.train] == [0, 0, 0, 1, 1, 2, 2]
    assert told[-1] == (12, 12)
    assert sorted(path.name for path in tars.iterdir()) == sorted(
        [imagenet.TRAIN_TAR, imagenet.VAL_TAR, imagenet.SYNSETS[0]]
    )


def test_synthetic_jpegs_have_sizes_as_imagenet_has(tmp_path: Path) -> None:
    raw = imagenet.find(write_imagenet(tmp_path / "tree", classes=2, train=24, test=2), rehearsal=True)
    images = [Image.open(io.BytesIO(content(entry))) for entry in raw.train]
    assert {image.format for image in images} == {"JPEG"}
    sizes = [image.size for image in images]
    assert len(set(sizes)) > 20
    assert all(330 <= min(size) <= 420 and 460 <= max(size) <= 540 for size in sizes)
    assert 0 < sum(width < height for width, height in sizes) < 12


def test_more_classes_than_letters_have_two_letters(tmp_path: Path) -> None:
    raw = imagenet.find(write_imagenet(tmp_path / "tree", classes=28, train=28, test=28), rehearsal=True)
    assert len(raw.class_names) == 28
    assert len({content(entry) for entry in raw.train}) == 28


WRITERS: dict[str, Callable[[Path], Any]] = {
    "cifar10": lambda folder: write_cifar10(folder, train=5, test=1),
    "imagenet": lambda folder: write_imagenet(folder / "tree", classes=2, train=2, test=2),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_there_is_not_written_over(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path)
    with pytest.raises(KitError, match="is there already"):
        WRITERS[kind](tmp_path)


@pytest.mark.parametrize("kind", WRITERS)
def test_an_interrupted_writer_leaves_nothing_that_looks_whole(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kit.data.synthesize.spread", stopped)
        with pytest.raises(KeyboardInterrupt):
            WRITERS[kind](tmp_path)
    assert not any(tmp_path.iterdir())
    WRITERS[kind](tmp_path)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="at least 5 training images"):
        write_cifar10(tmp_path, train=4, test=1)
    for classes in (1, 4):
        with pytest.raises(KitError, match="2 classes or more"):
            write_imagenet(tmp_path / "tree", classes=classes, train=3, test=3)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match="cannot write"):
        write_cifar10(tmp_path / "file" / "folder", train=5, test=1)
