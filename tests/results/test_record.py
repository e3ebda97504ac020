"""The record: complete, finite and the same after a trip through JSON."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from records import make_record

from kit.results.record import (
    Cost,
    Device,
    Energy,
    Evaluation,
    Flops,
    OperatorFlops,
    Record,
    Steps,
    SubmissionInfo,
    Time,
    TrackInfo,
)
from kit.track import Limits

seconds = st.floats(0, 1e9)
evaluations = st.builds(
    Evaluation, elapsed_s=seconds, evaluation_s=seconds, value=st.floats(0, 1), reached=st.booleans()
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_a_record_survives_a_trip_through_json() -> None:
    record = make_record()
    assert Record.model_validate_json(record.model_dump_json()) == record


@given(
    started_at=st.datetimes(timezones=st.just(UTC)),
    seed=st.integers(0, 2**63),
    verdicts=st.lists(evaluations, max_size=4),
    to_target_s=st.none() | seconds,
    config=st.dictionaries(st.text(), plain, max_size=4),
    traceback=st.none() | st.text(),
)
def test_whatever_a_record_holds_survives_a_trip_through_json(
    started_at: Any, seed: int, verdicts: list[Evaluation], to_target_s: float | None, config: Any, traceback: str
) -> None:
    record = make_record(
        started_at=started_at,
        seed=seed,
        evaluations=tuple(verdicts),
        time=Time(to_target_s=to_target_s, total_s=None, setup_s=None, evaluation_s=0),
        submission=make_record().submission.model_copy(update={"config": config}),
        traceback=traceback,
    )
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_the_best_value_is_the_largest_and_absent_without_evaluations() -> None:
    assert make_record().best_value == 0.91
    assert make_record(evaluations=()).best_value is None


def test_the_track_can_be_raced_again() -> None:
    track = make_record().track.as_track()
    assert track.name == "made"
    assert track.limits == Limits(run_s=10)


NOT_FINITE: dict[str, Callable[[float], object]] = {
    "a value": lambda x: Evaluation(elapsed_s=0, evaluation_s=0, value=x, reached=False),
    "a duration": lambda x: Time(to_target_s=x, total_s=None, setup_s=None, evaluation_s=0),
    "an energy": lambda x: Energy(
        device_j=x, method=None, update_period_s=None, uncertainty_j=None, unavailable_because=None
    ),
    "a replay's value": lambda x: Flops(method="replay", replay_value=x),
    "operations per call": lambda x: OperatorFlops(
        operator_class="gemm", dtype="float32", phase="training", calls=1, flops_per_call=x, bytes_per_call=0
    ),
    "a power limit": lambda x: Device(
        type="cuda", name="", count=1, threads=None, uuid_hash=None, driver=None, power_limit_w=x
    ),
    "a price": lambda x: cost(usd_per_hour=x),
    "a target": lambda x: TrackInfo(**make_record().track.model_dump() | {"target": x}),
    "a limit": lambda x: TrackInfo(**make_record().track.model_dump() | {"limits": {"run_s": x}}),
    "a hyperparameter": lambda x: SubmissionInfo(**make_record().submission.model_dump() | {"config": {"lr": x}}),
}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", NOT_FINITE.values(), ids=NOT_FINITE.keys())
def test_what_is_not_finite_is_refused(make: Callable[[float], object], number: float) -> None:
    with pytest.raises(ValidationError):
        make(number)


def test_a_strangers_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        make_record(colour="red")
    with pytest.raises(ValidationError, match="Extra inputs"):
        Record.model_validate(make_record().model_dump() | {"steps": {**steps(), "colour": "red"}})


def steps() -> dict[str, int]:
    return {"optimizer_steps": 1, "loader_batches": 1, "evaluations": 1}


@pytest.mark.parametrize("key", list(steps()))
def test_counts_are_not_negative(key: str) -> None:
    with pytest.raises(ValidationError):
        Steps(**steps() | {key: -1})


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        make_record().seed = 2


def cost(**differently: Any) -> Cost:
    content: dict[str, Any] = {
        "usd_per_hour": 7.2,
        "price_source": "https://example.com/on-demand",
        "price_date": date(2026, 11, 1),
    }
    return Cost(**content | differently)


@given(usd_per_hour=st.floats(0, 1e6), to_target_s=seconds)
def test_dollars_are_hours_to_the_target_times_the_price(usd_per_hour: float, to_target_s: float) -> None:
    time = Time(to_target_s=to_target_s, total_s=None, setup_s=1e9, evaluation_s=0)
    record = make_record(cost=cost(usd_per_hour=usd_per_hour), time=time)
    assert record.usd == pytest.approx(usd_per_hour * (to_target_s / 3600))
    assert Record.model_validate_json(record.model_dump_json()).cost == record.cost


def test_only_a_run_that_reached_its_target_costs_something() -> None:
    assert make_record(cost=None).usd is None
    assert make_record(cost=cost()).usd == pytest.approx(0.003)
    missed = Time(to_target_s=None, total_s=10, setup_s=None, evaluation_s=0)
    assert make_record(cost=cost(), outcome="missed", time=missed).usd is None


@pytest.mark.parametrize(
    ("differently", "reason"),
    [
        ({"cost": cost()}, None),
        ({"cost": None}, "no price with its source and date was given"),
        ({"cost": cost(usd_per_hour=0)}, "a price of 0, which is nobody's price on demand"),
        ({"cost": cost(price_date=date(2026, 11, 26))}, "the price is of 2026-11-26, after the run"),
        ({"cost": cost(), "outcome": "timeout"}, "the target was not reached"),
    ],
)
def test_what_a_cost_board_may_not_rank_says_why(differently: dict[str, Any], reason: str | None) -> None:
    assert make_record(**differently).cost_unranked_because == reason


def test_a_price_of_the_run_s_own_day_holds_wherever_on_earth_it_was_seen() -> None:
    evening = datetime(2026, 11, 24, 23, tzinfo=UTC)
    assert make_record(started_at=evening, cost=cost(price_date=date(2026, 11, 25))).cost_unranked_because is None


@pytest.mark.parametrize("source", ["", "invoice", "ftp://example.com", "https://", "https://a b", "https://a\x1b[2J"])
def test_a_source_that_nobody_can_open_is_refused(source: str) -> None:
    with pytest.raises(ValidationError):
        cost(price_source=source)


def test_a_record_from_before_prices_still_reads() -> None:
    content = make_record().model_dump(exclude={"cost"})
    assert Record.model_validate(content).cost is None
