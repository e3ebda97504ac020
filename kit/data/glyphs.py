"""Paints text on textured backgrounds, among fragments of other text: pictures that are easy to make and hard to read.

The bytes are the same on every machine. Outlines come from `kit.data.typeface`; random numbers are the raw output of a
PCG64 whose seed is a SHA-256, which NumPy promises never to change; everything else is elementwise arithmetic in the
order written here. There are no library functions that differ between versions or processors (trigonometry, sums of
floats, matrix products, rasterisers).
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.data.typeface import ALPHABET, FONTS, FULL, coverage

VERSION = "glyphs/1"
"""Names the pictures: a change of a single pixel must change it."""
SMALL_SIDE = 64
SMALL_MASK, LARGE_MASK = 48, 192
FRAGMENTS = 3
OCTAVES = (3, 6, 12)
"""Cells along each side of the layers of the background's texture."""

Floats = NDArray[np.float64]


class _Style(NamedTuple):
    """How texts lie on their pictures; each field (n,)."""

    x: Floats
    """Middle of the text, as a share of the shorter side, from the middle of the picture."""
    y: Floats
    size: Floats
    """Side of the text's square, as a share of the shorter side."""
    aspect: Floats
    tilt: Floats
    """Tangent of half the angle."""
    slant: Floats


@dataclass
class _Random:
    """One generator per picture, drawn from in step."""

    generators: list[np.random.PCG64]

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """(n, count) bytes."""
        words = -(-count // 8)
        raw = np.stack([generator.random_raw(words) for generator in self.generators])
        return raw.astype("<u8").view(np.uint8)[:, :count]

    def uniform(self, low: float, high: float, *shape: int) -> Floats:
        """(n, *shape) floats from low to high."""
        raw = np.stack([generator.random_raw(math.prod(shape)) for generator in self.generators])
        unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return (low + (high - low) * unit).reshape(-1, *shape)

    def below(self, limit: int) -> NDArray[np.int64]:
        """(n,) integers from 0 to limit - 1."""
        return np.floor(self.uniform(0, limit)).astype(np.int64)


def paint(texts: Sequence[str], *, stream: str, first: int, height: int, width: int) -> NDArray[np.uint8]:
    """Paint one text per picture.

    Args:
        texts: Of the characters A-Z, a-z and 0-9.
        stream: Names a sequence of pictures.
        first: The place in it of the first text; each picture depends on its own place, text and size alone.
        height: Of the pictures, in pixels.
        width: Likewise.

    Returns:
        Pictures (texts, height, width, 3), uint8.

    Raises:
        KitError: A font is missing or is not the one that is expected.
    """
    keys = [f"{VERSION}/{stream}/{first + i}/{text}/{height}x{width}" for i, text in enumerate(texts)]
    random = _Random([np.random.PCG64(int.from_bytes(hashlib.sha256(key.encode()).digest(), "little")) for key in keys])
    count = len(texts)
    picture, luminance = _background(random, height, width)
    side = SMALL_MASK if min(height, width) <= SMALL_SIDE else LARGE_MASK
    fonts = list(FONTS)
    for fragment in range(FRAGMENTS + 1):
        is_text = fragment == FRAGMENTS
        font, other = random.below(len(fonts)), random.below(len(ALPHABET))
        written = [texts[i] if is_text else ALPHABET[other[i]] for i in range(count)]
        masks = np.stack([coverage(fonts[font[i]], written[i], side) for i in range(count)])
        style = _text_style(random) if is_text else _fragment_style(random, height, width)
        ink = _ink(random, luminance)
        where, covered = _placed(masks, style, height, width)
        picture[where] = picture[where] * (1 - covered) + ink[where[0]] * covered
    # In place: on large pictures most of the time would go into fresh memory.
    grain = random.bytes(height * width * 3).reshape(picture.shape).astype(np.float64)
    grain -= 127.5
    grain /= 255
    grain *= random.uniform(0.04, 0.24)[:, None, None, None]
    picture += grain
    np.clip(picture, 0, 1, out=picture)
    picture *= 255
    picture += 0.5
    return picture.astype(np.uint8)


def _text_style(random: _Random) -> _Style:
    return _Style(
        x=random.uniform(-0.14, 0.14),
        y=random.uniform(-0.14, 0.14),
        size=random.uniform(0.45, 0.95),
        aspect=random.uniform(0.75, 1.35),
        tilt=random.uniform(-0.2, 0.2),
        slant=random.uniform(-0.25, 0.25),
    )


def _fragment_style(random: _Random, height: int, width: int) -> _Style:
    """Away from the middle: on an ellipse that cuts most fragments off at the border."""
    shorter = min(height, width)
    angle = random.uniform(-1, 1)
    over = np.where(random.below(2) == 0, 1.0, -1.0)
    x, y = over * (1 - angle * angle) / (1 + angle * angle), 2 * angle / (1 + angle * angle)
    return _Style(
        x=x * 0.5 * width / shorter,
        y=y * 0.5 * height / shorter,
        size=random.uniform(0.25, 0.5),
        aspect=random.uniform(0.75, 1.35),
        tilt=random.uniform(-1, 1),
        slant=random.uniform(-0.25, 0.25),
    )


def _background(random: _Random, height: int, width: int) -> tuple[Floats, Floats]:
    """A picture (n, height, width, 3) of two colours that run into each other, and its mean luminance (n,)."""
    luminance = random.uniform(0.2, 0.8)
    contrast, colour = random.uniform(0, 0.3), random.uniform(-0.2, 0.2, 2, 3)
    texture = np.zeros((len(luminance), height, width))
    for octave, cells in enumerate(OCTAVES):
        texture = texture + _stretched(random.uniform(-1, 1, cells + 1, cells + 1), height, width) / (octave + 1)
    light = luminance[:, None, None] + contrast[:, None, None] * texture
    share = np.clip(0.5 + texture, 0, 1)[..., None]
    picture = colour[:, None, None, 0] * share
    picture += colour[:, None, None, 1] * (1 - share)
    picture += light[..., None]
    return picture, luminance


def _ink(random: _Random, luminance: Floats) -> Floats:
    """A colour (n, 3) that is lighter or darker than the background."""
    apart = random.uniform(0.2, 0.6)
    lighter = random.uniform(0, 1) > luminance
    level = np.where(lighter, luminance + apart, luminance - apart)
    return level[:, None] + random.uniform(-0.15, 0.15, 3)


Places = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _placed(masks: NDArray[np.uint8], style: _Style, height: int, width: int) -> tuple[Places, Floats]:
    """Lay masks (n, side, side) on the pictures, turned, slanted and stretched.

    Returns:
        Picture, row and column of the pixels below a mask, and how much of each is covered, (pixels, 1).
    """
    shorter = min(height, width)
    x = (np.arange(width) + 0.5 - width / 2) / shorter
    y = (np.arange(height) + 0.5 - height / 2) / shorter
    across = x[None, None, :] - style.x[:, None, None]
    down = y[None, :, None] - style.y[:, None, None]
    tilt, slant, size, aspect = (
        values[:, None, None] for values in (style.tilt, style.slant, style.size, style.aspect)
    )
    cosine, sine = (1 - tilt * tilt) / (1 + tilt * tilt), 2 * tilt / (1 + tilt * tilt)
    along, below = cosine * across + sine * down, cosine * down - sine * across
    row, column = below / size + 0.5, (along + slant * below) / (size * aspect) + 0.5
    where = np.nonzero((row > 0) & (row < 1) & (column > 0) & (column < 1))
    picture, pixel_row, pixel_column = where
    covered = _sampled(masks, picture, row[where], column[where])
    return (picture, pixel_row, pixel_column), covered[:, None]


def _stretched(grids: Floats, height: int, width: int) -> Floats:
    """Grids (n, k, k) stretched over pictures, linear between their points."""
    last = grids.shape[1] - 1
    y, x = (np.arange(height) + 0.5) / height * last, (np.arange(width) + 0.5) / width * last
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    dy, dx = (y - top)[None, :, None], (x - left)[None, None, :]
    upper = grids[:, top][:, :, left] * (1 - dx) + grids[:, top][:, :, left + 1] * dx
    lower = grids[:, top + 1][:, :, left] * (1 - dx) + grids[:, top + 1][:, :, left + 1] * dx
    stretched: Floats = upper * (1 - dy) + lower * dy
    return stretched


def _sampled(masks: NDArray[np.uint8], number: NDArray[np.int64], row: Floats, column: Floats) -> Floats:
    """Masks (n, side, side) by number (pixels,), at places given as shares of their sides."""
    side = masks.shape[1]
    y, x = np.clip(row * side - 0.5, 0, side - 1.001), np.clip(column * side - 0.5, 0, side - 1.001)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    dy, dx = y - top, x - left
    place = (number * side + top) * side + left
    flat = masks.reshape(-1)
    upper = flat[place] * (1 - dx) + flat[place + 1] * dx
    lower = flat[place + side] * (1 - dx) + flat[place + side + 1] * dx
    sampled: Floats = (upper * (1 - dy) + lower * dy) / FULL
    return sampled
