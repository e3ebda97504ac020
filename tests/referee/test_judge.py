"""Scores are right, and what cannot be scored is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kit.referee.judge import InvalidPredictions, Judge
from kit.track import Metric


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_top_1_is_the_share_of_equal_classes(pairs: list[tuple[int, int]]) -> None:
    labels, guesses = (np.array(column) for column in zip(*pairs, strict=True))
    expected = sum(label == guess for label, guess in pairs) / len(pairs)
    assert Judge(labels, 10, "top1").score(guesses.astype(np.int32)[:, None]) == pytest.approx(expected)


def test_top_5_counts_a_label_among_five_guesses() -> None:
    guesses = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]], np.int32)
    assert Judge(np.array([5, 6]), 10, "top5").score(guesses) == 0.5


@pytest.mark.parametrize(
    ("metric", "predictions"),
    [
        ("top1", np.zeros((3, 1))),
        ("top1", np.zeros((5, 1))),
        ("top1", np.zeros((4, 2))),
        ("top5", np.zeros((4, 1))),
        ("top1", np.full((4, 1), 10)),
        ("top1", np.full((4, 1), -1)),
        ("top1", np.full((4, 1), 2**31 - 1)),
    ],
)
def test_predictions_of_the_wrong_shape_or_class_are_refused(metric: Metric, predictions: NDArray[np.float64]) -> None:
    with pytest.raises(InvalidPredictions, match="expected"):
        Judge(np.zeros(4, np.int64), 10, metric).score(predictions.astype(np.int32))
