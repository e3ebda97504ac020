"""A board for people."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kit.analysis import board
from kit.analysis.board import Board, By, Flag, Row
from kit.analysis.result import DeviceKind
from kit.analysis.scoring import Measure, infinite
from kit.report.plain import escape_line
from kit.report.units import dollars, quantity, seconds

MAX_ROWS = 200
"""Of one table; nobody reads more in a terminal."""
HEADINGS: dict[By, str] = {
    "time": "time to target",
    "reference": "time to target on the reference device",
    "energy": "energy",
    "flops": "training operations",
    "cost": "cost",
}
COLUMNS: dict[By, str] = {
    "time": "time",
    "reference": "on reference",
    "energy": "energy",
    "flops": "training",
    "cost": "cost",
}
NAME, MIN_NAME = "submission", 6
GAP = 2
"""Between columns."""
FLAGS: dict[Flag, str] = {
    "incomplete": "fewer runs than there were to be",
    "control": "scores high although its training labels were shuffled",
    "resplit": "falls far short on a secret split",
    "drifted": "the machine changed meanwhile",
    "energy": "something speaks against the energy of a run",
}


def print_board(content: Board, console: Console) -> None:
    """One table for each track and machine, then what is to be known and what was left out."""
    if not content.tables:
        wanted = content.filters.model_dump(mode="json", exclude_none=True)
        asked = ", ".join(f"{name} {value}" for name, value in wanted.items())
        none = f"no entry here is of {asked}" if asked else "no official runs here; kit score makes them"
        console.print(escape_line(none), highlight=False)
    for table in content.tables:
        more = len(table.rows) - MAX_ROWS
        _print_table(table.model_copy(update={"rows": table.rows[:MAX_ROWS]}), content, console)
        if more > 0:
            console.print(f"and {more:,} more entries: --csv or --json give all of them", highlight=False)
        console.print()
    for left_out in content.left_out:
        console.print(
            f"left out: {escape_line(left_out.file)}: {escape_line(left_out.because)}", highlight=False, soft_wrap=True
        )
    if content.unofficial:
        console.print(f"runs here that are of no scoring: {content.unofficial}", highlight=False)


def _print_table(content: board.Table, whole: Board, console: Console) -> None:
    machine = "all machines" if content.device is None else _device(content.device)
    on = "" if whole.reference is None else f" {escape_line(whole.reference)}"
    for line in (
        f"[bold]{escape_line(content.track)}[/] version {content.version}: {escape_line(content.title)}",
        f"{machine}, {'sealed' if content.sealed else '[yellow]not sealed[/]'}, "
        f"data {escape_line(content.dataset_fingerprint[:12])}, by {HEADINGS[whole.by]}{on}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    columns = [column for column in _columns(content, whole.by) if any(cell != "-" for cell in column.cells)]
    # A file or a pipe is given whole lines, however long.
    shown = _fitting(columns, console.width) if console.is_terminal else columns
    excess = max(0, _width(shown) - console.width) if console.is_terminal else 0
    table = Table(box=None, pad_edge=False, width=_width(shown) - excess)
    for column in shown:
        width = max(MIN_NAME, column.width - excess) if column.heading == NAME else column.width
        table.add_column(column.heading, justify=column.justify, no_wrap=True, width=width)
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*cells)
    console.print(table, crop=console.is_terminal)
    if len(shown) < len(columns):
        hidden = ", ".join(column.heading for column in columns if column not in shown)
        console.print(f"[dim]too narrow for: {hidden}; --csv has all[/]", highlight=False, soft_wrap=True)
    for line in _notes(content, whole.by):
        console.print(line, highlight=False, soft_wrap=True)


def _device(device: DeviceKind) -> str:
    cores = f", {device.cores} cores" if device.cores is not None else ""
    count = f"{device.count} × " if device.count > 1 else ""
    return f"{count}{escape_line(device.name)}{cores}"


@dataclass(frozen=True)
class _Column:
    """One column; it is left out where no cell says anything."""

    heading: str
    justify: Literal["left", "right"]
    cells: list[str]
    can_be_missed: bool = False
    """On a terminal that has no room for it."""

    @cached_property
    def width(self) -> int:
        return max(cell_len(Text.from_markup(text).plain) for text in (self.heading, *self.cells))


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width + GAP for column in columns) - GAP


def _fitting(columns: Sequence[_Column], width: int) -> list[_Column]:
    """Columns that a terminal has room for: what can be missed goes first, from the right; numbers are never cut."""
    shown = list(columns)
    for column in reversed(columns):
        if _width(shown) > width and column.can_be_missed:
            shown.remove(column)
    return shown


def _columns(content: board.Table, by: By) -> Iterator[_Column]:
    rows = content.rows
    yield _Column("rank", "right", [_rank(row) for row in rows])
    yield _Column(NAME, "left", [escape_line(label) for label in content.labels])
    yield _Column(COLUMNS[by], "right", [_median(row.measure(by), by) for row in rows])
    yield _Column("interval", "right", [_interval(row.measure(by), by) for row in rows])
    yield _Column("method", "left", [_method(row) for row in rows])
    if content.device is None:
        yield _Column("ran on", "left", [_device(row.entry.device) for row in rows])
    yield _Column("reached", "right", [_reached(row) for row in rows])
    yield _Column("expected", "right", [seconds(row.entry.expected_s) for row in rows], can_be_missed=True)
    for what, heading in COLUMNS.items():
        if what not in (by, "reference"):
            yield _Column(heading, "right", [_median(row.measure(what), what) for row in rows], can_be_missed=True)
    yield _Column("efficiency", "right", [_efficiency(row) for row in rows], can_be_missed=True)
    front = [{True: "yes", False: "no", None: "-"}[row.pareto] for row in rows]
    yield _Column("front", "left", front, can_be_missed=True)
    yield _Column("signed", "left", [_signed(row) for row in rows], can_be_missed=True)
    machine = ["-" if row.calibration == "none" else row.calibration for row in rows]
    yield _Column("machine", "left", machine, can_be_missed=True)
    yield _Column("flags", "left", [_flags(row) for row in rows])


def _method(row: Row) -> str:
    tier = None if row.on_reference is None else row.on_reference.tier
    return "-" if tier is None else f"[yellow]{tier}[/]" if tier == "spec" else tier


def _efficiency(row: Row) -> str:
    return "-" if row.efficiency.value is None else f"{row.efficiency.value:.3g}×"


def _rank(row: Row) -> str:
    return "-" if row.rank is None else f"{row.rank}{' tied' if row.tied else ''}"


def _reached(row: Row) -> str:
    success = row.entry.success
    reached = row.entry.outcomes.get("reached", 0)
    return f"{reached}/{row.entry.runs} ({100 * success.low:.0f} to {success.high:.0%})"


def _flags(row: Row) -> str:
    return f"[red]{', '.join(row.flags)}[/]" if row.flags else "-"


def _signed(row: Row) -> str:
    signed = row.signed_runs
    return "yes" if signed == row.entry.runs else "no" if not signed else f"{signed} of {row.entry.runs}"


def _median(measure: Measure, what: By) -> str:
    return "-" if measure.median is None else _number(measure.median.value, what)


def _interval(measure: Measure, what: By) -> str:
    if measure.median is None or measure.median.interval is None:
        return "-"
    interval = measure.median.interval
    return f"{_number(interval.low, what)} to {_number(interval.high, what)}"


def _number(value: float | None, what: By) -> str:
    if value is None:
        return "∞"
    match what:
        case "time" | "reference":
            return seconds(value)
        case "energy":
            return quantity(value, "J")
        case "flops":
            return quantity(value, "FLOP")
        case "cost":
            return dollars(value)


def _notes(content: board.Table, by: By) -> Iterator[str]:
    medians = [row.measure(by).median for row in content.rows]
    intervals = [median.interval for median in medians if median is not None and median.interval is not None]
    confidences = sorted({f"{interval.confidence:.2%}" for interval in intervals})
    if confidences:
        yield f"[dim]intervals hold the true median in {' or '.join(confidences)} of cases, success rates in 95 %[/]"
    if any(row.tied for row in content.rows):
        yield "[dim]tied: the interval overlaps that of the leader[/]"
    yield from _signers(content)
    for flag, words in FLAGS.items():
        if any(flag in row.flags for row in content.rows):
            yield f"[red]{flag}: {words}[/]"
    for row, label in zip(content.rows, content.labels, strict=True):
        name = escape_line(label)
        for what, verdict in (("secret split", row.resplit), ("shuffled labels", row.control)):
            if verdict is not None and verdict.verdict != "holds":
                style = "red" if verdict.suspicious else "yellow"
                yield f"[{style}]{name}, {what}, {verdict.verdict}: {escape_line(verdict.because)}[/]"
        if infinite(row.entry.expected_s) == float("inf"):
            yield f"[dim]{name} never reached the target: {escape_line(_outcomes(row))}[/]"
    if by == "reference":
        yield from _on_reference(content)
    elif all(row.pareto is None for row in content.rows):
        yield "[dim]no front of time and energy: no entry here has both[/]"
    yield from _unavailable(content, by)


def _on_reference(content: board.Table) -> Iterator[str]:
    """What each time rests on, and why some have no rank."""
    for row, label in zip(content.rows, content.labels, strict=True):
        name, found = escape_line(label), row.on_reference
        if found is not None and found.tier is not None:
            without = f"; [yellow]{escape_line(row.unranked_because)}[/]" if row.unranked_because else ""
            yield f"[dim]{name}: {found.tier}, from {escape_line(found.basis or '')}[/]{without}"


def _signers(content: board.Table) -> Iterator[str]:
    runs: Counter[tuple[str | None, str]] = Counter()
    for row in content.rows:
        runs.update({(signer.name, signer.fingerprint): signer.runs for signer in row.signers})
    for (name, mark), count in sorted(runs.items(), key=lambda item: (item[0][0] or "", item[0][1])):
        who = "a key that you do not name" if name is None else escape_line(name)
        yield f"[dim]signed by {who} ({mark}): {count} runs[/]"


def _unavailable(content: board.Table, by: By) -> Iterator[str]:
    """Which entries have no value of what, and why; each reason once."""
    names: dict[tuple[str, str], list[str]] = {}
    for row, label in zip(content.rows, content.labels, strict=True):
        reasons = {
            heading: row.measure(what).unavailable_because
            for what, heading in HEADINGS.items()
            if what != "reference" or by == "reference"
        }
        for heading, because in {**reasons, "algorithmic efficiency": row.efficiency.unavailable_because}.items():
            if because is not None:
                names.setdefault((heading, because), []).append(label)
    for (heading, because), entries in names.items():
        which = "" if len(entries) == len(content.rows) else f" of {', '.join(entries)}"
        yield f"[dim]no {heading}{escape_line(which)}: {escape_line(because)}[/]"


def _outcomes(row: Row) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in row.entry.outcomes.items())
