"""Points that cannot be right are found, and those that can be are left alone."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.hardware.calibration.soundness import Candidate, suspects


def series(*seconds: float, flops: bool = True) -> list[Candidate]:
    """Fourfold work from point to point."""
    return [
        Candidate("made", 1e6 * 4**step if flops else 0, 1e4 * 4**step, duration, spread=0.02)
        for step, duration in enumerate(seconds)
    ]


def test_time_that_grows_with_work_is_believed() -> None:
    assert suspects(series(1e-6, 4e-6, 1.6e-5, 7e-5, 9e-4)) == {}


def test_time_that_is_all_launches_is_believed() -> None:
    assert suspects(series(5e-6, 4.9e-6, 5.1e-6, 4.8e-6)) == {}


@pytest.mark.parametrize("flops", [True, False])
def test_a_point_slower_than_a_larger_one_is_suspected(flops: bool) -> None:
    found = suspects(series(1e-6, 4e-6, 24e-3, 6e-5, flops=flops))
    assert set(found) == {2}
    assert "0.024 s, but 6e-05 s for a larger one" in found[2]


def test_the_largest_point_is_suspected_when_it_jumps() -> None:
    found = suspects(series(1e-6, 4e-6, 1.6e-5, 5e-2))
    assert set(found) == {3}
    assert "for 0.25 of the work" in found[3]


def test_a_fall_within_the_spreads_is_no_contradiction() -> None:
    first, second = series(1.3e-5, 1e-5)
    assert set(suspects([first, second])) == {0}
    assert suspects([replace(first, spread=0.2), replace(second, spread=0.2)]) == {}


def test_a_point_whose_repetitions_differ_widely_is_suspected() -> None:
    first, second = series(1e-6, 4e-6)
    found = suspects([replace(first, spread=0.8), second])
    assert found == {0: "its timings differ by 80%"}


def test_series_do_not_judge_each_other() -> None:
    slow, fast = series(1e-3, 1e-6)
    assert suspects([slow, replace(fast, series="other")]) == {}


def test_more_operations_on_fewer_bytes_are_not_called_larger() -> None:
    wide = Candidate("made", flops=1e6, size_bytes=1e8, seconds=1e-2, spread=0.02)
    dense = Candidate("made", flops=1e8, size_bytes=1e6, seconds=1e-3, spread=0.02)
    assert suspects([wide, dense]) == {}


@given(
    times=st.lists(st.floats(min_value=1e-6, max_value=1e-3), min_size=2, max_size=8),
    spike=st.floats(min_value=1e2, max_value=1e4),
    data=st.data(),
)
def test_a_spike_in_a_smooth_series_is_the_only_suspect(times: list[float], spike: float, data: st.DataObject) -> None:
    smooth = series(*(min(times) * 3**step for step in range(len(times))))
    place = data.draw(st.integers(0, len(smooth) - 1))
    assert suspects(smooth) == {}
    spiked = list(smooth)
    spiked[place] = replace(smooth[place], seconds=spike * smooth[-1].seconds)
    assert set(suspects(spiked)) == {place}
