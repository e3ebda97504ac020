"""Outlines of characters, and how much of each cell of a grid they cover.

The outlines are those of the fonts that matplotlib ships; everything after them is exact or elementwise arithmetic, so
that the same text has the same mask on every machine. (Font rasterisers change their results between versions.)
"""

import hashlib
import importlib.util
import logging
import string
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits
CURVE_STEPS = 8
SUBSAMPLES = 4
FULL = SUBSAMPLES**2
MARGIN = 0.04
"""Share of a mask that stays empty on each side."""

FONTS = {
    "DejaVuSans": "cbf4a377f572f119b65e3baab8ecfe7797a56f9a5e74a7ac5f72a70e0d2f7ef6",
    "DejaVuSans-Bold": "928059172ca28d91522e37ae3de887de76943a1b3f1315f6640fddcc629f333f",
    "DejaVuSans-BoldOblique": "b914b93b6d1a3d953682fb0ca615468ff48df3a2ea75328987f2f3071cd3cabe",
    "DejaVuSans-Oblique": "b0dc79873eef9ecd4fd84b512c80f9e40c2a2d8d34416d69d06e8898cdd15fab",
    "DejaVuSansMono": "59b72dd39fa42155106f43fc241b9e83ce1b3fd7f51a6dd89859bea315f0f412",
    "DejaVuSansMono-Bold": "f15d4cd58cdd3c4cb9494c0c90ef66acfad8fcaa36a2aab70f2a3e1c6cc3f50d",
    "DejaVuSansMono-BoldOblique": "530143a2f3454954ebe9c78092ed3c2f788c7e0623babfef689dfb821bc43068",
    "DejaVuSansMono-Oblique": "591f989b78221b799d953f6da609d7d4b3b47cd88a93adf0a0f72aa69b255fc8",
    "DejaVuSerif": "697f7c71af8beac5da14688b90161b0329c11a360743593032724ad69997ffd3",
    "DejaVuSerif-Bold": "024543e342b3413bcf2cb7c0c6c325cca1aa2a62ee73276c5cf10402a72290fe",
    "DejaVuSerif-BoldItalic": "e56c2f99689dfb7c930b7a5aa4ab352c0af7d7aebe8bdfbae33574cd7e6e5990",
    "DejaVuSerif-Italic": "c592b19449b6dbbb7decbd2914cdf36a613666ff148bd45c7d251e6017227594",
    "STIXGeneral": "db732231f934fef90430141da5e0246dc578768dba1c8bf03ae0843e6adebb44",
    "STIXGeneralBol": "d64a150fc67034e8eb8ef000e7d8ecb8cf9b01eb1e59f82f1ed6d3fb800c336f",
    "STIXGeneralBolIta": "71087301167f393d6156f304c17128e4a3a0c8eb0d835da040048e6ee630117c",
    "STIXGeneralItalic": "fa5e27c33193956235e8cfd97092fef13cb2c82bc2263a11be26291fb79e89ec",
    "cmb10": "a1af107e0b97429f2537a17b11fae3a0a3819ad413eedea19e68b98b3afa3a51",
    "cmr10": "baf579cc6a532da9c6914be57eac2ad141de7f82ee61db930158de683318b7d8",
    "cmss10": "79959f138c9b2585360401a6d36d11090b848da73755ecdb6ee84f9fdde3c5c9",
    "cmti10": "0b9e4537eb4e1a9bb1fbedb76dc159322b03bb303bd6d6c4418df25659d061d3",
    "cmtt10": "8be16bd15a6a511ccc43fa0211d788425dfedc055a6f650c1ee3f4076acd9e49",
}
"""SHA-256 of each font's outlines of the alphabet, in matplotlib 3.11 (before it there was no cmti10)."""

Point = tuple[float, float]


class Glyph(NamedTuple):
    """One character: closed polygons in font units, and how far the next character stands off."""

    contours: tuple[tuple[Point, ...], ...]
    advance: float


@cache
def outlines(font: str) -> dict[str, Glyph]:
    """Every character of the alphabet.

    Raises:
        KitError: The font is not there, or its outlines are not those that are expected.
    """
    from fontTools.pens.recordingPen import DecomposingRecordingPen
    from fontTools.ttLib import TTFont

    path = _fonts_folder() / f"{font}.ttf"
    logging.getLogger("fontTools.ttLib.tables._h_e_a_d").setLevel(logging.ERROR)  # of dates that nobody needs
    try:
        with TTFont(path, lazy=True) as file:
            names, glyphs = file.getBestCmap(), file.getGlyphSet()
            drawn = {}
            for character in ALPHABET:
                glyph = glyphs[names[ord(character)]]
                pen = DecomposingRecordingPen(glyphs)
                glyph.draw(pen)
                drawn[character] = (pen.value, glyph.width)
    except (OSError, KeyError) as error:
        raise KitError(f"{path}: cannot be read ({error}); install matplotlib 3.11 with its fonts") from None
    found = hashlib.sha256(repr(drawn).encode()).hexdigest()
    if found != FONTS[font]:
        raise KitError(
            f"{path}: its outlines have SHA-256 {found[:12]}, expected {FONTS[font][:12]}: another version of the font "
            "than glyphs are drawn with; install matplotlib 3.11"
        )
    return {character: Glyph(_contours(commands), width) for character, (commands, width) in drawn.items()}


def _fonts_folder() -> Path:
    spec = importlib.util.find_spec("matplotlib")  # without importing it
    if spec is None or not spec.submodule_search_locations:
        raise KitError("the fonts of glyphs come with matplotlib, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


def _contours(commands: list[tuple[str, tuple[Point, ...]]]) -> tuple[tuple[Point, ...], ...]:
    """Polygons of a recorded TrueType outline: lines, and splines of quadratic curves."""
    contours: list[tuple[Point, ...]] = []
    points: list[Point] = []
    for command, arguments in commands:
        match command:
            case "moveTo" | "lineTo":
                points.append(arguments[0])
            case "qCurveTo" if arguments[-1] is None:  # a contour without a corner
                middle = _halfway(arguments[-2], arguments[0])
                points += _spline(middle, (*arguments[:-1], middle))
            case "qCurveTo":
                points += _spline(points[-1], arguments)
            case "closePath":
                contours.append(tuple(points))
                points = []
            case _:
                raise ValueError(f"an outline with {command}")
    return tuple(contours)


def _halfway(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def _spline(start: Point, arguments: tuple[Point, ...]) -> list[Point]:
    """Points on a TrueType spline: between two control points lies a point of the curve, halfway."""
    controls, end = arguments[:-1], arguments[-1]
    points: list[Point] = []
    for number, control in enumerate(controls):
        last = number == len(controls) - 1
        stop = end if last else _halfway(control, controls[number + 1])
        for step in range(1, CURVE_STEPS + 1):
            t = step / CURVE_STEPS
            x, y = (
                (1 - t) * (1 - t) * a + 2 * t * (1 - t) * b + t * t * c
                for a, b, c in zip(start, control, stop, strict=True)
            )
            points.append((x, y))
        start = points[-1]
    return points


@lru_cache(maxsize=2048)
def coverage(font: str, text: str, side: int) -> NDArray[np.uint8]:
    """How much of each cell the text covers, of FULL, (side, side); it fills the square and lies in its middle."""
    edges = _edges(font, text)
    low, high = edges[:, 0].min(axis=0), edges[:, 0].max(axis=0)
    fine = side * SUBSAMPLES
    scale = (1 - 2 * MARGIN) * fine / max(high - low)
    # Font units grow upwards, rows downwards.
    placed = (edges - (low + high) / 2) * scale * np.array([1.0, -1.0]) + fine / 2
    inside = _winding(placed, fine) != 0
    cells = inside.reshape(side, SUBSAMPLES, side, SUBSAMPLES)
    covered = np.zeros((side, side), np.uint8)
    for row in range(SUBSAMPLES):
        for column in range(SUBSAMPLES):
            covered += cells[:, row, :, column]
    return covered


def _edges(font: str, text: str) -> NDArray[np.float64]:
    """(edges, 2, 2): start and end of each edge of the text, as x and y in font units."""
    glyphs, start, edges = outlines(font), 0.0, []
    for character in text:
        for contour in glyphs[character].contours:
            for (x, y), (next_x, next_y) in zip(contour, (*contour[1:], contour[0]), strict=True):
                edges.append(((x + start, y), (next_x + start, next_y)))
        start += glyphs[character].advance
    return np.array(edges, np.float64)


def _winding(edges: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """Winding number of the polygons around the middle of each cell, (side, side)."""
    (x0, y0), (x1, y1) = edges[:, 0].T, edges[:, 1].T
    middles = np.arange(side) + 0.5
    # An edge crosses a row when the row's middle lies between its ends, the lower end included.
    downward = (y0[:, None] <= middles) & (middles < y1[:, None])
    upward = (y1[:, None] <= middles) & (middles < y0[:, None])
    edge, row = np.nonzero(downward | upward)
    crossing = x0[edge] + (middles[row] - y0[edge]) / (y1[edge] - y0[edge]) * (x1[edge] - x0[edge])
    # Every cell whose middle lies to the right of the crossing is wound around once more, or once less.
    column = np.clip(np.ceil(crossing - 0.5).astype(np.int64), 0, side)
    change = np.zeros((side, side + 1), np.int64)
    np.add.at(change, (row, column), np.where(downward[edge, row], 1, -1))
    return np.cumsum(change, axis=1)[:, :side]
