"""Energy of counters whose true energy is known; absent, with the reason, where it cannot be had."""

import threading
from collections.abc import Callable
from time import monotonic_ns

import pytest

from kit.meters.energy import CounterError, EnergyMeter

STEP_NS = 20_000_000


def stepping(watts: float) -> Callable[[], int]:
    """A counter that integrates a constant power and shows it in steps of 20 ms."""
    start_ns = monotonic_ns()
    return lambda: round((monotonic_ns() - start_ns) // STEP_NS * STEP_NS / 1e9 * watts * 1000)


def follow(read_mj: Callable[[], int], seconds: float) -> tuple[EnergyMeter, int, int]:
    meter = EnergyMeter(read_mj)
    meter.start()
    start_ns = monotonic_ns()
    threading.Event().wait(seconds)
    stop_ns = monotonic_ns()
    meter.stop()
    return meter, start_ns, stop_ns


def test_the_energy_of_a_steady_load_is_power_times_time() -> None:
    meter, start_ns, stop_ns = follow(stepping(250.0), 0.6)
    energy = meter.energy(start_ns, stop_ns)
    assert energy.device_j is not None
    assert energy.uncertainty_j is not None
    assert energy.update_period_s is not None
    true_j = 250.0 * (stop_ns - start_ns) / 1e9
    assert abs(energy.device_j - true_j) <= energy.uncertainty_j
    assert energy.update_period_s >= 0.019
    assert energy.unavailable_because is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1000, 2000, 3000, 4000, 500, 600, 700, 800], "ran backwards"),
        ([1000] * 8, "moved 0 times"),
        ([1000, 2000, 2000, 2000, 2000], "moved"),
    ],
)
def test_a_counter_that_lies_gives_no_energy(values: list[int], reason: str) -> None:
    remaining = iter(values)
    meter, start_ns, stop_ns = follow(lambda: next(remaining, values[-1]), 0.1)
    energy = meter.energy(start_ns - 10**9, stop_ns)
    assert energy.device_j is None
    assert reason in (energy.unavailable_because or "")


def test_a_counter_that_fails_gives_no_energy_and_its_reason() -> None:
    def lost() -> int:
        raise CounterError("NVML: GPU is lost")

    meter, start_ns, stop_ns = follow(lost, 0.01)
    energy = meter.energy(start_ns, stop_ns)
    assert energy.device_j is None
    assert energy.unavailable_because == "NVML: GPU is lost"


@pytest.mark.gpu
def test_the_counter_of_a_gpu_moves() -> None:
    from kit.meters.energy import nvml_counter

    meter, start_ns, stop_ns = follow(nvml_counter(), 2.0)
    energy = meter.energy(start_ns, stop_ns)
    assert energy.device_j is not None, energy.unavailable_because
    assert energy.device_j > 1
