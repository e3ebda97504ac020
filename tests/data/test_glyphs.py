"""Glyphs: the same bytes everywhere, every class as often, and an order that is silent about labels."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.data import typeface
from kit.data.glyphs import paint
from kit.data.sources import RawDataset
from kit.data.sources.glyphs import CHARACTERS, load
from kit.errors import KitError


@pytest.fixture(scope="module")
def glyphs() -> RawDataset:
    """A small part of the whole."""
    return load(lambda done, total: None, train=2000, test=1000)


# ---- the data set


def test_images_are_cifar_shaped_and_every_class_is_there_as_often(glyphs: RawDataset) -> None:
    assert glyphs.train_images.shape == (2000, 3, 32, 32)
    assert glyphs.test_images.shape == (1000, 3, 32, 32)
    assert glyphs.train_images.dtype == np.uint8
    assert np.bincount(glyphs.train_labels).tolist() == [200] * 10
    assert np.bincount(glyphs.test_labels).tolist() == [100] * 10
    assert glyphs.classes == len(set(CHARACTERS)) == 10


def test_no_image_is_there_twice(glyphs: RawDataset) -> None:
    images = [image.tobytes() for image in (*glyphs.train_images, *glyphs.test_images)]
    assert len(set(images)) == len(images)


def test_an_images_place_tells_nothing_of_its_label(glyphs: RawDataset) -> None:
    for labels in (glyphs.train_labels, glyphs.test_labels):
        places = np.arange(len(labels))
        assert scipy.stats.spearmanr(places, labels).pvalue > 1e-3
        for blocks in (places * 4 // len(places), places % 10, places % 2):
            table = np.histogram2d(blocks, labels, bins=[len(np.unique(blocks)), 10])[0]
            assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_brightness_alone_does_not_tell_the_class(glyphs: RawDataset) -> None:
    means = glyphs.train_images.mean(axis=(1, 2, 3))
    groups = [means[glyphs.train_labels == label] for label in range(10)]
    assert scipy.stats.f_oneway(*groups).pvalue > 1e-4


def test_progress_is_told_up_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    load(lambda done, total: told.append((done, total)), train=600, test=100)
    assert told[-1] == (700, 700)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# ---- the painter


def test_the_bytes_are_what_they_always_were() -> None:
    small = paint(list(CHARACTERS), stream="train", first=0, height=32, width=32)
    large = paint(["AB"], stream="pinned", first=3, height=75, width=100)
    assert (
        hashlib.sha256(small.tobytes()).hexdigest()
        == "9a48548366822aa8327169f7a8c311396153aeb5cd05d5970be64ad2cb31e442"
    )
    assert (
        hashlib.sha256(large.tobytes()).hexdigest()
        == "3b85687ba3a4d09a899681c2e880c7fee539df128a873ef408cce6ad56ac21b2"
    )


@given(first=st.integers(0, 1000), cut=st.integers(1, 7))
@settings(max_examples=10, deadline=None)
def test_a_picture_does_not_depend_on_those_painted_with_it(first: int, cut: int) -> None:
    texts = list("B8S5Z2G6")
    together = paint(texts, stream="x", first=first, height=20, width=24)
    apart = [
        paint(texts[:cut], stream="x", first=first, height=20, width=24),
        paint(texts[cut:], stream="x", first=first + cut, height=20, width=24),
    ]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_another_stream_or_place_is_another_picture() -> None:
    pictures = [
        paint(["A"], stream=stream, first=first, height=16, width=16).tobytes()
        for stream in ("x", "y")
        for first in range(3)
    ]
    assert len(set(pictures)) == 6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (375, 500), (500, 375), (64, 65), (7, 200)])
def test_a_canvas_may_have_any_size(height: int, width: int) -> None:
    pictures = paint(["A", "bC3"], stream="x", first=0, height=height, width=width)
    assert pictures.shape == (2, height, width, 3)
    assert pictures.dtype == np.uint8


def test_the_global_random_state_is_neither_used_nor_moved() -> None:
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    first = paint(["A"], stream="x", first=0, height=16, width=16)
    assert np.random.random() == expected
    np.testing.assert_array_equal(paint(["A"], stream="x", first=0, height=16, width=16), first)


# ---- typefaces


def cells(font: str, text: str) -> np.ndarray:
    return typeface.coverage(font, text, 24) / typeface.FULL


@pytest.mark.parametrize("font", typeface.FONTS)
def test_a_font_has_every_character_and_no_two_alike(font: str) -> None:
    masks = {character: typeface.coverage(font, character, 24) for character in typeface.ALPHABET}
    for mask in masks.values():
        assert mask.max() == typeface.FULL
        assert not mask[0].any()
        assert not mask[:, -1].any()
    assert len({mask.tobytes() for mask in masks.values()}) == len(masks)


def test_a_character_with_a_hole_has_one_and_a_bold_one_has_more_ink() -> None:
    letter = cells("DejaVuSans", "O")
    assert letter[12, 12] == 0
    assert letter[12, :12].max() == letter[12, 12:].max() == 1
    assert cells("DejaVuSans-Bold", "I").sum() > cells("DejaVuSans", "I").sum()


def test_letters_of_a_text_stand_side_by_side() -> None:
    columns = np.flatnonzero(cells("DejaVuSansMono", "II").any(axis=0))
    assert (np.diff(columns) > 1).any()


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    """As if no font had been read yet."""
    for cached in (typeface.outlines, typeface.coverage):
        cached.cache_clear()
    yield
    for cached in (typeface.outlines, typeface.coverage):
        cached.cache_clear()


@pytest.mark.usefixtures("fresh_fonts")
def test_other_outlines_than_expected_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(typeface.FONTS, "cmr10", "0" * 64)
    with pytest.raises(KitError, match=r"cmr10\.ttf.*expected 000000000000.*install matplotlib"):
        typeface.coverage("cmr10", "A", 8)


@pytest.mark.usefixtures("fresh_fonts")
def test_a_font_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(typeface.FONTS, "nowhere", "0" * 64)
    with pytest.raises(KitError, match=r"nowhere\.ttf.*install matplotlib"):
        typeface.coverage("nowhere", "A", 8)
