"""Scores are right, and what cannot be scored is invalid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kit.referee.judge import InvalidPredictions, Judge
from kit.track import Metric

LABELS = np.array([0, 1, 2, 9], np.int64)


def predictions(*rows: list[int]) -> NDArray[np.int32]:
    return np.array(rows, np.int32)


def test_top1_is_the_fraction_that_is_right() -> None:
    judge = Judge(LABELS, 10, "top1")
    assert judge.score(predictions([0], [1], [2], [9])) == 1.0
    assert judge.score(predictions([0], [1], [3], [8])) == 0.5
    assert judge.score(predictions([9], [0], [1], [2])) == 0.0


def test_top5_counts_a_label_among_the_first_five_at_any_place() -> None:
    judge = Judge(LABELS, 10, "top5")
    rows = predictions([0, 9, 8, 7, 6], [9, 8, 7, 6, 1], [3, 4, 5, 6, 7], [1, 2, 9, 3, 4])
    assert judge.score(rows) == 0.75


def test_a_guess_that_is_repeated_counts_once() -> None:
    assert Judge(LABELS, 10, "top5").score(predictions([0] * 5, [0] * 5, [0] * 5, [0] * 5)) == 0.25


def test_with_fewer_classes_than_guesses_every_class_is_guessed() -> None:
    judge = Judge(np.array([0, 2], np.int64), 3, "top5")
    assert judge.score(predictions([0, 1, 2], [2, 1, 0])) == 1.0
    with pytest.raises(InvalidPredictions):
        judge.score(predictions([0, 1, 2, 0, 1], [2, 1, 0, 0, 1]))


@pytest.mark.parametrize("metric", ["top1", "top5"])
@pytest.mark.parametrize(
    "shape", [(4,), (4, 0), (4, 2), (4, 4), (4, 6), (3, 1), (5, 1), (3, 5), (5, 5), (1, 4), (0, 1), (4, 1, 1), ()]
)
def test_a_wrong_shape_or_count_is_invalid_and_said(metric: Metric, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidPredictions) as caught:
        Judge(LABELS, 10, metric).score(np.zeros(shape, np.int32))
    assert str(shape) in str(caught.value)
    assert str((4, 1 if metric == "top1" else 5)) in str(caught.value)


@pytest.mark.parametrize("outside", [-1, 10, -(2**31), 2**31 - 1])
@pytest.mark.parametrize("row", range(4))
def test_a_class_outside_the_range_is_invalid_and_said(outside: int, row: int) -> None:
    guesses = LABELS.astype(np.int32)[:, None]
    guesses[row] = outside
    with pytest.raises(InvalidPredictions, match=f"0 to 9, got {outside}$"):
        Judge(LABELS, 10, "top1").score(guesses)


def test_a_class_outside_the_range_is_invalid_though_another_guess_is_right() -> None:
    with pytest.raises(InvalidPredictions):
        Judge(LABELS, 10, "top5").score(predictions(*[[int(label), 1, 2, 3, 10] for label in LABELS]))


@given(data=st.data(), classes=st.integers(2, 12), count=st.integers(1, 30), metric=st.sampled_from(["top1", "top5"]))
def test_the_score_is_the_count_of_images_whose_label_was_guessed(
    data: st.DataObject, classes: int, count: int, metric: Metric
) -> None:
    guesses = min({"top1": 1, "top5": 5}[metric], classes)
    some_class = st.integers(0, classes - 1)
    labels = data.draw(st.lists(some_class, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(some_class, min_size=guesses, max_size=guesses), min_size=count, max_size=count))
    right = sum(label in row for label, row in zip(labels, rows, strict=True))
    score = Judge(np.array(labels, np.int64), classes, metric).score(predictions(*rows))
    assert score == pytest.approx(right / count, abs=1e-12)
