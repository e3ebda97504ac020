"""The page of a track: tables of its entries, the front of time and energy, learning curves."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from kit.analysis.board import Board, Row, Table
from kit.analysis.scoring import Interval, Measure, Quantity, pareto_front
from kit.report.board import FLAGS, HEADINGS
from kit.report.board_csv import board_csv
from kit.report.csv_text import csv_text
from kit.report.site import figures
from kit.report.site.content import MAX_CURVES, MAX_RUNS, MAX_VERDICTS, Place, Section, TrackContent, section_curves
from kit.report.site.downloads import json_bytes
from kit.report.site.figures import LearningCurve, ParetoPoint
from kit.report.site.folder import Folder
from kit.report.site.render import render
from kit.report.site.words import metric

COLUMNS: tuple[tuple[Quantity, str], ...] = (
    ("energy", "Energy"),
    ("flops", "Training operations"),
    ("cost", "Cost"),
)
MAX_ROWS = 1000
"""Entries in the table of a machine: the best; the downloads have all."""
MAX_POINTS = 500
"""Entries in a plot of two costs."""


@dataclass(frozen=True)
class Scale:
    """Where a time lies on the strips of a table, 0 to 100."""

    low_log: float
    high_log: float

    def at(self, value: float) -> float:
        """Of a time."""
        share = (math.log(value) - self.low_log) / ((self.high_log - self.low_log) or 1)
        return round(2 + 96 * min(max(share, 0), 1), 2)

    def ends(self, interval: Interval | None) -> tuple[float, float] | None:
        """Of an interval; an infinite end is the strip's."""
        if interval is None or interval.low is None:
            return None
        return self.at(interval.low), 100.0 if interval.high is None else self.at(interval.high)


@dataclass(frozen=True)
class Pareto:
    """Two costs of each entry."""

    title: str
    description: str
    y_name: str
    unit: str
    points: Sequence[ParetoPoint]
    figure: figures.Figure


@dataclass(frozen=True)
class Curves:
    """Learning curves of the best entries."""

    description: str
    curves: Sequence[LearningCurve]
    figure: figures.Figure


@dataclass(frozen=True)
class Part:
    """What the page shows of one machine."""

    section: Section
    places: tuple[Place, ...]
    """Those that the table shows."""
    columns: tuple[tuple[Quantity, str], ...]
    efficiency: bool
    scale: Scale | None
    notes: tuple[str, ...]
    pareto: Pareto | None
    curves: Curves | None


def write_track(folder: Folder, results_dir: Path, board: Board, track: TrackContent) -> None:
    """Write a track's page and its numbers."""
    parts = []
    for section in track.sections:
        part = _part(section, _curves(results_dir, section))
        if part.curves is not None:
            name = f"tracks/{track.slug}-{section.anchor}-curves.csv"
            folder.write(name, csv_text(("run", "elapsed_s", "value"), _curve_rows(part.curves.curves)))
        parts.append(part)
    folder.write(f"tracks/{track.slug}.html", render("track.html", 1, track=track, parts=parts))
    own = board.model_copy(update={"tables": tuple(section.table for section in track.sections), "left_out": ()})
    folder.write(f"tracks/{track.slug}.json", json_bytes(own))
    folder.write(f"tracks/{track.slug}.csv", board_csv(own))


def _part(section: Section, curves: Curves | None) -> Part:
    rows = section.table.rows
    return Part(
        section=section,
        places=section.places[:MAX_ROWS],
        columns=tuple((what, name) for what, name in COLUMNS if any(_finite(row.entry.measure(what)) for row in rows)),
        efficiency=any(row.efficiency.value is not None for row in rows),
        scale=_scale(rows),
        notes=tuple(_notes(section.table)),
        pareto=_pareto(section),
        curves=curves,
    )


def _scale(rows: Sequence[Row]) -> Scale | None:
    values: list[float] = []
    for row in rows:
        median = row.entry.time_s.median
        if median is not None:
            ends = () if median.interval is None else (median.interval.low, median.interval.high)
            values += [value for value in (median.value, *ends) if value]
    return Scale(math.log(min(values)), math.log(max(values))) if values else None


# ---- notes


def _notes(table: Table) -> Iterator[str]:
    """What to know before using the numbers, as boards in the terminal say it."""
    if len(table.rows) > MAX_ROWS:
        yield f"The best {MAX_ROWS:,} of {len(table.rows):,} entries; the downloads have all."
    confidences = sorted(
        {
            f"{median.interval.confidence:.2%}"
            for row in table.rows
            if (median := row.entry.time_s.median) is not None and median.interval is not None
        }
    )
    if confidences:
        yield (
            f"Intervals hold the true median in {' or '.join(confidences)} of cases, success rates in 95 %. "
            "Strips show time and interval, on one logarithmic scale."
        )
    if any(row.tied for row in table.rows):
        yield "Tied: the interval overlaps that of the leader."
    for flag, words in FLAGS.items():
        if any(flag in row.flags for row in table.rows):
            yield f"{flag}: {words}."
    if any(row.efficiency.value is not None for row in table.rows):
        yield "Algorithmic efficiency: training operations of the track's baseline over those of the entry."
    names: dict[tuple[str, str], list[str]] = {}
    for what in get_args(Quantity):
        for row, label in zip(table.rows, table.labels, strict=True):
            because = row.entry.measure(what).unavailable_because
            if because is not None:
                names.setdefault((HEADINGS[what], because), []).append(label)
    for (heading, because), entries in names.items():
        which = "" if len(entries) == len(table.rows) else f" of {_some(entries)}"
        yield f"No {heading}{which}: {because}."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


# ---- plots


def _pareto(section: Section) -> Pareto | None:
    """Time against energy; where no entry has one, against operations."""
    for what, name, unit in (("energy", "Energy", "J"), ("flops", "Training operations", "FLOP")):
        quantity: Quantity = "energy" if what == "energy" else "flops"
        known = [
            (place.label, time, cost)
            for place in section.places
            if (time := _finite(place.row.entry.time_s)) is not None
            and (cost := _finite(place.row.entry.measure(quantity))) is not None
        ]
        if len(known) < 2:
            continue
        on_front = pareto_front([(time[0], cost[0]) for _, time, cost in known])
        points = [
            ParetoPoint(label, time[0], time[1], cost[0], cost[1], on)
            for (label, time, cost), on in zip(known, on_front, strict=True)
        ]
        points = sorted(points, key=lambda point: not point.on_front)[:MAX_POINTS]
        title = f"Time against {name.lower()}"
        missing = len(section.places) - len(known)
        words = (
            "Medians with their intervals, both axes logarithmic; down and left is better. The dotted line joins the "
            "Pareto front: entries that no other beats in one and equals in the other."
        )
        if quantity == "flops":
            words += " Fewer than two entries here have their energy measured."
        if missing:
            words += f" {missing} without both numbers are not drawn."
        if len(known) > len(points):
            words += f" Of the {len(known):,} others {len(points):,} are drawn, those on the front first."
        figure = figures.pareto(points, "seconds to the target", name.lower(), unit)
        return Pareto(title, words, name, unit, points, figure)
    return None


Known = tuple[float, tuple[float | None, float | None] | None]


def _finite(measure: Measure) -> Known | None:
    median = measure.median
    if median is None or not median.value:
        return None
    return median.value, None if median.interval is None else (median.interval.low, median.interval.high)


def _curves(results_dir: Path, section: Section) -> Curves | None:
    curves = section_curves(results_dir, section)
    if not curves:
        return None
    table = section.table
    which = "every entry"
    if len(section.places) > MAX_CURVES:
        which = f"the best {MAX_CURVES} of {len(section.places)} entries"
    words = (
        f"Verdicts of the referee over time, of {which}; the run with the median time is drawn strong, others (at most "
        f"{MAX_RUNS} runs of an entry, {MAX_VERDICTS} verdicts of a run) faint. The axis begins near the target."
    )
    return Curves(words, curves, figures.learning_curves(curves, metric(table.metric), table.target))


def _curve_rows(curves: Sequence[LearningCurve]) -> Iterator[tuple[Any, ...]]:
    for curve in curves:
        for elapsed_s, value in zip(curve.elapsed_s, curve.values, strict=True):
            yield curve.run, elapsed_s, value
