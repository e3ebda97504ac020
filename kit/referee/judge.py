"""Scores predictions against labels that only this process has."""

import numpy as np
from numpy.typing import NDArray

from kit.track import TOP_K, Metric


class InvalidPredictions(Exception):  # noqa: N818 - named as the record's outcome
    """Predictions that cannot be scored; the message says what was expected and what came."""


class Judge:
    """Top-1 or top-5 accuracy.

    Args:
        labels: (N,) int64, in the order of the public test images.
        classes: Labels and predictions lie in [0, classes).
        metric: How many guesses count.
    """

    def __init__(self, labels: NDArray[np.int64], classes: int, metric: Metric) -> None:
        self._labels = labels
        self._classes = classes
        self._guesses = min(TOP_K[metric], classes)

    def score(self, predictions: NDArray[np.int32]) -> float:
        """Fraction of images whose label is among the guesses.

        Args:
            predictions: (N, guesses) class indices.

        Raises:
            InvalidPredictions: The shape or an index is wrong.
        """
        expected = (len(self._labels), self._guesses)
        if predictions.shape != expected:
            raise InvalidPredictions(f"expected predictions of shape {expected}, got {predictions.shape}")
        outside = (predictions < 0) | (predictions >= self._classes)
        if outside.any():
            raise InvalidPredictions(
                f"expected classes from 0 to {self._classes - 1}, got {int(predictions[outside][0])}"
            )
        return float((predictions == self._labels[:, None]).any(axis=1).mean())
