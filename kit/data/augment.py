"""What happens to training images, drawn once for a whole epoch and shared by every loader.

Drawing here and applying there is what makes DALI and torch give the same stream: the loaders hold no randomness.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kit.track import Model


class LoaderOptions(Model):
    """How one pass over a split is served."""

    batch_size: int = Field(gt=0)
    shuffle: bool = False
    drop_last: bool = False
    crop_padding: int = Field(ge=0, le=128, default=0)
    """Zero pixels added on each side before a crop of the original size at a random place."""
    flip: bool = False
    """Mirror left to right with probability one half."""


@dataclass(frozen=True)
class EpochPlan:
    """Order and augmentation of one epoch; row i of each array belongs to the i-th image served."""

    order: NDArray[np.int64]
    crop_y: NDArray[np.int64]
    """Offset of the crop in the padded image, 0 to 2 * crop_padding."""
    crop_x: NDArray[np.int64]
    mirror: NDArray[np.bool_]


def plan_epoch(count: int, options: LoaderOptions, *, seed: int, epoch: int) -> EpochPlan:
    """Draw an epoch: uniform order, uniform offsets, fair flips; the same for the same seed and epoch."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(count) if options.shuffle else np.arange(count)
    offsets = random.integers(0, 2 * options.crop_padding, (2, count), endpoint=True)
    mirror = random.integers(0, 2, count).astype(bool) if options.flip else np.zeros(count, bool)
    return EpochPlan(order, offsets[0], offsets[1], mirror)


def batch_bounds(count: int, options: LoaderOptions) -> list[tuple[int, int]]:
    """First and one-past-last position of each batch of an epoch."""
    stop = count - count % options.batch_size if options.drop_last else count
    return [(start, min(start + options.batch_size, stop)) for start in range(0, stop, options.batch_size)]
