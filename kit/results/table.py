"""Tables of results as CSV files, read as models and written from them."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from kit.errors import KitError, escaped
from kit.results.imported import Imported, Reading, Remark, UnreadableError, read_text
from kit.track import Model

RowT = TypeVar("RowT", bound=Model)


@dataclass(frozen=True)
class Table:
    """Cells as they were written."""

    path: Path
    columns: tuple[str, ...]
    """In small letters."""
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """Each with the line of the file on which it ends."""
    refused: tuple[Remark, ...]
    """What is no CSV."""


def read_table(path: Path) -> Table:
    """Read a file of at most 16 MiB; empty lines, and those that begin with `#`, are passed over.

    Raises:
        KitError: It cannot be read, or its head cannot.
    """
    try:
        lines = list(io.StringIO(read_text(path), newline=""))
    except UnreadableError as error:
        raise KitError(f"{path}: {error}") from None
    above = next((number for number, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    reader = csv.reader(lines[above:], strict=True)
    rows: list[tuple[int, tuple[str, ...]]] = []
    reading = Reading(path.parent)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#"):
                rows.append((above + reader.line_num, tuple(cells)))
    except csv.Error as error:
        if not rows:
            raise KitError(f"{path}, line {above + 1}: {error}") from error
        reading.refuse(path, f"not CSV from here on: {error}", rows[-1][0] + 1)
    columns = tuple(_plain(cell) for cell in rows[0][1]) if rows else ()
    return Table(path, columns, tuple(rows[1:]), tuple(reading.refused))


def own_columns(kind: type[Model]) -> dict[str, str]:
    """Columns that are named like a model's fields."""
    return {field: field for field in kind.model_fields}


def models(table: Table, kind: type[RowT], names: Mapping[str, str] | None = None) -> Imported[RowT]:
    """The rows of a table as models, and those that are none.

    Args:
        table: Where from; columns that are not asked for are passed over.
        kind: The model; columns of fields with a default may be missing.
        names: Its fields by the column of each; by default columns are named like fields. Capitals do not count.

    Raises:
        KitError: A column is missing, or there twice.
    """
    names = names or own_columns(kind)
    needed = [column for column, field in names.items() if kind.model_fields[field].is_required()]
    if twice := [column for column in names if table.columns.count(_plain(column)) > 1]:
        raise KitError(f"{table.path}: a column is there twice: {', '.join(twice)}")
    if missing := [column for column in needed if _plain(column) not in table.columns]:
        raise KitError(f"{table.path}: expected the columns {', '.join(names)}; missing: {', '.join(missing)}")
    at_least = 1 + max(table.columns.index(_plain(column)) for column in needed)
    reading = Reading(table.path.parent)
    read: list[RowT] = []
    for line, cells in table.rows:
        if not at_least <= len(cells) <= len(table.columns):
            reading.refuse(table.path, f"expected {len(table.columns)} cells, got {len(cells)}", line)
            continue
        found = {column: " ".join(cell.split()) for column, cell in zip(table.columns, cells, strict=False)}
        given = {field: found[_plain(column)] for column, field in names.items() if _plain(column) in found}
        try:
            read.append(kind.model_validate(given))
        except ValidationError as error:
            reading.refuse(table.path, _problem(error, names), line)
    return Imported(rows=tuple(read), refused=(*reading.refused, *table.refused), notes=())


def blank_is_none(value: Any) -> Any:
    """An empty cell as what it says."""
    return None if value == "" else value


def as_csv(names: Mapping[str, str], rows: Iterable[Model]) -> str:
    """Rows as CSV with a header; what is not known is blank.

    Args:
        names: Fields of the rows, or what follows from these, by the column of each.
        rows: What is written.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, field)) for field in names.values()] for row in rows)
    return out.getvalue()


def _plain(column: str) -> str:
    return " ".join(column.split()).lower()


def _problem(error: ValidationError, names: Mapping[str, str]) -> str:
    """The first one, by its column."""
    problem = error.errors(include_url=False)[0]
    column = next(column for column, field in names.items() if field == problem["loc"][0])
    return f"{column}: {problem['msg'].removeprefix('Value error, ')}, got {problem['input']!r}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return escaped(str(value))
