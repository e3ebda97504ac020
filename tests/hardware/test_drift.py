"""Whether a machine is what it was, told from two profiles of known times."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import QUIET, make_curve, make_profile

from kit.errors import KitError
from kit.hardware.drift import Drift, compare
from kit.hardware.profile import Noise


def noisy() -> Noise:
    return QUIET.model_copy(update={"noisy": True, "because": "others used 1 core"})


def test_a_machine_like_before_is_steady() -> None:
    drift = compare(make_profile(), make_profile(slow=1.01))
    assert drift.verdict == "steady"
    assert drift.overall.ratio == pytest.approx(1.01)


@given(slow=st.floats(min_value=0.2, max_value=5))
def test_the_factor_is_the_one_by_which_everything_changed(slow: float) -> None:
    drift = compare(make_profile(), make_profile(slow=slow))
    assert drift.overall.ratio == pytest.approx(slow)
    assert all(change.ratio == pytest.approx(slow) for change in drift.classes)
    if abs(math.log(slow)) > math.log(1.04):
        assert drift.verdict == "drifted"
        assert ("longer" in drift.because) == (slow > 1)
    elif abs(math.log(slow)) < math.log(1.025):
        assert drift.verdict == "steady"


def test_one_class_that_moved_is_named() -> None:
    curves = [make_curve("gemm"), make_curve("conv"), make_curve("elementwise"), make_curve("copy"), make_curve("norm")]
    drift = compare(make_profile(curves=curves), make_profile(curves=[make_curve("gemm", slow=1.3), *curves[1:]]))
    assert drift.verdict == "drifted"
    assert drift.because == "other times than before for gemm float32"
    assert not drift.overall.drifted


def test_a_change_within_the_stated_spread_is_no_drift() -> None:
    uncertain = make_curve("gemm")
    points = [point.model_copy(update={"spread": 0.3, "seconds": point.seconds * 1.2}) for point in uncertain.points]
    moved = uncertain.model_copy(update={"points": tuple(points)})
    assert compare(make_profile(curves=[make_curve()]), make_profile(curves=[moved])).verdict == "steady"


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_noisy_profile_decides_nothing(which: str) -> None:
    profiles = {"old": make_profile(), "new": make_profile(slow=1.5)}
    profiles[which] = profiles[which].model_copy(update={"noise": noisy()})
    drift = compare(**profiles)
    assert drift.verdict == "unclear"
    assert "others used 1 core" in drift.because
    assert drift.overall.ratio == pytest.approx(1.5)


@given(shifts=st.lists(st.floats(min_value=-0.5, max_value=0.5), min_size=5, max_size=5))
def test_ratio_and_interval_are_in_order(shifts: list[float]) -> None:
    curve = make_curve()
    points = [
        point.model_copy(update={"seconds": point.seconds * math.exp(shift)})
        for point, shift in zip(curve.points, shifts, strict=True)
    ]
    (change,) = _changes(curve.model_copy(update={"points": tuple(points)}))
    assert change.low <= change.ratio <= change.high
    assert change.low == pytest.approx(math.exp(min(shifts)))  # of five points, the 95 % interval is their range
    assert change.high == pytest.approx(math.exp(max(shifts)))


def _changes(curve: Any) -> Any:
    return compare(
        make_profile(curves=[make_curve()], workloads=()), make_profile(curves=[curve], workloads=())
    ).classes


@pytest.mark.parametrize("what", ["name", "uuid_hash"])
def test_two_machines_are_not_compared(what: str) -> None:
    profile = make_profile()
    other = profile.model_copy(update={"device": profile.device.model_copy(update={what: "another"})})
    with pytest.raises(KitError, match=f"is of another machine \\({what} "):
        compare(profile, other)


def test_profiles_without_a_common_point_are_not_compared() -> None:
    with pytest.raises(KitError, match="no point in common"):
        compare(
            make_profile(curves=[make_curve("gemm")], workloads=()),
            make_profile(curves=[make_curve("conv")], workloads=()),
        )


def test_what_else_changed_is_told() -> None:
    profile = make_profile()
    other = make_profile(
        software=profile.software.model_copy(update={"torch": "2.16"}),
        settings=profile.settings.model_copy(update={"threads": 1}),
    )
    assert compare(profile, other).changed == ("torch: 2.15 → 2.16", "threads: 2 → 1")
    assert compare(profile, profile).changed == ()


def test_a_drift_survives_as_json() -> None:
    drift = compare(make_profile(), make_profile(slow=1.2))
    assert Drift.model_validate_json(drift.model_dump_json()) == drift
