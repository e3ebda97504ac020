"""A history of efficiency as tables."""

from collections.abc import Iterator, Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table

from kit.analysis.history import FixedHardware, History
from kit.analysis.progress import Doubling, Dropped, Fit, Point, Progress
from kit.report.compare import ratio
from kit.report.plain import escape_line
from kit.report.units import dollars, quantity, seconds

COSTS = {"flops": "training operations", "time": "time to target", "energy": "energy", "cost": "cost"}
KNOWN_UNITS = ("s", "USD", "FLOP", "J")
LABEL_CHARACTERS = 26
FIXED_ROWS = (
    "results",
    "first record",
    "last record",
    "software and algorithm",
    "  doubling, ends / least squares",
    "any hardware, in that time",
    "  of that hardware and scale",
    "any hardware, in all",
    "  of that the rest",
)
FIXED_NOTE = "the rest: hardware and scale, and what software gained outside that time"


def print_history(history: History, console: Console) -> None:
    """The records of each series with their doubling time, and what to know before using them."""
    if history.source is not None:
        console.print(f"[dim]from {escape_line(history.source)}[/]\n", highlight=False, soft_wrap=True)
    if not history.progress:
        console.print(f"no results with {COSTS[history.by]} and a date here", highlight=False)
    for progress in history.progress:
        _print_progress(progress, console)
        if fixed := [one for one in history.fixed_hardware if one.series == progress.series.name]:
            _print_fixed(progress, fixed, console)
    if history.models:
        _print_models(history, console)
    for line in _remarks(history):
        console.print(line, highlight=False, soft_wrap=True)


def cost(value: float, unit: str) -> str:
    """A cost in its unit; one of a source's own is left to the heading."""
    match unit:
        case "s":
            return seconds(value)
        case "USD":
            return dollars(value)
        case "FLOP" | "J":
            return quantity(value, unit)
        case _:
            return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def cost_heading(progress: Progress) -> str:
    """What a column of costs is of, with the unit where `cost` does not say it."""
    series = progress.series
    return COSTS[series.by] if series.unit in KNOWN_UNITS else series.unit


def short(text: str, characters: int) -> str:
    """The beginning of a label, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"


def doubling_text(progress: Progress) -> str:
    """The doubling time by both methods, or why there is none."""
    doubling = progress.doubling
    if doubling is None:
        return f"no doubling time: {progress.no_doubling_because}"
    ends = f"{doubling.endpoints_months:.1f} months by its ends"
    if doubling.fit is None:
        return f"{ends}; by least squares none: {doubling.no_fit_because}"
    return f"{ends}, {doubling.fit.doubling_months:.1f} by least squares (R² {doubling.fit.r_squared:.2f})"


def _print_progress(progress: Progress, console: Console) -> None:
    series = progress.series
    title = f": {escape_line(series.title)}" if series.title else ""
    console.print(f"[bold]{escape_line(series.name)}[/]{title}", highlight=False, soft_wrap=True)
    console.print(_records(progress))
    count = len(series.points)
    if len(progress.frontier) < count:
        line = f"[dim]{len(progress.frontier)} of {count} results cost less than all before them[/]"
        console.print(line, highlight=False, soft_wrap=True)
    for line in _summary(progress):
        console.print(line, highlight=False, soft_wrap=True)
    console.print()


def _records(progress: Progress) -> Table:
    records, unit = progress.frontier, progress.series.unit
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("date", no_wrap=True)
    table.add_column("record", no_wrap=True)
    columns: list[tuple[str, list[str]]] = [
        (cost_heading(progress), [cost(point.cost, unit) for point in records]),
        ("× first", [ratio(records[0].cost / point.cost) for point in records]),
        ("published", ["-" if point.published_ratio is None else f"{point.published_ratio:g}" for point in records]),
        ("hardware", [escape_line(point.hardware or "-") for point in records]),
        ("flags", [_flags(point) for point in records]),
    ]
    columns = [(heading, cells) for heading, cells in columns if any(cell != "-" for cell in cells)]
    for heading, _ in columns:
        right = heading not in ("hardware", "flags")
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(heading, justify=justify, no_wrap=right, overflow="fold", min_width=len(heading))
    for index, point in enumerate(records):
        table.add_row(
            str(point.date), escape_line(short(point.label, LABEL_CHARACTERS)), *(cells[index] for _, cells in columns)
        )
    return table


def _flags(point: Point) -> str:
    return f"[yellow]{', '.join(point.flags)}[/]" if point.flags else "-"


def _summary(progress: Progress) -> Iterator[str]:
    claim = progress.series.claim
    if progress.doubling is not None:
        published = "" if claim is None else f" (published: {claim.ratio:g})"
        yield (
            f"efficiency × [bold]{ratio(progress.ratio)}[/]{published} in {progress.months:.1f} months; "
            f"Moore's law in that time × {ratio(progress.moore_ratio)}"
        )
    text = escape_line(doubling_text(progress))
    published = "" if claim is None else f"; published: {claim.doubling_months:g} ({escape_line(claim.source)})"
    yield f"doubling time {text}{published}" if progress.doubling is not None else text
    if progress.doubling is not None and progress.doubling.fit is not None:
        yield f"[dim]least squares: {_spread(progress.doubling.fit)}[/]"


def _spread(fit: Fit) -> str:
    interval = (
        f"no interval: {fit.no_interval_because}"
        if fit.interval is None
        else f"{fit.interval.low_months:.1f} to {fit.interval.high_months:.1f} months in 95 % of "
        f"{fit.interval.resamples:,} resamples"
    )
    return f"{interval}; leaving one out, from {_without(fit.shortest)} to {_without(fit.longest)}"


def _without(dropped: Dropped) -> str:
    label = dropped.label.split(",")[0]
    return f"{dropped.doubling_months:.1f} (without {escape_line(label)})"


def _print_fixed(whole: Progress, fixed: Sequence[FixedHardware], console: Console) -> None:
    """What was gained on one kind and number of devices, and what that leaves."""
    console.print("[bold]on fixed hardware[/]", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    rows: list[list[str]] = [[name] for name in FIXED_ROWS]
    for one in fixed:
        table.add_column(f"{one.count} × {escape_line(one.device)}", justify="right", no_wrap=True)
        for row, cell in zip(rows, _fixed_cells(whole, one), strict=True):
            row.append(cell)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(f"[dim]{FIXED_NOTE}[/]\n", highlight=False, soft_wrap=True)


def _fixed_cells(whole: Progress, one: FixedHardware) -> list[str]:
    within = one.progress
    if within is None or one.rest_ratio is None or one.same_period_ratio is None:
        return ["none", *["-"] * (len(FIXED_ROWS) - 1)]
    return [
        f"{len(within.series.points)}",
        str(within.frontier[0].date),
        str(within.frontier[-1].date),
        f"× {ratio(within.ratio)}",
        _both_months(within.doubling),
        f"× {ratio(one.same_period_ratio)}",
        f"× {ratio(one.same_period_ratio / within.ratio)}",
        f"× {ratio(whole.ratio)}",
        f"× {ratio(one.rest_ratio)}",
    ]


def _both_months(doubling: Doubling | None) -> str:
    if doubling is None:
        return "-"
    by_line = "-" if doubling.fit is None else f"{doubling.fit.doubling_months:.1f}"
    return f"{doubling.endpoints_months:.1f} / {by_line} months"


def _print_models(history: History, console: Console) -> None:
    level = history.progress[0]
    line = f"[bold]all {len(history.models)} models[/] that the paper trained to {level.series.name}'s level"
    console.print(line, highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("model", no_wrap=True)
    for heading in ("epochs", "multiply-adds an image", cost_heading(level), "× AlexNet"):
        table.add_column(heading, justify="right")
    for model in history.models:
        table.add_row(
            escape_line(model.label),
            str(model.epochs),
            quantity(model.multiply_adds_per_image, ""),
            cost(model.cost, level.series.unit),
            ratio(model.ratio),
        )
    console.print(table)
    console.print()


def _remarks(history: History) -> Iterator[str]:
    for flag, words in history.flags.items():
        yield f"[yellow]{flag}[/]: {words}"
    for note in history.notes:
        yield f"[dim]{escape_line(note)}[/]"
    for left_out in history.left_out:
        yield f"left out: {escape_line(left_out.file)}: {escape_line(left_out.because)}"
