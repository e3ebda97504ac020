"""What an entry's runs come to: every seed counts, a miss is infinitely slow, intervals say how sure they are."""

import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_entry, make_official, make_record, make_results

from kit.analysis.estimate import CONFIDENCE, coverage
from kit.analysis.result import result_of
from kit.analysis.scoring import (
    Interval,
    Median,
    by_entry,
    expected_running_time_s,
    infinite,
    median_of,
    olympic_mean,
    overlap,
    summarize,
    wilson,
)
from kit.results.record import Cost, Device, Energy, Flops, Isolation, Time

seconds = st.floats(1e-3, 1e6)
runs = st.lists(st.none() | seconds, min_size=1, max_size=12)


def interval(value: Median) -> Interval:
    assert value.interval is not None
    return value.interval


# ---- medians


def test_of_five_runs_the_interval_is_their_range_and_says_that_it_holds_the_median_in_93_75_percent() -> None:
    found = median_of([1.0, 5.0, 2.0, 4.0, 3.0])
    assert found.value == 3.0
    assert interval(found) == Interval(low=1.0, high=5.0, confidence=0.9375)


@pytest.mark.parametrize(
    ("count", "low", "confidence"), [(2, 1, 0.5), (3, 1, 0.75), (6, 1, 0.96875), (10, 2, 0.978515625), (20, 6, 0.9586)]
)
def test_intervals_are_the_order_statistics_of_the_binomial(count: int, low: float, confidence: float) -> None:
    found = interval(median_of([float(value) for value in range(1, count + 1)]))
    assert (found.low, found.high) == (low, count + 1 - low)
    assert found.confidence == pytest.approx(confidence, abs=1e-4)


@pytest.mark.parametrize("count", range(2, 60))
def test_the_confidence_is_the_binomials_and_no_narrower_interval_would_keep_95_percent(count: int) -> None:
    from scipy.stats import binom

    found = interval(median_of([float(value) for value in range(1, count + 1)]))
    rank = int(infinite(found.low))
    assert found.confidence == pytest.approx(1 - 2 * binom.cdf(rank - 1, count, 0.5), rel=1e-12)
    if 2 * (rank + 1) <= count:
        assert 1 - 2 * binom.cdf(rank, count, 0.5) < CONFIDENCE
    if count > 5:
        assert found.confidence >= CONFIDENCE


def test_thousands_of_runs_have_an_interval_too() -> None:
    found = interval(median_of([float(value) for value in range(5000)]))
    assert CONFIDENCE <= found.confidence < 0.96
    assert 2400 < infinite(found.low) < 2500 < infinite(found.high) < 2600


def test_one_run_has_no_interval() -> None:
    assert median_of([3.0]) == Median(value=3.0, interval=None)
    assert coverage(1) == 0


def test_where_half_of_the_runs_miss_the_median_is_infinite() -> None:
    assert median_of([1.0, 2.0, math.inf, math.inf]).value is None
    assert median_of([1.0, 2.0, 3.0, math.inf, math.inf]).value == 3.0


@given(values=st.lists(seconds | st.just(math.inf), min_size=1, max_size=30))
def test_a_median_lies_in_its_interval_whatever_the_order(values: list[float]) -> None:
    found = median_of(values)
    assert found == median_of(values[::-1])
    if found.interval is not None:
        low, high = infinite(found.interval.low), infinite(found.interval.high)
        assert low <= infinite(found.value) <= high
        assert low in values
        assert high in values


@given(values=st.lists(seconds, min_size=2, max_size=12), worse=st.integers(0, 11))
def test_a_run_that_turns_into_a_miss_never_helps(values: list[float], worse: int) -> None:
    missed = [math.inf if number == worse % len(values) else value for number, value in enumerate(values)]
    assert infinite(median_of(missed).value) >= infinite(median_of(values).value)


# ---- success and expected time


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 200])
def test_the_success_rate_has_scipys_wilson_interval(count: int) -> None:
    from scipy.stats import binomtest

    for successes in range(count + 1):
        found = wilson(successes, count)
        expected = binomtest(successes, count).proportion_ci(0.95, method="wilson")
        assert found.value == successes / count
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert found.low <= found.value <= found.high


def test_expected_time_is_the_time_of_all_runs_over_the_successes_without_setup() -> None:
    assert expected_running_time_s(make_results(2.0, 4.0, None)) == (2 + 4 + 10) / 2
    assert expected_running_time_s(make_results(None, None)) is None


def test_a_run_whose_clock_never_started_took_no_time_but_counts_as_a_failure() -> None:
    crashed = make_results(
        None, outcome="crashed", time=Time(to_target_s=None, total_s=None, setup_s=None, evaluation_s=0)
    )
    results = [*make_results(4.0), *crashed]
    assert expected_running_time_s(results) == 4.0
    assert summarize(results).success.value == 0.5


@given(times=runs)
def test_expected_time_is_at_least_the_mean_time_of_the_successes(times: list[float | None]) -> None:
    found = expected_running_time_s(make_results(*times))
    reached = [time for time in times if time is not None]
    if not reached:
        assert found is None
    else:
        assert infinite(found) >= math.fsum(reached) / len(reached) * (1 - 1e-12)


def test_mlperfs_mean_leaves_out_the_fastest_and_the_slowest() -> None:
    assert olympic_mean([1.0, 2.0, 4.0, 100.0]) == 3.0
    assert olympic_mean([1.0, 2.0, math.inf]) == 2.0
    assert olympic_mean([1.0, math.inf, math.inf]) is None
    assert olympic_mean([1.0, 2.0]) is None


# ---- ties


def test_intervals_that_touch_overlap_and_those_apart_do_not() -> None:
    one, far, touching = median_of([1.0, 2.0, 3.0]), median_of([4.0, 5.0, 6.0]), median_of([3.0, 4.0, 5.0])
    assert not overlap(one, far)
    assert overlap(one, touching)


def test_an_interval_without_upper_end_overlaps_all_that_is_slower() -> None:
    open_ended = median_of([1.0, 2.0, 3.0, math.inf, math.inf])
    assert overlap(open_ended, median_of([50.0, 60.0, 70.0]))


def test_one_run_cannot_be_told_apart_from_anything() -> None:
    assert overlap(median_of([1.0]), median_of([100.0, 101.0, 102.0]))


@given(first=st.lists(seconds, min_size=1, max_size=6), second=st.lists(seconds, min_size=1, max_size=6))
def test_overlap_is_mutual(first: list[float], second: list[float]) -> None:
    one, other = median_of(first), median_of(second)
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, one)


# ---- an entry


def test_an_entry_counts_every_seed() -> None:
    entry = summarize(make_results(1.0, 2.0, 3.0, None, None))
    assert entry.runs == entry.seeds == 5
    assert entry.outcomes == {"missed": 2, "reached": 3}
    assert entry.time_s.median is not None
    assert entry.time_s.median.value == 3.0
    assert interval(entry.time_s.median).high is None
    assert entry.best_s == 1.0
    assert entry.success.value == 0.6


def measured(joules: float | None) -> Energy:
    return Energy(
        device_j=joules,
        method=None if joules is None else "nvml_total_energy",
        update_period_s=0.1,
        uncertainty_j=1.0,
        unavailable_because="the counter stood still" if joules is None else None,
    )


def test_a_miss_has_infinite_energy_and_an_unmeasured_success_leaves_no_median() -> None:
    first, second, third = make_entry(1.0, 2.0, None)
    records = [
        first.model_copy(update={"energy": measured(10.0)}),
        second.model_copy(update={"energy": measured(20.0)}),
    ]
    entry = summarize(
        [result_of(record) for record in (*records, third.model_copy(update={"energy": measured(999.0)}))]
    )
    assert entry.energy_j.median is not None
    assert entry.energy_j.median.value == 20.0
    assert interval(entry.energy_j.median).high is None
    entry = summarize(
        [result_of(record) for record in (records[0], second.model_copy(update={"energy": measured(None)}), third)]
    )
    assert entry.energy_j.median is None
    assert "the counter stood still" in (entry.energy_j.unavailable_because or "")


@pytest.mark.parametrize(
    ("flops", "because"),
    [
        (Flops(method="pending"), "not counted"),
        (
            Flops(method="replay", train_total=1, untrusted_because="it did not learn the same"),
            "did not learn the same",
        ),
        (Flops(method="replay", train_total=0), "the count is 0"),
    ],
)
def test_operations_that_are_not_rated_leave_no_median(flops: Flops, because: str) -> None:
    found = summarize(make_results(1.0, 2.0, flops=flops)).train_flops
    assert found.median is None
    assert because in (found.unavailable_because or "")


def test_operations_are_those_of_training() -> None:
    flops = Flops(method="replay", train_total=7, evaluation_total=5, trusted=True)
    found = summarize(make_results(1.0, 2.0, flops=flops)).train_flops
    assert found.median is not None
    assert found.median.value == 7


def test_cost_is_dollars_to_the_target() -> None:
    cost = Cost(usd_per_hour=3600, price_source="https://example.com", price_date=date(2026, 11, 1))
    found = summarize(make_results(1.0, 2.0, 4.0, cost=cost)).usd
    assert found.median is not None
    assert found.median.value == 2.0
    assert summarize(make_results(1.0)).usd.unavailable_because == "no price with its source and date was given"


# ---- which runs are an entry


DIFFERENCES: dict[str, dict[str, Any]] = {
    "source": {"submission": make_record().submission.model_copy(update={"source_sha256": "b" * 64})},
    "hyperparameters": {"submission": make_record().submission.model_copy(update={"config": {"lr": 9}})},
    "data": {"track": make_record().track.model_copy(update={"dataset_fingerprint": "0" * 64})},
    "version": {"track": make_record().track.model_copy(update={"version": 2})},
    "target": {"track": make_record().track.model_copy(update={"target": 0.91})},
    "device": {"device": make_record().device.model_copy(update={"name": "another processor"})},
    "cores": {"device": make_record().device.model_copy(update={"cores": 64})},
    "isolation": {"isolation": Isolation(mode="sandbox", defences=())},
    "loader": {"loader": "dali"},
}


@pytest.mark.parametrize("differently", DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_runs_that_differ_in_what_counts_are_of_two_entries(differently: dict[str, Any]) -> None:
    one = make_record(official=make_official(0))
    other = make_record(official=make_official(1), **differently)
    assert len(by_entry([result_of(one), result_of(other)])) == 2


def test_runs_of_one_submission_are_one_entry_whatever_their_threads_and_outcome() -> None:
    idle = Device(
        type="cpu", name="a processor", count=1, threads=None, uuid_hash=None, driver=None, power_limit_w=None
    )
    records = [
        make_record(official=make_official(1)),
        make_record(official=make_official(0), device=idle, outcome="crashed"),
    ]
    (group,) = by_entry(result_of(record) for record in records).values()
    assert [result.official.seed_index for result in group if result.official is not None] == [0, 1]
