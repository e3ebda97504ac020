"""The energy of a window from recorded numbers: what counters and sensors of known curves would have shown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Curve, Seen, constant, inside, noise, ramp, square, watch

from kit.meters.energy import absent, aliased, mean_power_w, measure
from kit.meters.readings import Failure, Samples, Ticks
from kit.results.record import Energy

GONE = Failure(at_s=0.7, reason="NVML: the GPU is lost", lost=True)
NEVER = Failure(at_s=-3.0, reason="NVML: not supported", lost=False)
CURVES = ["constant", "square", "ramp", "noise"]


def curve(kind: str, stop_s: float, seed: int) -> Curve:
    load = {
        "constant": constant(350),
        "square": square(250, 450, 0.037),
        "ramp": ramp(100, 400, stop_s),
        "noise": noise(350, 100, 0.01, seed),
    }[kind]
    return inside(load, stop_s)


def errors(kind: str, stop_s: float, windows: int) -> tuple[list[float], list[float]]:
    """Relative errors of the counter and of the samples over windows of other phase and length."""
    random = np.random.default_rng(1)
    counted, sampled = [], []
    for seed in range(windows):
        length_s = stop_s * random.uniform(0.95, 1.05)
        seen = watch(curve(kind, length_s, seed), length_s, seed=seed, phase_s=random.uniform(0.002, 0.012))
        energy = measure(seen.ticks, seen.samples, length_s)
        assert energy.device_j is not None
        assert energy.method == "nvml_total_energy"
        counted.append(energy.device_j / seen.true_j - 1)
        if energy.sampled_j is not None:
            sampled.append(energy.sampled_j / seen.true_j - 1)
    return counted, sampled


@pytest.mark.parametrize(("stop_s", "limit"), [(0.5, 0.015), (2.0, 0.007), (10.0, 0.002)])
@pytest.mark.parametrize("kind", CURVES)
def test_the_counter_is_within_its_limit(kind: str, stop_s: float, limit: float) -> None:
    counted, _ = errors(kind, stop_s, windows=40)
    assert np.quantile(np.abs(counted), 0.95) <= limit


@pytest.mark.parametrize("kind", CURVES)
def test_the_sampled_integral_is_within_three_percent_of_a_ten_second_window(kind: str) -> None:
    _, sampled = errors(kind, 10.0, windows=20)
    assert len(sampled) == 20
    assert np.max(np.abs(sampled)) <= 0.03


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("stop_s", [0.5, 2.0])
def test_what_a_counter_that_sees_a_part_of_each_period_misses_at_the_end_is_in_the_uncertainty(
    kind: str, stop_s: float
) -> None:
    for seed in range(20):
        seen = watch(
            curve(kind, stop_s, seed), stop_s, seed=seed, phase_s=0.004 + 0.0045 * seed, counter_window_s=0.025
        )
        energy = measure(seen.ticks, seen.samples, stop_s)
        assert energy.device_j is not None
        assert energy.uncertainty_j is not None
        assert abs(energy.device_j - seen.true_j) <= 3 * energy.uncertainty_j


@settings(deadline=None, max_examples=60)
@given(
    load_w=st.floats(20, 700),
    idle_w=st.floats(15, 150),
    stop_s=st.floats(0.5, 4),
    period_s=st.floats(0.02, 0.12),
    phase=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_a_constant_load_is_measured_at_any_phase_and_period_of_the_counter(
    load_w: float, idle_w: float, stop_s: float, period_s: float, phase: float, seed: int
) -> None:
    seen = watch(
        inside(constant(load_w), stop_s, idle_w), stop_s, period_s=period_s, phase_s=phase * period_s, seed=seed
    )
    energy = measure(seen.ticks, seen.samples, stop_s)
    assert energy.device_j is not None
    # A reading comes up to 8 ms after a step; outside, power is idle, inside it is the load.
    allowed_j = 0.008 * (load_w + idle_w) + 0.002 * seen.true_j
    assert energy.device_j == pytest.approx(seen.true_j, abs=allowed_j)
    assert energy.update_period_s == pytest.approx(period_s, rel=0.1, abs=0.004)
    assert energy.uncertainty_j is not None
    assert abs(energy.device_j - seen.true_j) <= energy.uncertainty_j


@settings(deadline=None, max_examples=40)
@given(split=st.floats(0.2, 0.8), seed=st.integers(0, 1000))
def test_two_windows_that_meet_add_up_to_one(split: float, seed: int) -> None:
    stop_s = 4.0
    seen = watch(inside(noise(300, 100, 0.02, seed), stop_s), stop_s, seed=seed)
    middle_s = split * stop_s
    second = Ticks(
        seen.ticks.since_s - middle_s, seen.ticks.seen_s - middle_s, seen.ticks.mj, seen.ticks.read_until_s - middle_s
    )
    parts = [
        measure(seen.ticks, seen.samples, middle_s).device_j,
        measure(second, seen.samples, stop_s - middle_s).device_j,
    ]
    whole = measure(seen.ticks, seen.samples, stop_s).device_j
    assert parts[0] is not None
    assert parts[1] is not None
    assert parts[0] + parts[1] == pytest.approx(whole, abs=0.1 * 100)  # one step of the counter, and the noise's swing


def test_late_readings_cost_little_because_idle_power_is_little() -> None:
    stop_s, worst = 2.0, 0.0
    for seed in range(20):
        seen = watch(inside(constant(350), stop_s), stop_s, seed=seed, poll_s=0.06)
        energy = measure(seen.ticks, seen.samples, stop_s)
        assert energy.device_j is not None
        worst = max(worst, abs(energy.device_j / seen.true_j - 1))
    assert worst <= 0.01


# ---- counters that cannot be trusted


@pytest.fixture
def seen() -> Seen:
    return watch(inside(square(200, 300, 0.037), 2.0), 2.0)


def changed(ticks: Ticks, since_s: float, *, minus_mj: int) -> Ticks:
    """A counter that has lost something from a time on."""
    return replace(ticks, mj=ticks.mj - np.where(ticks.seen_s > since_s, minus_mj, 0))


def assert_sampled_instead(energy: Energy, true_j: float, because: str) -> None:
    assert energy.method == "nvml_instant_power"
    assert energy.device_j == pytest.approx(true_j, rel=0.03)
    assert energy.device_j == energy.sampled_j
    assert energy.counter_unavailable_because is not None
    assert because in energy.counter_unavailable_because


@pytest.mark.parametrize("at_s", [0.05, 1.0, 1.98])
def test_a_counter_that_starts_again_is_replaced_by_samples(seen: Seen, at_s: float) -> None:
    energy = measure(changed(seen.ticks, at_s, minus_mj=10**9), seen.samples, 2.0)
    assert_sampled_instead(energy, seen.true_j, "ran backwards")
    assert energy.flags == ("counter_backwards",)


@pytest.mark.parametrize(("start_s", "stop_s"), [(0.0, 0.5), (0.8, 1.3), (1.5, 9.0), (-2.0, 1.0)])
def test_a_counter_that_stands_still_anywhere_in_the_window_is_replaced_by_samples(
    seen: Seen, start_s: float, stop_s: float
) -> None:
    keep = (seen.ticks.seen_s < start_s) | (seen.ticks.seen_s > stop_s)
    since_s = seen.ticks.since_s[keep]
    ticks = Ticks(since_s, seen.ticks.seen_s[keep], seen.ticks.mj[keep], seen.ticks.read_until_s)
    energy = measure(ticks, seen.samples, 2.0)
    assert_sampled_instead(energy, seen.true_j, "stood still")
    assert energy.flags == ("counter_stalled",)


def test_a_meter_that_was_away_is_no_stall_of_the_counter(seen: Seen) -> None:
    away = (seen.ticks.seen_s > 0.6) & (seen.ticks.seen_s < 1.2)
    next_after = int(np.flatnonzero(seen.ticks.seen_s >= 1.2)[0])
    since_s = seen.ticks.since_s.copy()
    since_s[next_after] = 0.59  # nothing was read in between
    ticks = Ticks(since_s[~away], seen.ticks.seen_s[~away], seen.ticks.mj[~away], seen.ticks.read_until_s)
    energy = measure(ticks, seen.samples, 2.0)
    assert energy.method == "nvml_total_energy"
    assert energy.device_j == pytest.approx(seen.true_j, rel=0.007)


def test_a_lost_device_leaves_no_energy_and_both_reasons(seen: Seen) -> None:
    energy = measure(replace(seen.ticks, failed=GONE), replace(seen.samples, failed=GONE), 2.0)
    assert energy.device_j is None
    assert energy.method is None
    assert energy.uncertainty_j is None
    assert energy.unavailable_because == "NVML: the GPU is lost, 0.70 s after go"
    assert energy.sampled_unavailable_because == "NVML: the GPU is lost, 0.70 s after go"
    assert energy.flags == ("device_lost",)


def test_what_fails_after_the_window_does_no_harm(seen: Seen) -> None:
    late = replace(GONE, at_s=2.5)
    energy = measure(replace(seen.ticks, failed=late), replace(seen.samples, failed=late), 2.0)
    assert energy.device_j == pytest.approx(seen.true_j, rel=0.007)
    assert energy.flags == ()


def test_without_a_counter_samples_give_the_energy_and_the_reason_is_kept(seen: Seen) -> None:
    none = np.array([])
    ticks = Ticks(none, none, np.array([], np.int64), -3.0, failed=NEVER)
    assert_sampled_instead(measure(ticks, seen.samples, 2.0), seen.true_j, "NVML: not supported")


def test_without_samples_the_counter_stands_alone(seen: Seen) -> None:
    samples = Samples(np.array([]), np.array([]), failed=NEVER)
    energy = measure(seen.ticks, samples, 2.0)
    assert energy.device_j == pytest.approx(seen.true_j, rel=0.007)
    assert energy.sampled_j is None
    assert energy.sampled_unavailable_because == "NVML: not supported"


def test_a_window_too_short_for_either_has_no_energy() -> None:
    seen = watch(inside(constant(300), 0.15), 0.15)
    energy = measure(seen.ticks, seen.samples, 0.15)
    assert energy.device_j is None
    assert energy.unavailable_because == "the energy counter moved 1 times in the window; 3 are needed"
    assert energy.sampled_unavailable_because == "the window holds 0 updates of instant power; 3 are needed"


@pytest.mark.parametrize("gain", [0.9, 1.1])
@pytest.mark.parametrize("kind", CURVES)
def test_a_counter_that_lies_is_flagged(kind: str, gain: float) -> None:
    seen = watch(curve(kind, 10.0, 3), 10.0, gain=gain)
    energy = measure(seen.ticks, seen.samples, 10.0)
    assert "inconsistent" in energy.flags
    assert energy.device_j == pytest.approx(gain * seen.true_j, rel=0.002)


@pytest.mark.parametrize("stop_s", [0.7, 2.0, 10.0])
@pytest.mark.parametrize("kind", CURVES)
def test_chance_alone_is_not_flagged(kind: str, stop_s: float) -> None:
    flagged = 0
    for seed in range(20):
        seen = watch(curve(kind, stop_s, seed), stop_s, seed=seed)
        flagged += measure(seen.ticks, seen.samples, stop_s).flags != ()
    assert flagged <= 1


def test_samples_with_a_hole_are_not_integrated_over_it(seen: Seen) -> None:
    long = watch(inside(constant(300), 5.0), 5.0)
    hole = (long.samples.at_s > 1) & (long.samples.at_s < 2.5)
    samples = Samples(long.samples.at_s[~hole], long.samples.watts[~hole])
    energy = measure(long.ticks, samples, 5.0)
    assert energy.sampled_j is None
    assert energy.sampled_unavailable_because is not None
    assert "was not read for 1.5" in energy.sampled_unavailable_because


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_no_course_of_a_counter_gives_a_negative_energy(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 40))
    gaps = data.draw(st.lists(st.floats(0.001, 0.5), min_size=count, max_size=count))
    seen_s = np.cumsum(np.array([-1.0, *gaps]))[1:]
    since_s = seen_s - np.array(gaps) * data.draw(st.floats(0.01, 1))
    mj = np.array(data.draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count)), np.int64)
    if data.draw(st.booleans()):
        mj = np.sort(mj)
    ticks = Ticks(since_s, seen_s, mj, float(seen_s[-1]) if count else -1.0)
    energy = measure(ticks, Samples(np.array([]), np.array([]), failed=NEVER), 2.0)
    if energy.device_j is None:
        assert energy.unavailable_because is not None
        return
    assert energy.device_j >= 0
    # Where no step follows, an end is filled up with at most three periods of what was counted in two or more.
    assert energy.device_j <= 4 * (mj.max() - mj.min()) / 1000 + 1e-6
    assert energy.uncertainty_j is not None
    assert np.isfinite(energy.uncertainty_j)
    Energy.model_validate(energy.model_dump())


def test_no_energy_is_never_zero() -> None:
    energy = absent("no GPU")
    assert energy.device_j is None
    assert energy.unavailable_because == "no GPU"


# ---- outside the window, and the moments a sensor sees


def test_power_outside_the_window_is_that_of_the_stretch(seen: Seen) -> None:
    assert mean_power_w(seen.ticks, seen.samples, -2.5, -0.2) == pytest.approx(70, rel=0.02)
    assert mean_power_w(seen.ticks, seen.samples, 0.0, 2.0) == pytest.approx(250, rel=0.03)
    assert mean_power_w(seen.ticks, seen.samples, 50.0, 60.0) is None


UPDATES_S = np.arange(100) * 0.1 + np.random.default_rng(0).uniform(-0.001, 0.001, 100)


@pytest.mark.parametrize("step_s", [0.1, 0.05, 0.2, 0.1 / 3, 0.02])
def test_steps_locked_to_the_sensor_are_found(step_s: float) -> None:
    assert aliased(UPDATES_S, step_s)


@pytest.mark.parametrize("step_s", [0.037, 0.0731, 0.118, 0.0617, 0.001])
def test_steps_that_the_sensor_sees_at_all_moments_are_not(step_s: float) -> None:
    assert not aliased(UPDATES_S, step_s)


def test_steps_as_long_as_what_the_sensor_averages_over_do_no_harm() -> None:
    assert not aliased(UPDATES_S, 0.025)


def test_too_few_updates_say_nothing() -> None:
    assert not aliased(UPDATES_S[:4], 0.1)


def test_locked_steps_are_where_samples_go_wrong() -> None:
    load = inside(lambda at_s: np.where(at_s % 0.1 < 0.05, 450.0, 150.0), 10.0)
    seen = watch(load, 10.0)
    energy = measure(seen.ticks, seen.samples, 10.0)
    assert energy.device_j == pytest.approx(seen.true_j, rel=0.002)
    assert energy.sampled_j is not None
    assert abs(energy.sampled_j / seen.true_j - 1) > 0.3
    assert "inconsistent" in energy.flags
