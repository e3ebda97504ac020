"""Tables for spreadsheets, in which nothing that a stranger wrote is computed."""

import csv
import io
from collections.abc import Iterable

from kit.protocol import printable

Cell = str | int | float | bool | None
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula, full-width signs included (OWASP, CSV Injection)."""


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[Cell]]) -> str:
    """A table with a heading: None is an empty cell, and no text is a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell_text(cell) for cell in row] for row in rows)
    return file.getvalue()


def _cell_text(cell: Cell) -> str:
    """A cell: nothing for None, and a text of a stranger's as nothing but a text."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if not isinstance(cell, str):
        return repr(cell)
    text = printable(cell)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text
