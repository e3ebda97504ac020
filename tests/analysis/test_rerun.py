"""A re-run on another device says how fast the same steps go there."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_record

from kit.analysis.rerun import time_ratio
from kit.errors import KitError
from kit.results.record import Progress, Record


def run(step_s: float, *, steps: int = 256, start_s: float = 1.0, **differently: Any) -> Record:
    """A run whose steps all take the same time, after a start-up."""
    marks = [2**power for power in range(steps.bit_length())]
    progress = tuple(Progress(optimizer_steps=done, elapsed_s=start_s + done * step_s) for done in marks)
    return make_record(progress=progress, **differently)


@given(own=st.floats(1e-4, 10), other=st.floats(1e-4, 10), starts=st.tuples(st.floats(0, 50), st.floats(0, 50)))
def test_the_ratio_is_that_of_the_steps_whatever_the_start_up_took(
    own: float, other: float, starts: tuple[float, float]
) -> None:
    ratio = time_ratio(run(own, start_s=starts[0]), run(other, start_s=starts[1]))
    assert ratio.value == pytest.approx(other / own, rel=1e-6)
    assert ratio.low == pytest.approx(ratio.high, rel=1e-6)


def test_a_part_of_a_long_run_is_enough() -> None:
    ratio = time_ratio(run(0.1, steps=4096), run(0.2, steps=100))
    assert ratio.value == pytest.approx(2)
    assert (ratio.first_step, ratio.last_step) == (8, 64)


def test_stretches_that_disagree_widen_the_interval() -> None:
    uneven = make_record(
        progress=tuple(
            Progress(optimizer_steps=steps, elapsed_s=at)
            for steps, at in ((1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 48))
        )
    )
    ratio = time_ratio(run(1.0), uneven)
    assert (ratio.low, ratio.high) == (1.0, 2.0)
    assert ratio.low < ratio.value < ratio.high


@pytest.mark.parametrize(
    ("differently", "named"),
    [
        ({"seed": 2}, "seed"),
        ({"loader": "dali"}, "loader"),
    ],
)
def test_what_is_not_the_same_program_is_refused(differently: dict[str, Any], named: str) -> None:
    with pytest.raises(KitError, match=f"its {named} is another"):
        time_ratio(run(1.0), run(1.0, **differently))


def test_another_configuration_or_source_is_refused() -> None:
    record = run(1.0)
    for name, value in (("config", {"lr": 0.2}), ("source_sha256", "b" * 64)):
        other = record.model_copy(update={"submission": record.submission.model_copy(update={name: value})})
        with pytest.raises(KitError, match="is another"):
            time_ratio(record, other)


@pytest.mark.parametrize("steps", [1, 8, 16])
def test_too_few_steps_are_refused_with_what_to_do(steps: int) -> None:
    with pytest.raises(KitError, match="re-run more of it"):
        time_ratio(run(1.0), run(1.0, steps=steps))


def test_a_run_without_progress_is_refused() -> None:
    with pytest.raises(KitError, match="0 optimizer steps in common"):
        time_ratio(run(1.0), make_record())


def test_steps_that_took_no_time_are_refused() -> None:
    with pytest.raises(KitError, match="damaged"):
        time_ratio(run(1.0), run(0.0))
