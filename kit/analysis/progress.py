"""Efficiency over time: how fast the cost of one and the same result falls, and how long it takes to halve.

Of points with a date and a cost, the frontier keeps each that is cheaper than everything before it: the records. The
doubling time of efficiency, in which the cost halves, is read from the records in two ways (Hernandez and Brown, arXiv
2005.04305): from their ends, months / log2(first cost / last cost), and as 1 / slope of the least-squares line of
log2(first cost / cost) over months.

Records are neither many nor independent, so how sure the second is is shown in two ways as well: a bootstrap over all
points, with the frontier drawn anew each time, and the range over leaving out one record after another.
"""

import datetime
import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import correlation, linear_regression
from typing import Annotated, Literal

from pydantic import Field

from kit.analysis.estimate import CONFIDENCE
from kit.track import Model

By = Literal["flops", "time", "energy", "cost"]
"""What a result costs."""

DAYS_PER_MONTH = 365.25 / 12
MOORE_MONTHS = 24
"""Doubling time of Moore's law, as it is drawn for comparison (Moore, IEDM 1975)."""
ROUNDING = 1e-9
"""What is cheaper by less than this, in log2, is as dear as before."""
MIN_FITTED = 3
"""Records that a line is fitted to: any two lie on one."""
MIN_RESAMPLED = 5
"""Records that are resampled: of fewer there are too few different samples."""
RESAMPLES = 2000
CHUNK = 1 << 20
"""Numbers that the bootstrap holds at a time."""


class Point(Model):
    """One result."""

    date: Annotated[datetime.date, Field(ge=datetime.date(1900, 1, 1), le=datetime.date(2199, 12, 31))]
    cost: Annotated[float, Field(ge=1e-100, le=1e100)]
    """In the unit of its series."""
    label: str
    hardware: str | None = None
    """What it ran on, where that is known."""
    source: str | None = None
    """Where it can be looked up: an address, or the id of an entry or a record."""
    published_ratio: float | None = None
    """First cost over this one, as the source itself gives it."""
    flags: tuple[str, ...] = ()
    """Names of what is known to be wrong with it."""


class Claim(Model):
    """What was published about a series."""

    ratio: float
    doubling_months: float
    source: str


class Series(Model):
    """Results at one target, that differ in what they cost."""

    name: str
    title: str
    """What was to be reached."""
    by: By
    unit: str
    """Of the costs: "s", "J", "USD", "FLOP" (two per multiply-add), or a source's own."""
    points: Annotated[tuple[Point, ...], Field(min_length=1)]
    """By date, the cheapest of a day first."""
    claim: Claim | None = None
    notes: tuple[str, ...] = ()


class Dropped(Model):
    """The doubling time without one of the records."""

    label: str
    doubling_months: float


class Interval(Model):
    """From the percentiles of resampled doubling times."""

    low_months: float
    high_months: float
    confidence: float = CONFIDENCE
    resamples: int
    """That had at least two records."""


class Fit(Model):
    """The least-squares line of log2(first cost / cost) over months."""

    doubling_months: float
    intercept: float
    """Its value at the first record: 0 where the line goes through it."""
    r_squared: float
    interval: Interval | None
    no_interval_because: str | None
    shortest: Dropped
    """Of leaving out each record in turn."""
    longest: Dropped


class Doubling(Model):
    """In how many months of 365.25 / 12 days the cost halves."""

    endpoints_months: float
    fit: Fit | None
    no_fit_because: str | None


class Progress(Model):
    """A series and how fast it went."""

    series: Series
    frontier: tuple[Point, ...]
    """The first, and each that is cheaper than all before it."""
    months: float
    """From the first record to the last."""
    ratio: float
    """First cost over last: by how much efficiency grew."""
    moore_ratio: float
    """What Moore's law comes to in these months."""
    doubling: Doubling | None
    no_doubling_because: str | None


def measure_progress(series: Series) -> Progress:
    """The frontier of a series and its doubling time. The order of the points does not matter."""
    points = sorted(series.points, key=_order)
    series = series.model_copy(update={"points": tuple(points)})
    records = _records(points)
    first, last = records[0], records[-1]
    months = _months(first, last)
    because = _no_doubling_because(points, records)
    return Progress(
        series=series,
        frontier=records,
        months=months,
        ratio=first.cost / last.cost,
        moore_ratio=2 ** (months / MOORE_MONTHS),
        doubling=_doubling(points, records) if because is None else None,
        no_doubling_because=because,
    )


def frontier(points: Iterable[Point]) -> tuple[Point, ...]:
    """Each point that is cheaper than every other of its day and of the days before."""
    return _records(sorted(points, key=_order))


def _records(points: Iterable[Point]) -> tuple[Point, ...]:
    """The frontier of points in order."""
    records: list[Point] = []
    lowest = math.inf
    for point in points:
        log = math.log2(point.cost)
        if log < lowest - ROUNDING:
            records.append(point)
        lowest = min(lowest, log)
    return tuple(records)


def _order(point: Point) -> tuple[object, ...]:
    """By date and cost, and beyond that the same whatever the order was."""
    return point.date, point.cost, point.label, point.source or "", point.hardware or "", point.flags


def _no_doubling_because(points: Sequence[Point], records: Sequence[Point]) -> str | None:
    if len(records) > 1:
        return None
    if len(points) == 1:
        return "there is one result only"
    if points[0].date == points[-1].date:
        return f"all {len(points)} results are of one day, {points[0].date}"
    return f"none of the later results is cheaper than the first, {records[0].label} of {records[0].date}"


def _doubling(points: Sequence[Point], records: Sequence[Point]) -> Doubling:
    few = f"a line needs {MIN_FITTED} records, and there are {len(records)}" if len(records) < MIN_FITTED else None
    halvings = math.log2(records[0].cost) - math.log2(records[-1].cost)
    return Doubling(
        endpoints_months=_months(records[0], records[-1]) / halvings,
        fit=_fit(points, records) if few is None else None,
        no_fit_because=few,
    )


def _fit(points: Sequence[Point], records: Sequence[Point]) -> Fit:
    months, doublings = _line(records)
    slope, intercept = linear_regression(months, doublings)
    few = (
        f"resampling needs {MIN_RESAMPLED} records, and there are {len(records)}"
        if len(records) < MIN_RESAMPLED
        else None
    )
    dropped = sorted(_leave_one_out(points, records), key=lambda without: without.doubling_months)
    return Fit(
        doubling_months=1 / slope,
        intercept=intercept,
        r_squared=correlation(months, doublings) ** 2,
        interval=_bootstrap(points) if few is None else None,
        no_interval_because=few,
        shortest=dropped[0],
        longest=dropped[-1],
    )


def _line(records: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Months since the first record, and how often the cost had halved by then."""
    first = math.log2(records[0].cost)
    return [_months(records[0], record) for record in records], [first - math.log2(record.cost) for record in records]


def _leave_one_out(points: Sequence[Point], records: Sequence[Point]) -> Iterator[Dropped]:
    """Without each record in turn: whoever stood behind it moves up."""
    place = {id(point): index for index, point in enumerate(points)}
    for record in records:
        index = place[id(record)]
        rest = _records([*points[:index], *points[index + 1 :]])
        yield Dropped(label=record.label, doubling_months=1 / linear_regression(*_line(rest)).slope)


def _bootstrap(points: Sequence[Point]) -> Interval:
    """Draw as many points as there are, with replacement; a record that is drawn twice weighs twice.

    Args:
        points: In order.
    """
    import numpy as np

    months = np.array([_months(points[0], point) for point in points])
    logs = np.log2([point.cost / points[0].cost for point in points])
    random = np.random.RandomState(0)  # of all of numpy's, the one whose numbers no version changes
    found: list[float] = []
    rows = max(1, CHUNK // len(points))
    for start in range(0, RESAMPLES, rows):
        drawn = random.random_sample((min(rows, RESAMPLES - start), len(points)))
        cells = np.arange(len(drawn))[:, None] * len(points) + (drawn * len(points)).astype(int)
        times = np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
        costs = np.where(times > 0, logs, np.inf)
        lowest = np.minimum.accumulate(costs, axis=1)
        before = np.hstack([np.full((len(drawn), 1), np.inf), lowest[:, :-1]])
        is_record = costs < before - ROUNDING
        weights = np.where(is_record, times, 0)[is_record.sum(axis=1) > 1]
        total = weights.sum(axis=1, keepdims=True)
        apart = months - (weights * months).sum(axis=1, keepdims=True) / total
        found.extend((weights * apart**2).sum(axis=1) / -(weights * apart * logs).sum(axis=1))
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(low_months=float(low), high_months=float(high), resamples=len(found))


def _months(start: Point, end: Point) -> float:
    return (end.date - start.date).days / DAYS_PER_MONTH
