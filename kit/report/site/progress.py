"""The page of progress: our records, and the published tables."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from kit.analysis.histories import TABLES, history_named
from kit.analysis.history import History
from kit.analysis.material import Material
from kit.analysis.progress import MOORE_MONTHS, Progress
from kit.analysis.results_history import make_history
from kit.report.csv_text import csv_text
from kit.report.site.downloads import json_bytes
from kit.report.site.figures import Figure, Line, axis, label, lines, log_axis
from kit.report.site.folder import Folder
from kit.report.site.names import slug_with
from kit.report.site.render import render
from kit.report.site.words import NOTHING, factor

HALF_A_YEAR = timedelta(days=183)
"""To either side of results of one day."""
TITLES = {
    "results": "These results",
    "ai-and-efficiency": "AI and Efficiency",
    "dawnbench-cifar10": "DAWNBench, CIFAR-10",
    "dawnbench-imagenet": "DAWNBench, ImageNet",
}
MAX_POINTS = 2000
"""Results in one plot and its table; the downloads have all."""
MAX_NAMED = 12
"""Records whose names stand in the plot."""
POINT_COLUMNS = (
    "series",
    "date",
    "cost",
    "unit",
    "label",
    "hardware",
    "source",
    "published_ratio",
    "frontier",
    "flags",
)


def write_progress(folder: Folder, material: Material) -> None:
    """Write the page and its numbers."""
    histories = [("results", make_history("results", material))]
    histories += [(name, history_named(name)) for name in TABLES]
    parts = []
    for name, history in histories:
        folder.write(f"progress-{name}.json", json_bytes(history))
        folder.write(f"progress-{name}.csv", csv_text(POINT_COLUMNS, _rows(history)))
        parts.append(
            {
                "id": name,
                "title": TITLES[name],
                "source": history.source,
                "series": [_series(name, progress) for progress in history.progress],
                "nothing": "There are no results with a date and a cost here.",
                "fixed": [fixed for fixed in history.fixed_hardware if fixed.progress is not None],
                "models": history.models,
                "notes": history.notes,
                "flags": history.flags,
                "links": ((f"progress-{name}.csv", "Results, CSV"), (f"progress-{name}.json", "All of it, JSON")),
            }
        )
    folder.write("progress.html", render("progress.html", 0, parts=parts))


def _rows(history: History) -> Iterator[tuple[Any, ...]]:
    for progress in history.progress:
        records = set(progress.frontier)
        series = progress.series
        for point in series.points:
            yield (
                series.name,
                point.date.isoformat(),
                point.cost,
                series.unit,
                point.label,
                point.hardware,
                point.source,
                point.published_ratio,
                point in records,
                ";".join(point.flags),
            )


def _series(name: str, progress: Progress) -> dict[str, Any]:
    series = progress.series
    points = series.points[-MAX_POINTS:]
    plural = "" if len(series.points) == 1 else "s"
    words = f"{len(series.points)} result{plural}, {len(progress.frontier)} on the frontier."
    if len(points) < len(series.points):
        words += f" The latest {MAX_POINTS} are shown."
    if progress.no_doubling_because is not None:
        words += f" No doubling time: {progress.no_doubling_because}."
    return {
        "id": slug_with(f"{name}-{series.name}", f"{name} {series.model_dump_json()}"),
        "title": f"{series.name}: {series.title}" if series.title else series.name,
        "progress": progress,
        "points": points,
        "figure": _figure(progress, points),
        "words": words,
        "tiles": list(_tiles(progress)),
    }


def _tiles(progress: Progress) -> Iterator[tuple[str, str, str]]:
    claim = progress.series.claim
    published = "" if claim is None else f"published: {claim.ratio:g} ×"
    yield "Gain in efficiency", factor(progress.ratio), published or f"in {progress.months:.0f} months"
    yield "Moore's law, same months", factor(progress.moore_ratio), f"doubling every {MOORE_MONTHS} months"
    doubling = progress.doubling
    if doubling is None:
        return
    published = "" if claim is None else f"published: {claim.doubling_months:g} months"
    yield "Doubling time, ends", f"{doubling.endpoints_months:.1f} months", published or "first record to last"
    fit = doubling.fit
    if fit is None:
        yield "Doubling time, line", NOTHING, doubling.no_fit_because or ""
        return
    yield "Doubling time, line", f"{fit.doubling_months:.1f} months", f"R² {fit.r_squared:.2f}"
    interval = fit.interval
    if interval is not None:
        text = f"{interval.low_months:.1f} to {interval.high_months:.1f}"
        yield "Bootstrap, months", text, f"{interval.confidence:.0%} interval"
    without = f"{fit.shortest.doubling_months:.1f} to {fit.longest.doubling_months:.1f}"
    yield "Leaving one out, months", without, "shortest without one record, and longest"


def _figure(progress: Progress, points: Any) -> Figure:
    series, first = progress.series, progress.frontier[0]
    records = progress.frontier
    drawn = [
        Line(
            "all results",
            tuple(point.date.isoformat() for point in points),
            tuple(point.cost for point in points),
            group=7,
            dash=1,
            texts=tuple(point.label for point in points),
            mode="markers",
        ),
        Line(
            "frontier",
            tuple(point.date.isoformat() for point in records),
            tuple(point.cost for point in records),
            texts=tuple(point.label for point in records),
            named=len(records) <= MAX_NAMED,
        ),
    ]
    if progress.months > 0:
        last = records[-1]
        drawn.append(
            Line(
                "Moore's law",
                (first.date.isoformat(), last.date.isoformat()),
                (first.cost, first.cost / progress.moore_ratio),
                group=1,
                dash=2,
                texts=("Moore's law",) * 2,
                mode="lines",
            )
        )
    costs = [point.cost for point in points] + [cost for line in drawn for cost in line.y]
    titles = {"flops": "operations", "time": "time", "energy": "energy", "cost": "cost"}
    prefixed = series.unit in ("FLOP", "J")
    y = log_axis(costs, f"{titles[series.by]} to the target, {label(series.unit)}", series.unit if prefixed else "")
    x = axis("", type="date")
    if len({point.date for point in points}) == 1:
        x["range"] = [f"{first.date - HALF_A_YEAR}", f"{first.date + HALF_A_YEAR}"]
    return lines(drawn, x, y, "%{customdata}<br>%{y:.4~g}, %{x|%b %Y}", margin={"r": 110})
