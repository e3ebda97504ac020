"""Anybody's own arrays: taken in the usual shapes, refused in one line otherwise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kit.data.sources.arrays import hidden_order, load
from kit.errors import KitError


def arrays(**differently: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    content = {
        "train_images": random.integers(0, 256, (30, 3, 6, 5), dtype=np.uint8),
        "train_labels": np.arange(30) % 4,
        "test_images": random.integers(0, 256, (20, 3, 6, 5), dtype=np.uint8),
        "test_labels": np.arange(20) % 4,
    }
    return {name: value for name, value in (content | differently).items() if value is not None}


def save(path: Path, **differently: Any) -> Path:
    np.savez(path, **arrays(**differently))
    return path


def test_images_and_labels_come_as_they_were_with_the_test_set_in_another_order(tmp_path: Path) -> None:
    given, raw = arrays(), load(save(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(raw.train_images, given["train_images"])
    np.testing.assert_array_equal(raw.train_labels, given["train_labels"])
    known = {image.tobytes(): label for image, label in zip(given["test_images"], given["test_labels"], strict=True)}
    assert [known[image.tobytes()] for image in raw.test_images] == raw.test_labels.tolist()
    assert raw.test_labels.tolist() != given["test_labels"].tolist()
    assert raw.classes == 4


def test_a_test_set_sorted_by_class_is_not_sorted_afterwards() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1000, 1, 4, 4), dtype=np.uint8)
    labels = np.repeat(np.arange(10), 100)[hidden_order(images, "x")]
    assert 850 < (labels[1:] != labels[:-1]).sum() < 950  # nine in ten, where classes are mixed


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_may_be_integers_of_any_type(tmp_path: Path, dtype: Any) -> None:
    raw = load(save(tmp_path / "mine.npz", train_labels=(np.arange(30) % 4).astype(dtype)))
    assert raw.train_labels.dtype == np.int64


def test_channels_may_come_last_or_not_at_all(tmp_path: Path) -> None:
    given = arrays()
    last = {name: given[name].transpose(0, 2, 3, 1) for name in ("train_images", "test_images")}
    np.testing.assert_array_equal(load(save(tmp_path / "last.npz", **last)).train_images, given["train_images"])
    grey = {name: given[name][:, 0] for name in last}
    np.testing.assert_array_equal(load(save(tmp_path / "grey.npz", **grey)).train_images, given["train_images"][:, :1])


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no test labels": ({"test_labels": None}, "test_labels not there"),
    "float images": ({"train_images": np.zeros((30, 3, 6, 5))}, "train_images: expected uint8"),
    "two dimensions": ({"train_images": np.zeros((30, 6), np.uint8)}, r"train_images: .*shape \(30, 6\)"),
    "five channels": ({"train_images": np.zeros((30, 5, 6, 5), np.uint8)}, "train_images: cannot tell the channels"),
    "no images": ({"train_images": np.zeros((0, 3, 6, 5), np.uint8)}, "train_images: "),
    "a label too few": ({"train_labels": np.arange(29) % 4}, r"train_labels: .*\(30,\)"),
    "labels in a column": ({"test_labels": (np.arange(20) % 4)[:, None]}, r"test_labels: .*\(20, 1\)"),
    "float labels": ({"test_labels": np.arange(20) % 4 / 1}, "test_labels: expected integers"),
    "a negative label": ({"train_labels": np.arange(30) % 4 - 1}, "train_labels: .*found -1"),
    "a gap in the classes": ({"train_labels": np.arange(30) % 4 * 2}, "class 1 has no training image"),
    "one class": ({"train_labels": np.zeros(30, int)}, "two classes"),
    "a huge label": ({"train_labels": np.arange(30) % 4 + 10**15 * (np.arange(30) == 7)}, "class 4"),
    "a test class without training images": ({"test_labels": np.arange(20) % 5}, "test label 4"),
    "other sizes in the test set": ({"test_images": np.zeros((20, 3, 7, 5), np.uint8)}, "expected the same"),
    "objects": ({"train_images": np.array([None] * 30, object)}, "plain arrays"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_a_data_set_is_named(tmp_path: Path, kind: str) -> None:
    differently, expected = BROKEN[kind]
    path = save(tmp_path / "mine.npz", **differently)
    with pytest.raises(KitError, match=expected) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(50), "cut", "bare array", "folder", "absent"])
def test_what_is_no_npz_file_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "mine.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        whole = save(path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "bare array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "folder":
        path.mkdir()
    with pytest.raises(KitError) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "mine.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(KitError, match="not a whole"):
        load(path)


def test_without_a_file_the_error_says_what_must_be_in_it() -> None:
    with pytest.raises(KitError, match=r"--source FILE\.npz.*train_images"):
        load(None)


def test_an_order_is_the_same_whatever_the_images_came_in() -> None:
    images: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (50, 1, 3, 3), dtype=np.uint8)
    turned = images[::-1]
    np.testing.assert_array_equal(images[hidden_order(images, "x")], turned[hidden_order(turned, "x")])
