"""A speed-up's factors: what they multiply to, what each is, and what is not made up."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.analysis.decomposition import Decomposition, Factor, algorithmic_efficiency, decompose
from kit.analysis.side import Capability, Goal, Side
from kit.errors import KitError
from kit.results.record import OperatorFlops

GOAL = Goal("made", "top1", 0.9, "made", 1, "f" * 64)
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class MadeRoof:
    """A roofline with a rate per precision."""

    name: str
    peaks: tuple[float, ...]
    bandwidth: float
    method: Literal["measured", "spec"] = "measured"
    log_error: float = 0.1

    def seconds(self, operators: Iterable[OperatorFlops]) -> float:
        rates = dict(zip(DTYPES, self.peaks, strict=True))
        return math.fsum(
            row.calls * max(row.flops_per_call / rates[row.dtype], row.bytes_per_call / self.bandwidth)
            for row in operators
        )


def rate(side: Side) -> float:
    """What one device of the side can attain at best on the side's own operators."""
    assert side.capability.profile is not None
    return total(side.operators) / side.capability.profile.seconds(side.operators)


def total(operators: Iterable[OperatorFlops]) -> float:
    return math.fsum(row.calls * row.flops_per_call for row in operators)


def attained(side: Side) -> float:
    assert side.train_flops is not None
    assert side.devices is not None
    return side.train_flops / (side.devices * rate(side) * side.time_s)


def factors(comparison: Decomposition) -> dict[str, float]:
    return {factor.name: factor.ratio for factor in comparison.factors}


def product(comparison: Decomposition) -> float:
    return math.prod(factor.ratio for factor in comparison.factors)


sizes = st.floats(1e3, 1e12)
rows = st.builds(
    OperatorFlops,
    operator_class=st.sampled_from(["gemm", "conv"]),
    dtype=st.sampled_from(DTYPES),
    phase=st.sampled_from(["training", "optimizer"]),
    calls=st.integers(1, 10**6),
    flops_per_call=sizes,
    bytes_per_call=sizes,
)
mixes = st.lists(rows, min_size=1, max_size=5).map(tuple)
roofs = st.builds(
    MadeRoof,
    name=st.sampled_from(["one", "two", "three"]),
    peaks=st.tuples(*[st.floats(1e9, 1e15)] * len(DTYPES)),
    bandwidth=st.floats(1e8, 1e13),
    log_error=st.floats(0, 0.5),
)


@st.composite
def sides(draw: st.DrawFn, *, all_known: bool = False) -> Side:
    def maybe(value: st.SearchStrategy[Any]) -> Any:
        return draw(value if all_known else st.none() | value)

    runs = draw(st.integers(1, 7))
    roof = maybe(roofs)
    flops = maybe(st.tuples(*[st.floats(1e9, 1e22)] * runs))
    return Side(
        name=draw(st.sampled_from(["first", "second"])),
        goal=GOAL,
        times_s=draw(st.tuples(*[st.floats(1e-2, 1e7)] * runs)),
        capability=Capability(roof.name if roof else draw(st.sampled_from(["one", "unheard of"])), profile=roof),
        devices=maybe(st.integers(1, 4096)),
        flops=flops,
        flops_method="counted" if flops is not None else None,
        samples=maybe(st.floats(1, 1e10)),
        operators=maybe(mixes) or (),
        network=draw(st.none() | st.sampled_from(["a", "b"])),
        recipe=draw(st.none() | st.sampled_from(["a", "b"])),
    )


@settings(max_examples=2000, deadline=None)
@given(sides(), sides())
def test_the_factors_multiply_to_the_speed_up_and_a_swap_inverts_each(a: Side, b: Side) -> None:
    there, back = decompose(a, b), decompose(b, a)
    assert there.speedup.ratio == pytest.approx(a.time_s / b.time_s, rel=1e-9)
    assert product(there) == pytest.approx(a.time_s / b.time_s, rel=1e-9)
    assert [factor.name for factor in there.factors] == [factor.name for factor in back.factors]
    for forth, reverse in zip(there.factors, back.factors, strict=True):
        assert forth.ratio * reverse.ratio == pytest.approx(1, rel=1e-9)
        assert (forth.exact, forth.separable, forth.parts) == (reverse.exact, reverse.separable, reverse.parts)
        if forth.low is not None:
            assert forth.high is not None
            assert reverse.low is not None
            assert forth.low <= forth.ratio * (1 + 1e-9)
            assert forth.high * reverse.low == pytest.approx(1, rel=1e-6)
        if forth.split:
            assert math.prod(part.ratio for part in forth.split) == pytest.approx(forth.ratio, rel=1e-9)
    parts = [part for factor in there.factors for part in factor.parts]
    assert len(parts) == len(set(parts)), "a part is in one factor alone"
    assert set(parts) - {"luck"} == {"algorithm", "scale", "hardware", "precision and mix", "implementation"}


@settings(max_examples=1000, deadline=None)
@given(sides(all_known=True), sides(all_known=True))
def test_each_factor_is_what_the_formula_says(a: Side, b: Side) -> None:
    a, b = replace(a, recipe=None), replace(b, recipe=None)
    b = replace(b, capability=replace(b.capability, name="another"))
    comparison = decompose(a, b)
    found = factors(comparison)
    assert a.train_flops is not None
    assert b.train_flops is not None
    assert a.devices is not None
    assert b.devices is not None
    assert found["algorithm"] == pytest.approx(a.train_flops / b.train_flops, rel=1e-9)
    assert found["scale"] == pytest.approx(b.devices / a.devices, rel=1e-9)
    assert found["hardware"] * found["precision and mix"] == pytest.approx(rate(b) / rate(a), rel=1e-9)
    assert found["implementation"] == pytest.approx(attained(b) / attained(a), rel=1e-9)
    one, other = a.capability.profile, b.capability.profile
    assert one is not None
    assert other is not None
    hardware = [one.seconds(mix) / other.seconds(mix) for mix in (a.operators, b.operators)]
    assert found["hardware"] == pytest.approx(math.sqrt(hardware[0] * hardware[1]), rel=1e-9)
    assert comparison.interaction_log is not None
    assert comparison.interaction_log == pytest.approx(math.log(hardware[0] / hardware[1]), abs=1e-9)


@settings(max_examples=500, deadline=None)
@given(sides(all_known=True), roofs)
def test_another_device_alone_is_hardware_alone(a: Side, roof: MadeRoof) -> None:
    a = replace(a, recipe=None)
    other = replace(roof, name="another")
    assert a.capability.profile is not None
    slower = other.seconds(a.operators) / a.capability.profile.seconds(a.operators)
    b = replace(a, times_s=tuple(time * slower for time in a.times_s), capability=Capability("another", profile=other))
    comparison = decompose(a, b)
    found = factors(comparison)
    for exact in ("algorithm", "scale", "precision and mix"):
        assert found[exact] == 1, exact
    assert found["hardware"] == pytest.approx(1 / slower, rel=1e-9)
    assert found["implementation"] == pytest.approx(1, rel=1e-9)
    assert comparison.interaction_log == 0


@settings(max_examples=500, deadline=None)
@given(sides(all_known=True), st.integers(2, 50))
def test_other_epochs_alone_are_algorithm_alone(a: Side, times: int) -> None:
    a = replace(a, recipe=None)
    longer = replace(
        a,
        times_s=tuple(time * times for time in a.times_s),
        flops=tuple(flops * times for flops in a.flops or ()),
        samples=(a.samples or 0) * times,
        operators=tuple(row.model_copy(update={"calls": row.calls * times}) for row in a.operators),
    )
    found = {factor.name: factor for factor in decompose(longer, a).factors}
    assert found["algorithm"].ratio == pytest.approx(times, rel=1e-9)
    for name in ("scale", "hardware", "precision and mix"):
        assert found[name].ratio == 1
        assert found[name].exact, name
    assert found["implementation"].ratio == pytest.approx(1, rel=1e-9)
    assert [part.ratio for part in found["algorithm"].split] == pytest.approx([times, 1], rel=1e-9)


@settings(max_examples=500, deadline=None)
@given(sides(all_known=True), st.integers(2, 64), st.floats(0.1, 1))
def test_more_devices_alone_are_scale_and_what_they_lose_is_implementation(
    a: Side, more: int, efficiency: float
) -> None:
    a = replace(a, recipe=None)
    times_s = tuple(time / (more * efficiency) for time in a.times_s)
    found = factors(decompose(a, replace(a, devices=(a.devices or 1) * more, times_s=times_s)))
    assert found["scale"] == pytest.approx(more, rel=1e-9)
    assert found["implementation"] == pytest.approx(efficiency, rel=1e-9)
    assert found["algorithm"] == found["hardware"] == found["precision and mix"] == 1


FULL = MadeRoof("one", (1e12, 4e12, 4e12), 1e11)
MATMULS = OperatorFlops(
    operator_class="gemm", dtype="float32", phase="training", calls=100, flops_per_call=1e10, bytes_per_call=1e6
)


def side(**differently: Any) -> Side:
    content: dict[str, Any] = {
        "name": "made",
        "goal": GOAL,
        "times_s": (10.0,),
        "capability": Capability("one", profile=FULL),
        "devices": 1,
        "flops": (1e12,),
        "flops_method": "counted",
        "operators": (MATMULS,),
    }
    return Side(**content | differently)


def test_a_lower_precision_alone_is_precision_and_mix() -> None:
    half = MATMULS.model_copy(update={"dtype": "bfloat16"})
    found = factors(decompose(side(), side(times_s=(2.5,), operators=(half,))))
    assert found["precision and mix"] == pytest.approx(4)
    assert found["algorithm"] == found["scale"] == found["hardware"] == 1
    assert found["implementation"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ({}, {"flops": None}, ["scale", "hardware", "precision and mix", "algorithm × implementation"]),
        ({}, {"devices": None}, ["algorithm", "hardware", "precision and mix", "scale × implementation"]),
        (
            {},
            {"capability": Capability("unheard of"), "operators": ()},
            ["algorithm", "scale", "hardware × implementation"],
        ),
        (
            {"flops": None, "operators": ()},
            {"capability": Capability("unheard of"), "devices": None},
            ["algorithm × scale × hardware × implementation"],
        ),
        ({"operators": ()}, {}, ["algorithm", "scale", "hardware", "implementation"]),
    ],
)
def test_what_is_not_known_is_merged_and_named(a: dict[str, Any], b: dict[str, Any], names: list[str]) -> None:
    comparison = decompose(side(**a), side(times_s=(4.0,), **b))
    assert [factor.name for factor in comparison.factors] == names
    assert product(comparison) == pytest.approx(2.5, rel=1e-9)


def test_hardware_is_known_from_one_mix_where_the_other_is_not() -> None:
    twice = Capability("two", profile=replace(FULL, name="two", peaks=(2e12, 8e12, 8e12)))
    comparison = decompose(side(), side(capability=twice, operators=(), flops=None))
    found = factors(comparison)
    assert found["hardware"] == pytest.approx(2)
    assert comparison.interaction_log is None


def test_a_measured_roof_and_a_data_sheet_make_no_pair() -> None:
    comparison = decompose(side(), side(capability=Capability("two")))
    assert comparison.factors[-1].name == "hardware × implementation"


def test_the_same_things_are_exact_and_noise_is_not_separable() -> None:
    a = side(times_s=(10.0, 11.0, 12.0, 13.0, 14.0, 15.0), flops=(1e12,) * 6)
    b = side(times_s=(10.5, 11.5, 12.2, 12.9, 14.2, 15.5), flops=(1e12,) * 6)
    found = {factor.name: factor for factor in decompose(a, b).factors}
    for name in ("algorithm", "scale", "hardware", "precision and mix"):
        assert found[name].exact, name
        assert (found[name].low, found[name].high, found[name].separable) == (None, None, None)
    assert found["implementation"].separable is False
    much = {factor.name: factor for factor in decompose(a, replace(b, times_s=tuple(t / 2 for t in b.times_s))).factors}
    assert much["implementation"].separable is True


def test_mixes_that_are_almost_the_same_are_told_apart_with_a_small_error() -> None:
    half = MATMULS.model_copy(update={"dtype": "bfloat16", "calls": 1})
    near = {factor.name: factor for factor in decompose(side(), side(operators=(MATMULS, half))).factors}
    far = {factor.name: factor for factor in decompose(side(), side(operators=(half,))).factors}

    def width(name: str, found: dict[str, Factor]) -> float:
        factor = found[name]
        assert factor.low is not None
        assert factor.high is not None
        return math.log(factor.high / factor.low)

    assert width("precision and mix", far) == pytest.approx(2 * 1.96 * FULL.log_error, rel=1e-3)
    for name in ("precision and mix", "implementation"):
        assert width(name, near) < 0.02 * width(name, far)


def test_the_error_of_the_device_ratio_widens_hardware_and_implementation_and_nothing_else() -> None:
    twice = replace(FULL, name="two", peaks=(2e12, 8e12, 8e12), log_error=0.2)
    found = {
        factor.name: factor for factor in decompose(side(), side(capability=Capability("two", profile=twice))).factors
    }
    assert found["hardware"].low == pytest.approx(2 * math.exp(-1.96 * 0.2), rel=1e-3)
    assert found["hardware"].high == pytest.approx(2 * math.exp(1.96 * 0.2), rel=1e-3)
    assert found["implementation"].low == pytest.approx(0.5 * math.exp(-1.96 * 0.2), rel=1e-3)
    assert found["algorithm"].low is None


def test_runs_that_take_more_operations_take_more_time_and_that_is_no_noise_of_the_implementation() -> None:
    flops = (1e12, 2e12, 3e12, 4e12, 5e12, 6e12)
    a = side(times_s=tuple(value / 1e11 for value in flops), flops=flops)
    b = side(times_s=tuple(value / 2e11 for value in flops), flops=flops)
    found = {factor.name: factor for factor in decompose(a, b).factors}
    assert found["algorithm"].separable is False
    assert found["implementation"].ratio == pytest.approx(2)
    assert found["implementation"].separable is None, "no run differs from another in time per operation"


def test_one_run_a_side_says_that_its_chance_is_not_known() -> None:
    comparison = decompose(side(), side(times_s=(5.0,)))
    assert comparison.speedup.low is None
    assert not comparison.speedup.exact
    assert any("A and B: one run" in note for note in comparison.notes)


def test_a_missed_run_counts_as_infinitely_slow() -> None:
    a = side(times_s=(10.0, 11.0, math.inf), flops=(1e12, 1e12, math.inf))
    comparison = decompose(a, side())
    assert comparison.speedup.ratio == pytest.approx(1.1)
    assert comparison.speedup.high is None
    assert comparison.speedup.low == pytest.approx(1.0)
    assert any("1 of 3 runs did not reach" in note for note in comparison.notes)
    assert Decomposition.model_validate_json(comparison.model_dump_json()) == comparison


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({"times_s": (0.0,)}, "expected times to the target above 0 s, got 0"),
        ({"times_s": (-1.0,)}, "expected times to the target above 0 s, got -1"),
        ({"times_s": (), "flops": None}, "expected times to the target above 0 s, got none"),
        ({"times_s": (1.0, math.inf, math.inf), "flops": None}, "2 of 3 runs did not reach the target"),
        ({"devices": 0}, "expected at least one device, got 0"),
        ({"flops": (0.0,)}, "expected training operations above 0, got 0"),
        ({"flops": (1.0, 2.0)}, "expected operations of 1 runs, got 2"),
        ({"samples": 0.0}, "expected samples to the target above 0, got 0"),
    ],
)
def test_a_side_that_cannot_be_is_refused(different: dict[str, Any], expected: str) -> None:
    with pytest.raises(KitError, match=expected):
        side(**different)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (replace(GOAL, target=0.8), "needs one target"),
        (replace(GOAL, dataset="other"), "needs one target"),
        (replace(GOAL, metric="top5"), "needs one target"),
        (replace(GOAL, track="other"), "needs one target"),
        (replace(GOAL, version=2), "needs one version of track made"),
        (replace(GOAL, fingerprint="0" * 64), "needs one dataset"),
        (replace(GOAL, rehearsal=True), "is a rehearsal on other data"),
    ],
)
def test_what_raced_for_other_things_is_not_compared(goal: Goal, expected: str) -> None:
    for compare in (decompose, algorithmic_efficiency):
        with pytest.raises(KitError, match=expected):
            compare(side(), side(name="other", goal=goal))


def test_algorithmic_efficiency_is_the_ratio_of_counted_operations() -> None:
    a, b = side(flops=(4e12,)), side(flops=(1e12,), times_s=(40.0,))
    assert algorithmic_efficiency(a, b).ratio == pytest.approx(4)
    comparison = decompose(a, b)
    assert comparison.algorithmic_efficiency == algorithmic_efficiency(a, b)


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({"flops": None, "flops_unknown_because": "not counted"}, "other: .* needs counted .*: not counted"),
        ({"flops_method": "estimated"}, "its operations are estimated, not counted"),
    ],
)
def test_algorithmic_efficiency_is_refused_without_counts(different: dict[str, Any], expected: str) -> None:
    other = side(name="other", **different)
    for pair in ((side(), other), (other, side())):
        with pytest.raises(KitError, match=expected):
            algorithmic_efficiency(*pair)
    comparison = decompose(side(), other)
    assert comparison.algorithmic_efficiency is None
    assert comparison.no_efficiency_because is not None
