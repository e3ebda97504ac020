"""Progress over time: the frontier, its doubling time, and how sure that is."""

import math
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from kit.analysis.progress import (
    DAYS_PER_MONTH,
    RESAMPLES,
    Doubling,
    Fit,
    Point,
    Progress,
    Series,
    frontier,
    measure_progress,
)

START = date(2012, 6, 1)

days_and_costs = st.lists(st.tuples(st.integers(0, 5000), st.floats(1e-6, 1e18)), min_size=1, max_size=12)


def points(*days_costs: tuple[int, float]) -> list[Point]:
    return [
        Point(date=START + timedelta(days=days), cost=cost, label=f"point {index}")
        for index, (days, cost) in enumerate(days_costs)
    ]


def progress_of(found: list[Point], **more: Any) -> Progress:
    return measure_progress(Series(name="made", title="", by="flops", unit="FLOP", points=tuple(found), **more))


def doubling_of(found: list[Point]) -> Doubling:
    doubling = progress_of(found).doubling
    assert doubling is not None
    return doubling


def fit_of(found: list[Point]) -> Fit:
    fit = doubling_of(found).fit
    assert fit is not None
    return fit


# ---- the frontier


def test_the_frontier_is_the_first_and_whatever_is_cheaper_than_all_before() -> None:
    found = points((0, 8.0), (10, 9.0), (20, 4.0), (30, 4.0), (40, 5.0), (50, 1.0))
    assert [point.cost for point in frontier(found)] == [8.0, 4.0, 1.0]


def test_of_one_day_only_the_cheapest_is_on_the_frontier() -> None:
    found = points((0, 9.0), (0, 8.0), (5, 4.0), (5, 2.0), (5, 3.0))
    assert [point.cost for point in frontier(found)] == [8.0, 2.0]


def test_what_is_cheaper_by_rounding_alone_is_no_record() -> None:
    assert len(frontier(points((0, 1.0), (1, 1.0 - 1e-15), (2, math.nextafter(1.0, 0.0))))) == 1


@given(days_and_costs)
def test_a_frontier_falls_as_time_goes_on_and_nothing_was_cheaper_before(made: list[tuple[int, float]]) -> None:
    found = points(*made)
    records = frontier(found)
    for earlier, later in pairwise(records):
        assert earlier.date < later.date
        assert earlier.cost > later.cost
    for record in records:
        assert all(point.cost >= record.cost for point in found if point.date <= record.date)
    assert records[-1].cost == pytest.approx(min(point.cost for point in found), rel=1e-8)
    assert frontier(records) == records


@given(days_and_costs, st.randoms())
def test_the_order_of_points_does_not_matter(made: list[tuple[int, float]], random: Any) -> None:
    found = points(*made)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert progress_of(shuffled) == progress_of(found)


# ---- the doubling time


@given(
    st.floats(0.5, 120),
    st.lists(st.integers(1, 8000), min_size=4, max_size=12, unique=True),
    st.floats(1e-3, 1e18),
)
def test_a_perfect_exponential_gives_its_own_doubling_time(months: float, days: list[int], first: float) -> None:
    assume(max(days) / DAYS_PER_MONTH / months < 200)
    assume(min(b - a for a, b in pairwise(sorted(days))) / months > 0.05)
    found = points(*((day, first * 2 ** (-day / DAYS_PER_MONTH / months)) for day in days))
    doubling, fit = doubling_of(found), fit_of(found)
    assert doubling.endpoints_months == pytest.approx(months, rel=1e-6)
    assert fit.doubling_months == pytest.approx(months, rel=1e-6)
    assert fit.r_squared == pytest.approx(1)
    assert fit.intercept == pytest.approx(0, abs=1e-5)
    assert fit.shortest.doubling_months == pytest.approx(months, rel=1e-6)
    assert fit.longest.doubling_months == pytest.approx(months, rel=1e-6)
    if len(days) > 4:
        assert fit.interval is not None
        assert fit.interval.low_months == pytest.approx(months, rel=1e-5)
        assert fit.interval.high_months == pytest.approx(months, rel=1e-5)
    else:
        assert fit.no_interval_because == "resampling needs 5 records, and there are 4"


@given(days_and_costs, st.floats(1e-6, 1e6))
def test_the_unit_of_the_cost_does_not_matter(made: list[tuple[int, float]], scale: float) -> None:
    one = progress_of(points(*made))
    other = progress_of(points(*((day, cost * scale) for day, cost in made)))
    assume(len(one.frontier) == len(other.frontier))  # costs that differ by rounding may be a record in one unit alone
    assert other.ratio == pytest.approx(one.ratio)
    assert other.months == one.months
    if one.doubling is None:
        assert other.no_doubling_because == one.no_doubling_because
        return
    assert other.doubling is not None
    assert other.doubling.endpoints_months == pytest.approx(one.doubling.endpoints_months, rel=1e-4)
    if one.doubling.fit is not None:
        assert other.doubling.fit is not None
        assert other.doubling.fit.doubling_months == pytest.approx(one.doubling.fit.doubling_months, rel=1e-4)


@given(days_and_costs)
def test_times_are_positive_and_the_range_of_leaving_one_out_has_an_order(made: list[tuple[int, float]]) -> None:
    progress = progress_of(points(*made))
    assert (progress.doubling is None) == (progress.no_doubling_because is not None) == (len(progress.frontier) < 2)
    if progress.doubling is None:
        assert progress.ratio == 1
        return
    assert progress.ratio > 1
    assert progress.doubling.endpoints_months > 0
    fit = progress.doubling.fit
    assert (fit is None) == (len(progress.frontier) < 3)
    if fit is not None:
        assert 0 < fit.shortest.doubling_months <= fit.longest.doubling_months
        assert fit.doubling_months > 0
        assert 0 <= fit.r_squared <= 1 + 1e-9
        assert Progress.model_validate_json(progress.model_dump_json()) == progress


def test_ratio_and_moores_law_are_of_the_time_between_the_first_and_the_last_record() -> None:
    progress = progress_of(points((0, 64.0), (731, 4.0), (2000, 8.0)))
    assert progress.ratio == 16
    assert progress.months == pytest.approx(24, abs=0.05)
    assert progress.moore_ratio == pytest.approx(2, abs=0.01)
    assert progress.doubling is not None
    assert progress.doubling.endpoints_months == pytest.approx(6, abs=0.02)


def test_least_squares_are_those_of_numpy() -> None:
    found = points((0, 100.0), (100, 60.0), (450, 8.0), (1000, 7.0), (1300, 1.0), (1400, 2.0))
    months = np.array([0, 100, 450, 1000, 1300]) / DAYS_PER_MONTH
    doublings = np.log2(100 / np.array([100.0, 60.0, 8.0, 7.0, 1.0]))
    slope, intercept = np.polyfit(months, doublings, 1)
    fit = fit_of(found)
    assert fit.doubling_months == pytest.approx(1 / slope)
    assert fit.intercept == pytest.approx(intercept)
    assert fit.r_squared == pytest.approx(np.corrcoef(months, doublings)[0, 1] ** 2)


def test_without_a_record_whoever_stood_behind_it_moves_up() -> None:
    found = points((0, 100.0), (100, 10.0), (200, 20.0), (300, 1.0))
    without = {}
    for label in ("point 0", "point 1", "point 3"):
        doubling = doubling_of([point for point in found if point.label != label])
        without[label] = doubling.fit.doubling_months if doubling.fit else doubling.endpoints_months
    assert len(frontier(found[:1] + found[2:])) == 3
    fit = fit_of(found)
    for dropped, expected in ((fit.shortest, min(without.values())), (fit.longest, max(without.values()))):
        assert dropped.doubling_months == pytest.approx(expected)
        assert without[dropped.label] == pytest.approx(expected)


# ---- the bootstrap


def bootstrap_by_hand(found: list[Point]) -> tuple[float, float]:
    """Sample after sample, as one would write it down."""
    random = np.random.RandomState(0)
    ordered = sorted(found, key=lambda point: (point.date, point.cost))
    doublings = []
    for _ in range(RESAMPLES):
        drawn = [ordered[int(share * len(ordered))] for share in random.random_sample(len(ordered))]
        times = Counter(point.label for point in drawn)
        records = frontier(drawn)
        if len(records) > 1:
            months = [(record.date - START).days / DAYS_PER_MONTH for record in records]
            weights = [times[record.label] for record in records]
            logs = [math.log2(record.cost) for record in records]
            slope = np.polyfit(months, logs, 1, w=np.sqrt(weights))[0]
            doublings.append(-1 / slope)
    low, high = np.quantile(doublings, [0.025, 0.975])
    return float(low), float(high)


def test_the_interval_is_that_of_samples_drawn_one_by_one() -> None:
    found = points((0, 90.0), (60, 70.0), (60, 95.0), (400, 30.0), (420, 35.0), (800, 11.0), (900, 10.0), (1500, 2.0))
    interval = fit_of(found).interval
    assert interval is not None
    assert (interval.low_months, interval.high_months) == pytest.approx(bootstrap_by_hand(found))
    assert interval.low_months < fit_of(found).doubling_months < interval.high_months


def test_thousands_of_points_are_resampled_in_parts_and_alike() -> None:
    falling = points(*((day, 2.0 ** (-day / 300) * (1 + 0.5 * math.sin(day))) for day in range(0, 3000, 2)))
    interval = fit_of(falling).interval
    assert interval is not None
    assert interval.resamples == RESAMPLES
    assert interval == fit_of(falling[::-1]).interval
    assert interval.low_months < 300 / DAYS_PER_MONTH * 1.2
    assert interval.high_months > 300 / DAYS_PER_MONTH * 0.8


# ---- where there is none


@pytest.mark.parametrize(
    ("made", "because"),
    [
        ([(0, 5.0)], "there is one result only"),
        ([(0, 5.0), (0, 4.0), (0, 6.0)], "all 3 results are of one day, 2012-06-01"),
        ([(0, 5.0), (9, 5.0), (99, 6.0)], "none of the later results is cheaper than the first, point 0 of 2012-06-01"),
    ],
)
def test_without_an_improvement_there_is_a_reason_and_no_doubling_time(
    made: list[tuple[int, float]], because: str
) -> None:
    progress = progress_of(points(*made))
    assert progress.doubling is None
    assert progress.no_doubling_because == because
    assert progress.ratio == 1
    assert len(progress.frontier) == 1


def test_two_records_have_ends_and_no_line() -> None:
    doubling = doubling_of(points((0, 4.0), (365, 1.0), (400, 2.0)))
    assert doubling.endpoints_months == pytest.approx(6, abs=0.01)
    assert doubling.fit is None
    assert doubling.no_fit_because == "a line needs 3 records, and there are 2"


@pytest.mark.parametrize("cost", [0.0, -1.0, math.nan, math.inf, 1e101])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(ValidationError):
        Point(date=START, cost=cost, label="impossible")


def test_a_series_without_points_is_refused() -> None:
    with pytest.raises(ValidationError):
        progress_of([])
