"""Other splits of a track's data: nothing lost, as balanced as before, and known to nobody without the secret."""

import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny import make_track, prepare_tiny

from kit.data.preparation import prepare
from kit.data.prepared import MANIFEST_FILE, Prepared
from kit.data.sources import Request
from kit.data.splits import control, guessing, resplit
from kit.errors import KitError

SECRET = bytes(range(32))


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    return prepare_tiny(tmp_path)


def array(prepared: Prepared, name: str) -> NDArray[Any]:
    found: NDArray[Any] = np.load(prepared.root / name)
    return found


def train(prepared: Prepared) -> tuple[NDArray[Any], NDArray[Any]]:
    return array(prepared, "public/train_images.npy"), array(prepared, "public/train_labels.npy")


def held_out(prepared: Prepared) -> tuple[NDArray[Any], NDArray[Any]]:
    return array(prepared, "public/test_images.npy"), prepared.test_labels()


def pairs(*parts: tuple[NDArray[Any], NDArray[Any]]) -> Counter[tuple[bytes, int]]:
    return Counter(
        (image.tobytes(), int(label)) for images, labels in parts for image, label in zip(images, labels, strict=True)
    )


# ---- a new split


def test_a_new_split_holds_every_image_with_its_label_once(prepared: Prepared) -> None:
    made = resplit(prepared, SECRET)
    assert pairs(train(made), held_out(made)) == pairs(train(prepared), held_out(prepared))


def test_both_sides_are_as_large_and_as_balanced_as_before(prepared: Prepared) -> None:
    made = resplit(prepared, SECRET)
    for side in (train, held_out):
        assert Counter(side(made)[1].tolist()) == Counter(side(prepared)[1].tolist())
    assert (made.spec.train_count, made.spec.test_count) == (prepared.spec.train_count, prepared.spec.test_count)


def test_images_are_on_a_side_by_chance(prepared: Prepared) -> None:
    # Of 200 test images a third was on the test side before: 66.7 with a standard deviation of 5.5.
    kept = pairs(held_out(resplit(prepared, SECRET))) & pairs(held_out(prepared))
    assert 40 < kept.total() < 95


def test_places_tell_nothing_of_classes(prepared: Prepared) -> None:
    # 20 of each of 10 classes: neighbours differ in nine cases of ten.
    labels = held_out(resplit(prepared, SECRET))[1]
    assert 160 < (labels[1:] != labels[:-1]).sum() < 195


def test_the_same_secret_makes_the_same_split_and_another_another(prepared: Prepared, tmp_path: Path) -> None:
    made = resplit(prepared, SECRET)
    again = resplit(prepare_tiny(tmp_path / "elsewhere"), SECRET)
    assert made.fingerprint == again.fingerprint
    assert made.fingerprint != prepared.fingerprint
    other = resplit(prepared, bytes(32))
    assert other.fingerprint != made.fingerprint
    assert other.root.parent != made.root.parent


def test_a_split_that_is_there_is_taken_and_checked(prepared: Prepared) -> None:
    made = resplit(prepared, SECRET)
    before = (made.root / MANIFEST_FILE).stat().st_mtime_ns
    assert resplit(prepared, SECRET).fingerprint == made.fingerprint
    assert (made.root / MANIFEST_FILE).stat().st_mtime_ns == before
    (made.root / "public/train_labels.npy").write_bytes(b"damaged")
    with pytest.raises(KitError, match=r"train_labels\.npy: .* damaged"):
        resplit(prepared, SECRET)


def test_what_an_interrupted_call_left_is_made_anew(prepared: Prepared) -> None:
    for make in (resplit, lambda prepared, secret: control(prepared, secret, 0)):
        made = make(prepared, SECRET)
        (made.root / MANIFEST_FILE).rename(made.root.with_name(".tiny.partial"))
        assert make(prepared, SECRET).fingerprint == made.fingerprint
        assert sorted(path.name for path in made.root.parent.iterdir()) == ["tiny"]


def test_only_the_owner_looks_into_them(prepared: Prepared) -> None:
    for made in (resplit(prepared, SECRET), control(prepared, SECRET, 0)):
        for folder in (made.root.parent, made.root.parent.parent, made.root / "private"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_encoded_images_are_not_split_anew(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="a new split is for data in arrays"):
        resplit(encoded(tmp_path), SECRET)


# ---- shuffled labels


def encoded(folder: Path) -> Prepared:
    """A few JPEGs."""
    from PIL import Image

    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6)):
        for label in range(3):
            for number in range(count):
                path = folder / "photos" / split / f"class{label}" / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8).astype(np.uint8)).save(path)
    track = make_track(name="photos", dataset="photos", source="folders")
    return prepare(track, folder / "data", Request(path=folder / "photos"))


@pytest.mark.parametrize("make", [prepare_tiny, encoded])
def test_a_control_changes_training_labels_alone(tmp_path: Path, make: Any) -> None:
    prepared = make(tmp_path)
    made = control(prepared, SECRET, 0)
    files = {path.relative_to(prepared.root) for path in prepared.root.rglob("*") if path.is_file()}
    assert files == {path.relative_to(made.root) for path in made.root.rglob("*") if path.is_file()}
    changed = {str(file) for file in files if (made.root / file).read_bytes() != (prepared.root / file).read_bytes()}
    assert changed == {"public/train_labels.npy", MANIFEST_FILE}
    before, after = (array(which, "public/train_labels.npy") for which in (prepared, made))
    assert Counter(before.tolist()) == Counter(after.tolist())
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    made.verify()


def test_images_take_no_more_room(prepared: Prepared) -> None:
    made = control(prepared, SECRET, 0)
    assert (made.root / "public/train_images.npy").samefile(prepared.root / "public/train_images.npy")


def test_shuffled_labels_agree_with_true_ones_as_chance_would(prepared: Prepared) -> None:
    # 400 labels of ten classes: 40.8 agree by chance, with a standard deviation of 6.
    agree = (train(control(prepared, SECRET, 0))[1] == train(prepared)[1]).sum()
    assert 15 < agree < 70


def test_each_number_shuffles_in_another_way(prepared: Prepared) -> None:
    assert len({control(prepared, SECRET, number).fingerprint for number in range(4)}) == 4
    assert control(prepared, SECRET, 1).fingerprint == control(prepared, SECRET, 1).fingerprint


# ---- guessing


def test_guessing_among_ten_equal_classes() -> None:
    assert guessing(np.arange(100) % 10, 1) == pytest.approx((0.1, 10))
    assert guessing(np.arange(100) % 10, 5) == pytest.approx((0.5, 10))
    assert guessing(np.arange(6) % 3, 5) == (1.0, 3)


@given(labels=st.lists(st.integers(0, 20), min_size=1, max_size=200), guesses=st.integers(1, 5))
def test_guessing_is_never_below_the_share_of_any_class_nor_above_one(labels: list[int], guesses: int) -> None:
    chance, groups = guessing(np.array(labels, np.int64), guesses)
    assert max(Counter(labels).values()) / len(labels) - 1e-9 <= chance <= 1
    assert 1 <= groups <= len(set(labels))
