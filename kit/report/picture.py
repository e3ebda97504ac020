"""Pictures as files, and durations along their axes."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kit.errors import KitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNDATED: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Formats, and what keeps each from saying when it was drawn."""
DPI = 160

DURATIONS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
DECIMAL_STEPS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)
STEPS = {
    "ms": DECIMAL_STEPS,
    "s": (1, 2, 3, 5, 10, 20, 30),
    "min": (1, 2, 3, 5, 10, 20, 30),
    "h": (1, 2, 3, 4, 6, 8, 12),
    "d": DECIMAL_STEPS,
}
MAX_TICKS = 7


@contextmanager
def picture(path: Path, width_in: float, height_in: float) -> Iterator["Figure"]:
    """A figure to draw on; it is written at the end, in the format that the ending of the name says.

    Raises:
        KitError: There is no such format, or the file cannot be written.
    """
    if path.suffix.lower() not in UNDATED:
        raise KitError(f"--plot: expected a file name that ends in {', '.join(UNDATED)}, got '{path}'")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "kit"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names are in any script
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure
        try:
            figure.savefig(path, dpi=DPI, metadata=UNDATED[path.suffix.lower()])
        except OSError as error:
            raise KitError(f"cannot write {path}: {error.strerror}") from error


def duration(time_s: float) -> str:
    """In the largest unit of which there is at least one."""
    unit = next((name for name, unit_s in reversed(DURATIONS.items()) if time_s >= unit_s), "ms")
    return f"{time_s / DURATIONS[unit]:.3g} {unit}"


def duration_ticks(low_s: float, high_s: float) -> dict[float, str]:
    """Round durations between two times, not too many."""
    every = {step * unit_s: f"{step} {unit}" for unit, unit_s in DURATIONS.items() for step in STEPS[unit]}
    inside = {value: text for value, text in sorted(every.items()) if low_s <= value <= high_s}
    stride = -(-len(inside) // MAX_TICKS) or 1
    return dict(list(inside.items())[::stride])
