"""The record: complete, finite and the same after a trip through JSON."""

import math
from collections.abc import Callable
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from records import make_record

from kit.results.record import (
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
