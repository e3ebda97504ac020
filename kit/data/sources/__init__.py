"""Where each dataset comes from: name -> the function that loads it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawDataset:
    """A dataset as arrays: images (N, C, H, W) uint8, labels (N,) int64."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int


def _digits() -> RawDataset:
    from kit.data.sources import digits

    return digits.load()


SOURCES: dict[str, Callable[[], RawDataset]] = {"digits": _digits}
