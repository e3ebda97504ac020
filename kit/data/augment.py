"""What happens to images on their way to the trainer, drawn once for a whole epoch and shared by every loader.

Drawing here and applying there is what makes DALI and torch give the same stream: the loaders hold no randomness.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from kit.track import Model

DType = Literal["float32", "float16", "bfloat16"]
EVALUATION_CROP = 0.875
"""Share of the shorter side that a centre crop keeps: 224 of 256, the usual ImageNet evaluation."""
CROP_ATTEMPTS = 10
"""Before a random crop that does not fit gives way to a central one, as in torchvision's RandomResizedCrop."""


class LoaderOptions(Model):
    """How one pass over a split is served."""

    batch_size: int = Field(gt=0)
    """Images per batch and rank."""
    shuffle: bool = False
    drop_last: bool = False
    flip: bool = False
    """Mirror left to right with probability one half."""
    dtype: DType = "float32"
    channels_last: bool = False
    """Lay (N, C, H, W) out in memory as (N, H, W, C)."""
    rank: int = Field(ge=0, default=0)
    world_size: int = Field(gt=0, default=1)


class ArrayOptions(LoaderOptions):
    """For images of one size, in memory."""

    crop_padding: int = Field(ge=0, le=128, default=0)
    """Zero pixels added on each side before a crop of the original size at a random place."""
    cutout: int = Field(ge=0, default=0)
    """Side of a square at a random place inside the image that is set to the mean colour."""


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError("expected two positive numbers, the smaller one first")
    return pair


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
Side = Annotated[int, Field(gt=0, le=4096)]


class ImageOptions(LoaderOptions):
    """For encoded images of any size."""

    sizes: Annotated[tuple[Side, ...], Field(min_length=1)]
    """Side of the square that images are brought to, epoch by epoch; the last one holds for all that follow."""
    crop_area: Interval | None = None
    """Share of the image that a random crop covers; None crops the centre."""
    crop_aspect: Interval = (3 / 4, 4 / 3)
    """Width through height of a random crop."""

    def size(self, epoch: int) -> int:
        """Side of the images of an epoch."""
        return self.sizes[min(epoch, len(self.sizes) - 1)]


@dataclass(frozen=True)
class ArrayPlan:
    """Order and augmentation of one epoch; row i of each array belongs to the i-th image served."""

    order: NDArray[np.int64]
    crop_y: NDArray[np.int64]
    """Offset of the crop in the padded image, 0 to 2 * crop_padding."""
    crop_x: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    cutout_y: NDArray[np.int64]
    """Top of the square, 0 to height - cutout."""
    cutout_x: NDArray[np.int64]


@dataclass(frozen=True)
class ImagePlan:
    """The same for encoded images: cut a window out, resize it, crop that, mirror."""

    order: NDArray[np.int64]
    window: NDArray[np.int64]
    """(N, 4): top, left, height and width in the stored image."""
    resized: NDArray[np.int64]
    """(N, 2): height and width that the window is brought to."""
    crop: NDArray[np.int64]
    """(N, 2): top and left of the square of side `size` in the resized window."""
    mirror: NDArray[np.bool_]
    size: int


def plan_arrays(
    count: int, side: tuple[int, int], options: ArrayOptions, *, seed: int, stream: int, epoch: int
) -> ArrayPlan:
    """Draw an epoch: uniform order, uniform places, fair flips; the same for the same seed, stream and epoch."""
    random = np.random.default_rng([seed, epoch, stream])
    order = _order(random, count, options)
    offsets = random.integers(0, 2 * options.crop_padding, (2, count), endpoint=True)
    mirror = _mirror(random, count, options)
    height, width = side
    cutout_y, cutout_x = (
        random.integers(0, length - options.cutout, count, endpoint=True) if options.cutout else np.zeros(count, int)
        for length in (height, width)
    )
    return ArrayPlan(order, offsets[0], offsets[1], mirror, cutout_y, cutout_x)


def plan_images(sizes: NDArray[np.int64], options: ImageOptions, *, seed: int, stream: int, epoch: int) -> ImagePlan:
    """Draw an epoch for images of these (N, 2) heights and widths; the same for the same seed, stream and epoch."""
    random = np.random.default_rng([seed, epoch, stream])
    order = _order(random, len(sizes), options)
    mirror = _mirror(random, len(sizes), options)
    served, size = sizes[order], options.size(epoch)
    if options.crop_area is None:
        window = np.concatenate([np.zeros_like(served), served], axis=1)
        shorter = round(size / EVALUATION_CROP)
        # As torchvision's Resize and CenterCrop: the longer side is rounded down, the margin to the nearest.
        resized = served * shorter // served.min(axis=1, keepdims=True)
        crop = np.rint((resized - size) / 2).astype(np.int64)
    else:
        window = _random_windows(random, served, options.crop_area, options.crop_aspect)
        resized = np.full_like(served, size)
        crop = np.zeros_like(served)
    return ImagePlan(order, window, resized, crop, mirror, size)


def _order(random: np.random.Generator, count: int, options: LoaderOptions) -> NDArray[np.int64]:
    return random.permutation(count) if options.shuffle else np.arange(count)


def _mirror(random: np.random.Generator, count: int, options: LoaderOptions) -> NDArray[np.bool_]:
    return random.integers(0, 2, count).astype(bool) if options.flip else np.zeros(count, bool)


def _random_windows(
    random: np.random.Generator, sizes: NDArray[np.int64], area: Interval, aspect: Interval
) -> NDArray[np.int64]:
    """Windows of torchvision's RandomResizedCrop: area uniform, aspect uniform in its logarithm, any place."""
    window = _central_windows(sizes, aspect)
    left = np.arange(len(sizes))
    for _ in range(CROP_ATTEMPTS):
        height, width = sizes[left].T
        target = height * width * random.uniform(*area, len(left))
        ratio = np.exp(random.uniform(math.log(aspect[0]), math.log(aspect[1]), len(left)))
        tall, wide = np.rint(np.sqrt(target / ratio)).astype(int), np.rint(np.sqrt(target * ratio)).astype(int)
        fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
        tall, wide = tall[fits], wide[fits]
        top = random.integers(0, height[fits] - tall, endpoint=True)
        across = random.integers(0, width[fits] - wide, endpoint=True)
        window[left[fits]] = np.stack([top, across, tall, wide], axis=1)
        left = left[~fits]
    return window


def _central_windows(sizes: NDArray[np.int64], aspect: Interval) -> NDArray[np.int64]:
    """The largest window in the middle whose aspect is within bounds."""
    height, width = sizes.T
    tall = np.clip(np.rint(width / aspect[0]).astype(int), 1, height)
    wide = np.clip(np.rint(height * aspect[1]).astype(int), 1, width)
    return np.stack([(height - tall) // 2, (width - wide) // 2, tall, wide], axis=1)


def batch_bounds(count: int, options: LoaderOptions) -> list[tuple[int, int]]:
    """First and one-past-last position in the epoch of each batch of this rank.

    A step is `world_size` batches, dealt out evenly, so that all ranks take the same number of steps and every image
    is served once. Where the last step would leave a rank without an image, it borrows from the step before.
    """
    step, ranks = options.batch_size * options.world_size, options.world_size
    edges = [*range(0, count, step), count]
    if options.drop_last and count % step:
        edges.pop()
    elif 0 < count % step < ranks:
        if count < ranks or options.batch_size == 1:
            raise ValueError(
                f"{count} images cannot be dealt out to {ranks} ranks in batches of {options.batch_size}: use drop_last"
            )
        edges[-2] = count - ranks
    return [
        (start + (stop - start) * options.rank // ranks, start + (stop - start) * (options.rank + 1) // ranks)
        for start, stop in pairwise(edges)
    ]
