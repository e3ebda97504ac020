"""The split of the digits: fixed, fair to every class, and silent about labels."""

from collections import Counter

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray

from kit.data.sources import RawDataset
from kit.data.sources.digits import load


@pytest.fixture(scope="module")
def digits() -> RawDataset:
    return load()


def test_there_are_1000_digits_to_train_on_and_797_to_test_on(digits: RawDataset) -> None:
    assert digits.train_images.shape == (1000, 1, 8, 8)
    assert digits.train_labels.shape == (1000,)
    assert digits.test_images.shape == (797, 1, 8, 8)
    assert digits.test_labels.shape == (797,)
    assert digits.classes == 10


def test_images_are_bytes_from_black_to_white_and_labels_are_int64(digits: RawDataset) -> None:
    for images in (digits.train_images, digits.test_images):
        assert images.dtype == np.uint8
        assert (images.min(), images.max()) == (0, 255)
    for labels in (digits.train_labels, digits.test_labels):
        assert labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(10))


def test_no_digit_is_lost_and_none_is_on_both_sides(digits: RawDataset) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    whole = Counter(
        (image.tobytes(), int(label))
        for image, label in zip(np.rint(bunch.images * 255 / 16).astype(np.uint8), bunch.target, strict=True)
    )
    train = Counter(
        (image.tobytes(), int(label)) for image, label in zip(digits.train_images, digits.train_labels, strict=True)
    )
    test = Counter(
        (image.tobytes(), int(label)) for image, label in zip(digits.test_images, digits.test_labels, strict=True)
    )
    assert train + test == whole
    if max(whole.values()) == 1:
        assert not train & test


def test_each_class_has_its_share_of_the_training_images(digits: RawDataset) -> None:
    train = np.bincount(digits.train_labels)
    sizes = train + np.bincount(digits.test_labels)
    assert (np.abs(train - sizes * 1000 / 1797) < 1).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_images_place_tells_nothing_of_its_label(digits: RawDataset, split: str) -> None:
    labels: NDArray[np.int64] = getattr(digits, f"{split}_labels")
    places = np.arange(len(labels))
    assert scipy.stats.spearmanr(places, labels).pvalue > 1e-3
    for blocks in (places * 4 // len(places), places % 10, places % 2):
        table = np.histogram2d(blocks, labels, bins=[len(np.unique(blocks)), 10])[0]
        assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    for distance in (1, 2, 10):
        pairs = np.histogram2d(labels[:-distance], labels[distance:], bins=10)[0]
        assert scipy.stats.chi2_contingency(pairs).pvalue > 1e-3


def test_every_load_gives_the_same_split(digits: RawDataset) -> None:
    again = load()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(again, name), getattr(digits, name))


def test_numpys_random_state_does_not_move_the_split(digits: RawDataset) -> None:
    np.random.seed(7)
    np.testing.assert_array_equal(load().test_labels, digits.test_labels)
