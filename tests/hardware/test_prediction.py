"""Times on another device: from curves, corrected by reference workloads, with an interval that they justify."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import make_curve, make_profile

from kit.errors import KitError
from kit.hardware.curves import Kernels
from kit.hardware.prediction import Prediction, predict
from kit.hardware.profile import Profile, WorkloadTime
from kit.results.record import OperatorFlops

COUNTED = {"gemm": 1e8, "conv": 1e9, "elementwise": 0.0}


def row(operator_class: str = "gemm", *, calls: int = 10, dtype: str = "float32") -> OperatorFlops:
    return OperatorFlops(
        operator_class=operator_class,
        dtype=dtype,
        phase="training",
        calls=calls,
        flops_per_call=COUNTED.get(operator_class, 1e8),
        bytes_per_call=1e6,
    )


MIXES: dict[str, list[OperatorFlops]] = {
    "products": [row("gemm")],
    "convolutions": [row("conv")],
    "elementwise": [row("elementwise")],
    "half": [row("gemm"), row("conv")],
    "all": [row("gemm"), row("conv"), row("elementwise")],
    "mostly products": [row("gemm", calls=50), row("elementwise")],
}


def device(slow: dict[str, float], workloads: dict[str, float] | None = None) -> Profile:
    """A device whose curves are slower by some factors, and whose reference workloads are so by others."""
    curves = tuple(make_curve(kind, slow=slow.get(kind, slow.get("", 1.0))) for kind in COUNTED)
    profile = make_profile(curves=curves, workloads=())
    kernels = Kernels(profile)
    times = tuple(
        WorkloadTime(
            name=name,
            dtype="float32",
            compiled=False,
            step_s=(workloads or {}).get(name, 1.0) * sum(each.calls * kernels.seconds(each) for each in rows),
            spread=0.02,
            operators=tuple(rows),
        )
        for name, rows in MIXES.items()
    )
    return profile.model_copy(update={"workloads": times})


def between(a: Profile, b: Profile, rows: Sequence[OperatorFlops] = (row("gemm", calls=3), row("conv"))) -> Prediction:
    return predict(rows, a, b)


def test_the_same_device_takes_the_same_time() -> None:
    prediction = between(device({}), device({}))
    assert prediction.ratio == pytest.approx(1)
    assert prediction.low < 1 < prediction.high
    assert prediction.high < 1.1
    assert [check.error for check in prediction.checks] == pytest.approx([0] * len(MIXES), abs=1e-9)
    assert prediction.refused_because is None


@given(slow=st.floats(0.01, 100))
@settings(deadline=None, max_examples=50)
def test_a_device_that_is_slower_in_everything_takes_so_much_longer(slow: float) -> None:
    prediction = between(device({}), device({"": slow}))
    assert prediction.ratio == pytest.approx(slow)
    assert prediction.low < slow < prediction.high


@given(
    slow=st.fixed_dictionaries({kind: st.floats(0.1, 10) for kind in COUNTED}),
    workloads=st.fixed_dictionaries({name: st.floats(0.7, 1.4) for name in MIXES}),
)
@settings(deadline=None, max_examples=50)
def test_there_and_back_is_where_it_began(slow: dict[str, float], workloads: dict[str, float]) -> None:
    a, b = device({}), device(slow, workloads)
    there, back = between(a, b), between(b, a)
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)
    assert there.low <= there.ratio <= there.high


@given(slow=st.fixed_dictionaries({kind: st.floats(0.1, 10) for kind in COUNTED}))
@settings(deadline=None, max_examples=50)
def test_a_prediction_lies_between_the_classes_it_is_made_of(slow: dict[str, float]) -> None:
    ratio = between(device({}), device(slow)).ratio
    assert min(slow["gemm"], slow["conv"]) * 0.999 <= ratio <= max(slow["gemm"], slow["conv"]) * 1.001


def test_where_curves_are_off_reference_workloads_say_by_how_much() -> None:
    """The curves see no difference; every workload that multiplies matrices takes half as long again."""
    off = {"products": 1.5, "mostly products": 1.5}
    without, corrected = (
        between(device({}), device({}), [row("gemm")]),
        between(device({}), device({}, off), [row("gemm")]),
    )
    assert without.ratio == pytest.approx(1)
    assert 1.2 < corrected.ratio < 1.6
    assert corrected.low < 1.5 < corrected.high


def test_reference_workloads_that_contradict_each_other_refuse_the_pair() -> None:
    wild = dict(zip(MIXES, (0.3, 3.0, 0.3, 3.0, 0.3, 3.0), strict=True))
    reason = between(device({}), device({}, wild)).refused_because
    assert reason is not None
    assert "re-run on the reference device" in reason


def test_the_interval_is_as_wide_as_the_worst_reference_workload_demands() -> None:
    narrow = between(device({}), device({}))
    wide = between(device({}), device({}, {"all": 1.3}))
    assert wide.high / wide.ratio > narrow.high / narrow.ratio


def test_too_few_reference_workloads_in_common_are_refused() -> None:
    few = device({}).model_copy(update={"workloads": device({}).workloads[:4]})
    with pytest.raises(KitError, match="4 reference workloads in common"):
        between(device({}), few)


def test_a_dtype_that_was_not_calibrated_is_named() -> None:
    with pytest.raises(KitError, match="0 reference workloads in common in bfloat16"):
        predict([row("gemm", dtype="bfloat16")], device({}), device({}))
    with pytest.raises(KitError, match="has no bfloat16 curve for conv"):
        predict([row("gemm", calls=100), row("conv", calls=1, dtype="bfloat16")], device({}), device({}))


def test_an_operator_that_no_curve_is_for_is_named() -> None:
    with pytest.raises(KitError, match="no float32 curve for attention"):
        predict([row("gemm"), row("attention")], device({}), device({}))


# ---- curves


@given(flops=st.floats(1e6, 4e9), intensity=st.floats(0.1, 10))
@settings(deadline=None, max_examples=100)
def test_between_points_of_a_constant_rate_time_goes_with_size(flops: float, intensity: float) -> None:
    kernels = Kernels(make_profile(curves=(make_curve("gemm"),)))
    call = row("gemm").model_copy(update={"flops_per_call": flops, "bytes_per_call": intensity * flops**0.667})
    assert 1e6 / 1e11 / 10 < kernels.seconds(call) < 10 * 4e9 / 1e11 * max(1, intensity)


def test_beyond_the_largest_point_the_rate_stays() -> None:
    kernels = Kernels(make_profile(curves=(make_curve("elementwise"),)))
    calls = [
        row("elementwise").model_copy(update={"bytes_per_call": size, "flops_per_call": 0.0}) for size in (1e9, 4e9)
    ]
    assert kernels.seconds(calls[1]) == pytest.approx(4 * kernels.seconds(calls[0]))


def test_below_the_smallest_point_a_call_takes_what_that_takes() -> None:
    kernels = Kernels(make_profile(curves=(make_curve("elementwise"),)))
    calls = [row("elementwise").model_copy(update={"bytes_per_call": size}) for size in (1.0, 1e3)]
    assert kernels.seconds(calls[0]) == kernels.seconds(calls[1])
