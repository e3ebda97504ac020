"""DAWNBench's entries: a JSON file that describes a run, and beside it a TSV file with its evaluations.

Facts: README.md and tests/test_submissions.py of github.com/stanford-futuredata/dawn-bench-entries, commit fb27b827.
What its 58 training entries get away with is read as it was meant: CRLF, a byte-order mark, columns in any order,
several tabs or blanks for one tab, epochs and hours under each other's names, fractions for percents, epochs that are
not whole.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.imported import Imported, Reading, UnreadableError, read_text, shortened
from kit.results.published.dawnbench import TASKS, DawnbenchEntry
from kit.results.table import own_columns

Task = Literal["CIFAR10", "ImageNet"]

METRICS = {"CIFAR10": "top1Accuracy", "ImageNet": "top5Accuracy"}
"""The column that decides."""
HEADERS: dict[Task, tuple[str, ...]] = {
    "CIFAR10": ("epoch", "hours", "top1Accuracy"),
    "ImageNet": ("epoch", "hours", "top1Accuracy", "top5Accuracy"),
}
OTHER_TASKS = {"squad"}
INFERENCE = "inference"
COLUMNS = own_columns(DawnbenchEntry)
"""Of the table that the kit ships (`kit.results.published.dawnbench`)."""
TABS = re.compile(r"\t+")
BLANKS = re.compile(r"[ \t]+")
"""Where an editor made blanks of the tabs."""
MAX_FILES = 100_000
MAX_REFUSED_ROWS = 20
"""Of one file that are told one by one."""
DIGITS = 10
"""Decimals of a percentage: takes back what 100 x a binary fraction adds."""


@dataclass(frozen=True)
class Row:
    """One evaluation."""

    line: int
    epoch: float | None
    hours: float
    percent: float


def import_dawnbench(folder: Path) -> Imported[DawnbenchEntry]:
    """Read every training entry below a folder of DAWNBench's shape.

    Args:
        folder: The repository's checkout, or a part of it, or a folder like it.

    Returns:
        Rows in the order of their files' names. `time_to_target_s` is of the first row at or above the target, rounded
        to microseconds; what the entry does not say is None.

    Raises:
        KitError: There is no such folder, or no entry in it.
    """
    if not folder.is_dir():
        raise KitError(f"{folder}: expected a folder of DAWNBench entries, with <task>/train/*.json and *.tsv")
    reading = Reading(folder)
    entries: list[DawnbenchEntry] = []
    descriptions, tables = _find(folder, reading)
    for path in sorted(descriptions):
        table = path.with_suffix(".tsv")
        try:
            entry = _entry(path, table if table in tables else None, reading)
        except _InTableError as error:
            reading.refuse(table, str(error), error.line)
        except UnreadableError as error:
            reading.refuse(path, str(error), error.line)
        else:
            if entry is not None:
                entries.append(entry)
    for path in sorted(tables - {path.with_suffix(".tsv") for path in descriptions}):
        reading.refuse(path, "there is no .json of this name beside it")
    if not entries and not reading.refused and not reading.notes:
        raise KitError(f"{folder}: no DAWNBench entries here; expected <task>/train/*.json and *.tsv")
    return Imported(rows=tuple(entries), refused=tuple(reading.refused), notes=tuple(reading.notes))


class _InTableError(UnreadableError):
    """The trouble is in the TSV file."""


def _find(folder: Path, reading: Reading) -> tuple[set[Path], set[Path]]:
    """Descriptions and tables of training entries."""
    descriptions: set[Path] = set()
    tables: set[Path] = set()
    left_out = 0
    for number, path in enumerate(_walk(folder)):
        if number == MAX_FILES:
            raise KitError(f"{folder}: more than {MAX_FILES:,} files; expected a folder of DAWNBench entries")
        if path.suffix not in (".json", ".tsv"):
            continue
        if INFERENCE in _parts(path, folder):
            left_out += path.suffix == ".json"
        else:
            (descriptions if path.suffix == ".json" else tables).add(path)
    if left_out:
        reading.note(folder, f"inference is left out ({left_out} entries): only training is imported")
    return descriptions, tables


def _walk(folder: Path) -> Iterator[Path]:
    """Files, without following links to folders."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in names if not name.startswith("."))


def _parts(path: Path, folder: Path) -> list[str]:
    """The folders that a file lies in, the nearest first, in small letters."""
    below = path.relative_to(folder).parts[:-1]
    above = folder.resolve().parts[-2:] if len(below) < 2 else ()
    return [part.lower() for part in reversed((*above, *below))]


# ---- one entry


def _entry(path: Path, table: Path | None, reading: Reading) -> DawnbenchEntry | None:
    """The entry, or None where it is of a task that is not imported.

    Raises:
        UnreadableError: It cannot be read.
    """
    parts = _parts(path, reading.root)
    if any(part in OTHER_TASKS for part in parts):
        reading.note(path, f"left out: only {' and '.join(TASKS)} are imported")
        return None
    description = _description(path)
    if table is None:
        raise UnreadableError("there is no .tsv of this name beside it")
    try:
        names, rows = _table(table)
        task = _task(parts, names)
        if task is None:
            reading.note(path, f"left out: only {' and '.join(TASKS)} are imported")
            return None
        evaluations = _evaluations(task, table, names, rows, reading)
        reached = _first_reached(task, evaluations)
    except UnreadableError as error:
        raise _InTableError(str(error), error.line) from None
    _note_backward_hours(evaluations, table, reading)
    content = {
        "task": task,
        "date": _date(description),
        "author": _text(description, "author"),
        "framework": _text(description, "framework"),
        "model": _text(description, "model"),
        "hardware": _text(description, "hardware"),
        "hardware_read_as": None,
        "time_to_target_s": round(reached.hours * 3600, 6),
        "cost_per_hour_usd": _price(description, path, reading),
        "epoch_at_target": reached.epoch,
        "accuracy_at_target": reached.percent,
        "best_accuracy": max(row.percent for row in evaluations),
        "rows_in_tsv": len(evaluations),
        "image_px": None,
        "recipe_of": None,
        "code_url": _text(description, "codeURL", needed=False),
        "source_file": reading.name(path),
    }
    try:
        return DawnbenchEntry.model_validate(content)
    except ValidationError as error:
        raise UnreadableError(first_problem(error)) from None


def _description(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        found = json.loads(read_text(path), parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error.msg}", error.lineno) from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error or 'nested too deeply'}") from None
    if not isinstance(found, dict):
        raise UnreadableError(f"expected a JSON object, got {type(found).__name__}")
    return found


def _text(description: dict[str, Any], key: str, *, needed: bool = True) -> str:
    value = description.get(key)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value.strip()) or not _is_unicode(value):
        given = "nothing" if value in (None, "") else repr(value)
        raise UnreadableError(f"{key}: expected text, got {given}")
    return " ".join(value.split())


def _is_unicode(text: str) -> bool:
    """Whether it can be written down: JSON's escapes can say half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _date(description: dict[str, Any]) -> date:
    text = _text(description, "timestamp")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UnreadableError(f"timestamp: expected yyyy-mm-dd, got {text!r}") from None


def _price(description: dict[str, Any], path: Path, reading: Reading) -> float | None:
    """US dollars an hour; None where there is none, or none that can be read."""
    given = description.get("costPerHour")
    if given in (None, ""):
        return None
    try:
        price = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        price = math.nan
    if not (math.isfinite(price) and price >= 0):
        reading.note(path, f"costPerHour: expected a number of US dollars, got {given!r}; left blank")
        return None
    return price


# ---- its table


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, and the cells of each line by its number."""
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    if not lines:
        raise UnreadableError("empty")
    number, header = lines[0]
    between = TABS if "\t" in header else BLANKS
    known = {name.lower(): name for names in (*HEADERS.values(), ("f1Score",)) for name in names}
    names = [known.get(name.strip().lower(), name.strip()) for name in between.split(header.strip())]
    if len(set(names)) < len(names):
        raise UnreadableError("two columns of one name", number)
    return names, [(number, _cells(line, len(names), between)) for number, line in lines[1:]]


def _cells(line: str, count: int, between: re.Pattern[str]) -> list[str]:
    """Between single tabs; where these are not as many as the header has it, several are one."""
    cells = line.split("\t")
    if len(cells) != count:
        cells = between.split(line.strip())
    return [cell.strip() for cell in cells]


def _task(parts: Sequence[str], names: Sequence[str]) -> Task | None:
    """By the folder, or else by the columns; None is a task that is not imported."""
    for part in parts:
        for task in HEADERS:
            if part == task.lower():
                return task
    if "f1Score" in names:
        return None
    if "top5Accuracy" in names:
        return "ImageNet"
    if "top1Accuracy" in names:
        return "CIFAR10"
    raise UnreadableError(f"expected the columns {', '.join(HEADERS['CIFAR10'])}, got {', '.join(names)}", 1)


def _evaluations(
    task: Task, path: Path, names: Sequence[str], lines: Sequence[tuple[int, list[str]]], reading: Reading
) -> list[Row]:
    """The rows that can be read, with hours and percents as they were meant."""
    metric = METRICS[task]
    if missing := [name for name in ("hours", metric) if name not in names]:
        raise UnreadableError(f"expected the columns {', '.join(HEADERS[task])}; {missing[0]} is missing", 1)
    rows: list[Row] = []
    refused = 0
    for number, cells in lines:
        try:
            if len(cells) != len(names):
                raise UnreadableError(f"expected {len(names)} cells, got {len(cells)}")
            given = dict(zip(names, cells, strict=True))
            epoch = _number(given, "epoch") if given.get("epoch") else None
            rows.append(Row(number, epoch, _number(given, "hours"), _number(given, metric)))
        except UnreadableError as error:
            refused += 1
            if refused <= MAX_REFUSED_ROWS:
                reading.refuse(path, str(error), number)
    if refused > MAX_REFUSED_ROWS:
        reading.refuse(path, f"{refused - MAX_REFUSED_ROWS} more rows that cannot be read")
    if not rows:
        raise UnreadableError("no row that can be read")
    if _swapped(rows):
        reading.note(path, "hours count up from one row to the next and epochs do not: read as each other")
        rows = [Row(row.line, row.hours, row.epoch or 0.0, row.percent) for row in rows]
    if max(row.percent for row in rows) <= 1:
        reading.note(path, f"{metric} is at most 1: read as fractions, not percents")
        rows = [Row(row.line, row.epoch, row.hours, round(row.percent * 100, DIGITS)) for row in rows]
    return rows


def _number(cells: dict[str, str], name: str) -> float:
    try:
        value = float(cells[name])
    except ValueError:
        raise UnreadableError(f"{name}: expected a number, got {cells[name]!r}") from None
    if not 0 <= value < math.inf or (name.endswith("Accuracy") and value > 100):
        raise UnreadableError(f"{name}: out of range: {cells[name]}")
    return value


def _swapped(rows: Sequence[Row]) -> bool:
    """Whether hours are 1, 2, 3 and so on beside epochs that are broken numbers, and fewer."""
    epochs = [row.epoch for row in rows if row.epoch is not None]
    if len(rows) < 2 or len(epochs) < len(rows):
        return False
    first = rows[0].hours
    counts = first in (0, 1) and all(row.hours == first + number for number, row in enumerate(rows))
    return counts and max(epochs) < rows[-1].hours and any(epoch % 1 for epoch in epochs)


def _first_reached(task: Task, rows: Sequence[Row]) -> Row:
    target = round(TASKS[task].target * 100, DIGITS)
    longest = 0.0
    for row in rows:
        longest = max(longest, row.hours)
        if row.percent >= target:
            if row.hours < longest:
                raise UnreadableError(
                    "hours go back before the target is reached: not the time since the start", row.line
                )
            if row.hours <= 0:
                raise UnreadableError("the target is reached after 0 hours", row.line)
            if not row.epoch:
                raise UnreadableError("the target is reached at an epoch that is not given", row.line)
            return row
    best = max(row.percent for row in rows)
    raise UnreadableError(f"{METRICS[task]} never reaches {target:g} %: the best is {shortened(f'{best:g}')} %")


def _note_backward_hours(rows: Sequence[Row], path: Path, reading: Reading) -> None:
    for before, row in pairwise(rows):
        if row.hours < before.hours:
            reading.note(path, f"hours go back from {before.hours:g} to {row.hours:g}", row.line)
            return
