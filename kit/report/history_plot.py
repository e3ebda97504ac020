"""A history of efficiency as a picture: costs over time on a log axis, and Moore's law beside them."""

import math
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.analysis.history import History
from kit.analysis.progress import DAYS_PER_MONTH, MOORE_MONTHS, Point, Progress
from kit.errors import KitError
from kit.protocol import printable
from kit.report.compare import ratio
from kit.report.history import COSTS, KNOWN_UNITS, cost, short
from kit.report.picture import duration_ticks, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECORDS, OTHERS, LAW = "#33414e", "#b8c2ca", "#8a949c"
FIXED = ("#2a9d8f", "#d1603d", "#6a4c93")
"""Hardware that is held fixed, one colour each."""
MAX_PANELS = 40
NAMED_APART = 0.05
"""Share of the height, in logs, by which a record lies below the last that was named."""
FLAGGED = "†"
LABEL_CHARACTERS = 22
TITLE_CHARACTERS = 70


def plot_history(history: History, path: Path) -> None:
    """Write the picture, a panel for each series; the ending of the name says which format.

    Raises:
        KitError: There is nothing to draw, or more than can be seen; no such format; the file cannot be written.
    """
    panels = len(history.progress)
    if not panels:
        raise KitError(f"--plot: {history.name} has no results with {COSTS[history.by]} and a date: nothing to draw")
    if panels > MAX_PANELS:
        raise KitError(f"--plot: {panels} series are more than can be seen, at most {MAX_PANELS}; use --json")
    columns = min(2, panels)
    rows = math.ceil(panels / columns)
    width_in, height_in = (9.6, 6.0) if panels == 1 else (12.8, 4.6 * rows)
    with picture(path, width_in, height_in) as figure:
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, progress in zip(grid, history.progress, strict=False):
            _draw(axes, progress, history)
        for axes in grid[panels:]:
            axes.set_axis_off()


def _draw(axes: "Axes", progress: Progress, history: History) -> None:
    records, series = progress.frontier, progress.series
    others = [point for point in series.points if point not in records]
    axes.set_yscale("log")
    if others:
        axes.plot(*_xy(others), ls="", marker="o", ms=4, color=OTHERS, label="other results", zorder=2)
    _frontier(axes, records, RECORDS, "records", 3.2 if history.fixed_hardware else 1.6)
    fixed = [one for one in history.fixed_hardware if one.series == series.name and one.progress is not None]
    for one, colour in zip(fixed, FIXED, strict=False):
        if one.progress is not None:
            label = f"{one.count} × {one.device}: × {ratio(one.progress.ratio)}"
            _frontier(axes, one.progress.frontier, colour, label, 1.4)
    _fit(axes, progress)
    _law(axes, progress)
    _name(axes, progress)
    if any(point.flags for point in records):
        axes.plot([], [], ls="", label=f"{FLAGGED} flagged; kit progress says why")
    _axes(axes, progress)


def _frontier(axes: "Axes", records: Sequence[Point], colour: str, label: str, width: float) -> None:
    axes.plot(
        *_xy(records),
        drawstyle="steps-post",
        marker="o",
        ms=3.5 + width,
        lw=width,
        color=colour,
        label=label,
        zorder=3,
    )


def _fit(axes: "Axes", progress: Progress) -> None:
    """The least-squares line."""
    if progress.doubling is None or progress.doubling.fit is None:
        return
    fit, first, last = progress.doubling.fit, progress.frontier[0], progress.frontier[-1]
    ends = [first.cost * 2**-fit.intercept, first.cost * 2 ** -(fit.intercept + progress.months / fit.doubling_months)]
    label = f"least squares: doubling in {fit.doubling_months:.1f} months"
    axes.plot([first.date, last.date], ends, ls="--", lw=1.2, color=RECORDS, label=label, zorder=2)  # type: ignore[arg-type]


def _law(axes: "Axes", progress: Progress) -> None:
    """From the first record, as long as there are results, and a year at least."""
    first, last = progress.frontier[0], max(point.date for point in progress.series.points)
    months = max((last - first.date).days / DAYS_PER_MONTH, 12)
    end = first.date + timedelta(days=months * DAYS_PER_MONTH)
    costs = [first.cost, first.cost * 2 ** (-months / MOORE_MONTHS)]
    label = f"Moore's law: doubling in {MOORE_MONTHS} months"
    axes.plot([first.date, end], costs, ls=":", lw=1.6, color=LAW, label=label, zorder=1)  # type: ignore[arg-type]


def _name(axes: "Axes", progress: Progress) -> None:
    """What a record is called, to its upper right; not where it lies beside the one that was named before."""
    records = progress.frontier
    apart = math.log(records[0].cost / records[-1].cost) * NAMED_APART
    last = math.inf
    for point in records:
        if last - math.log(point.cost) < apart and point is not records[-1]:
            continue
        last = math.log(point.cost)
        axes.annotate(
            printable(short(point.label.split(",")[0], LABEL_CHARACTERS)) + (f" {FLAGGED}" if point.flags else ""),
            (point.date, point.cost),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            color=RECORDS,
            parse_math=False,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
            zorder=5,
        )


def _axes(axes: "Axes", progress: Progress) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import NullLocator

    series = progress.series
    dates = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(dates)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    axes.margins(x=0.16, y=0.1)
    ticks = _ticks(*axes.get_ylim(), progress)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(COSTS[series.by] + ("" if series.unit in KNOWN_UNITS else f", {series.unit}"))
    axes.grid(color="#e3e7ea", lw=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    name = f"{series.name}: {series.title}" if series.title else series.name
    gain = "" if progress.doubling is None else f"\n× {ratio(progress.ratio)} in {progress.months:.1f} months"
    axes.set_title(printable(short(name, TITLE_CHARACTERS)) + gain, loc="left", fontsize=10, parse_math=False)


def _ticks(low: float, high: float, progress: Progress) -> dict[float, str]:
    """Round costs; where too few lie between, those of the first and of the last record."""
    from matplotlib.ticker import LogLocator

    unit = progress.series.unit
    if unit == "s":
        ticks = duration_ticks(low, high)
    else:
        subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
        ticks = {float(value): cost(value, unit) for value in LogLocator(subs=subs).tick_values(low, high)}
        ticks = {value: text for value, text in ticks.items() if low <= value <= high}
    ends = (progress.frontier[0].cost, progress.frontier[-1].cost)
    return ticks if len(ticks) > 1 else {value: cost(value, unit) for value in ends}


def _xy(points: Sequence[Point]) -> tuple[Any, list[float]]:
    """Matplotlib takes dates, and its annotations do not say so."""
    return [point.date for point in points], [point.cost for point in points]
