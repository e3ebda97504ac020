"""The meter against counters of known energy. Truth comes from the counters' own notes of when they were read."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from time import monotonic_ns

import pytest

from kit.meters.energy import MIN_STEPS, POLL_S, CounterError, EnergyMeter, absent
from kit.results.record import Energy

PATIENCE_S = 20.0


@contextmanager
def following(read_mj: Callable[[], int]) -> Iterator[EnergyMeter]:
    meter = EnergyMeter(read_mj)
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


class Card:
    """A counter that moves every `step_s` by what was drawn since: `idle_w` until `load()`, then `load_w`."""

    def __init__(self, step_s: float, idle_w: float, load_w: float) -> None:
        self._step_ns = int(step_s * 1e9)
        self._idle_w, self._load_w = idle_w, load_w
        self._start_ns = monotonic_ns()
        self._load_ns: int | None = None
        self._seen = 0
        self._awaited = 0
        self._reached = threading.Event()
        self._read_ns = self._start_ns
        self._late_ns = 0

    def __call__(self) -> int:
        now_ns = monotonic_ns()
        self._late_ns = max(self._late_ns, now_ns - self._read_ns - int(POLL_S * 1e9))
        self._read_ns = now_ns
        step = (now_ns - self._start_ns) // self._step_ns
        if step > self._seen:
            self._seen = step
            self._late_ns = max(self._late_ns, (now_ns - self._start_ns) % self._step_ns)
            if step >= self._awaited:
                self._reached.set()
        at_ns = self._start_ns + step * self._step_ns
        loaded_ns = max(0, at_ns - self._load_ns) if self._load_ns is not None else 0
        idle_ns = at_ns - self._start_ns - loaded_ns
        return int((idle_ns * self._idle_w + loaded_ns * self._load_w) / 1e6)

    def load(self) -> int:
        self._load_ns = monotonic_ns()
        return self._load_ns

    def wait(self, steps: int) -> None:
        """Until so many more steps have been read."""
        self._reached.clear()
        self._awaited = self._seen + steps
        assert self._reached.wait(PATIENCE_S)

    @property
    def steps(self) -> int:
        """Steps that have been read."""
        return self._seen

    @property
    def late_s(self) -> float:
        """How long after it happened a step may have been noted: what a busy machine is forgiven."""
        return self._late_ns / 1e9

    def late_j(self) -> float:
        """What that can move the energy of a window by, at both its edges."""
        return 2 * self.late_s * max(self._idle_w, self._load_w)

    def require_a_machine_that_keeps_up(self) -> None:
        if self.late_s > 2 * self._step_ns / 1e9:
            pytest.skip(f"this machine was away for {self.late_s:.3f} s: no meter can follow steps then")


@pytest.mark.parametrize("step_s", [0.02, 0.05])
@pytest.mark.parametrize("load_w", [300.0, 20.0])
def test_a_window_of_known_power_is_measured(step_s: float, load_w: float) -> None:
    card = Card(step_s, idle_w=60.0, load_w=load_w)
    with following(card) as meter:
        start_ns = card.load()
        card.wait(int(0.4 / step_s))
        stop_ns = monotonic_ns()
    card.require_a_machine_that_keeps_up()
    energy = meter.energy(start_ns, stop_ns)
    true_j = load_w * (stop_ns - start_ns) / 1e9
    assert energy.device_j == pytest.approx(true_j, abs=0.03 * true_j + card.late_j())
    assert energy.method == "nvml_total_energy"
    assert energy.unavailable_because is None
    assert energy.update_period_s == pytest.approx(step_s, abs=step_s / 2 + card.late_s)
    assert energy.uncertainty_j is not None
    assert energy.device_j is not None
    assert abs(energy.device_j - true_j) <= energy.uncertainty_j + card.late_j()


def test_the_energy_is_that_of_the_window_and_not_of_the_whole_following() -> None:
    card = Card(0.02, idle_w=50.0, load_w=500.0)
    with following(card) as meter:
        card.wait(5)
        start_ns = card.load()
        card.wait(10)
        stop_ns = monotonic_ns()
        card.wait(5)
    card.require_a_machine_that_keeps_up()
    energy = meter.energy(start_ns, stop_ns)
    true_j = 500.0 * (stop_ns - start_ns) / 1e9
    assert energy.device_j == pytest.approx(true_j, abs=0.05 * true_j + card.late_j())


def test_the_display_sees_energy_grow_and_never_a_guess_before_the_first_step() -> None:
    card = Card(0.02, idle_w=100.0, load_w=100.0)
    with following(card) as meter:
        start_ns = monotonic_ns()
        seen = []
        for _ in range(4):
            card.wait(2)
            if (joules := meter.since_j(start_ns)) is not None:
                seen.append(joules)
        assert meter.since_j(monotonic_ns() + 10**12) is None
    assert seen == sorted(seen)
    assert seen[-1] > 0


# ---- counters that cannot be trusted


class Script:
    """A counter that gives one prepared value per reading, then the last for ever."""

    def __init__(self, values: Sequence[int | CounterError]) -> None:
        self._values = iter([*values, values[-1]])
        self._last: int | CounterError = values[0]
        self._done = threading.Event()

    def __call__(self) -> int:
        try:
            self._last = next(self._values)
        except StopIteration:
            self._done.set()
        if isinstance(self._last, CounterError):
            self._done.set()
            raise self._last
        return self._last

    def played(self) -> None:
        assert self._done.wait(PATIENCE_S)


def measured(values: Sequence[int | CounterError]) -> Energy:
    script = Script(values)
    start_ns = monotonic_ns()
    with following(script) as meter:
        script.played()
        return meter.energy(start_ns, monotonic_ns())


def assert_absent(energy: Energy, because: str) -> None:
    assert energy.unavailable_because is not None
    assert because in energy.unavailable_because
    assert energy.device_j is None
    assert energy.uncertainty_j is None
    assert energy.update_period_s is None
    assert energy.method is None


def test_a_counter_that_runs_backwards_gives_no_energy() -> None:
    assert_absent(measured([0, 100, 200, 300, 50, 150, 250]), "backwards")


def test_a_counter_that_starts_again_at_zero_gives_no_energy() -> None:
    assert_absent(measured([10**9, 10**9 + 100, 10**9 + 200, 0, 100, 200]), "backwards")


def test_a_counter_that_cannot_be_read_gives_no_energy_and_its_reason() -> None:
    assert_absent(measured([CounterError("NVML: not supported")]), "NVML: not supported")


def test_a_counter_that_fails_on_the_way_gives_no_energy_and_its_reason() -> None:
    assert_absent(measured([0, 100, 200, 300, 400, CounterError("NVML: GPU is lost")]), "NVML: GPU is lost")


def test_a_failed_counter_shows_nothing() -> None:
    script = Script([0, 100, 200, 300, CounterError("NVML: GPU is lost")])
    start_ns = monotonic_ns()
    with following(script) as meter:
        script.played()
    assert meter.since_j(start_ns) is None


@pytest.mark.parametrize("moves", range(1, MIN_STEPS))
def test_a_counter_that_moves_too_rarely_gives_no_energy(moves: int) -> None:
    assert_absent(measured([100 * i for i in range(moves + 1)] + [100 * moves] * 10), f"moved {moves} times")


def test_a_counter_that_stands_still_gives_no_energy() -> None:
    assert_absent(measured([12345] * 5), "moved 0 times")


def test_a_counter_that_stops_inside_the_window_gives_no_energy() -> None:
    assert_absent(measured([100 * i for i in range(6)] + [500] * 60), "")


def test_a_window_shorter_than_the_counters_steps_gives_no_energy() -> None:
    card = Card(0.02, idle_w=100.0, load_w=100.0)
    with following(card) as meter:
        start_ns = monotonic_ns()
        stop_ns = start_ns + 10**6
        card.wait(5)
    assert_absent(meter.energy(start_ns, stop_ns), f"{MIN_STEPS} are needed")


def test_a_window_that_is_empty_gives_no_energy() -> None:
    card = Card(0.02, idle_w=100.0, load_w=100.0)
    with following(card) as meter:
        card.wait(4)
        now_ns = monotonic_ns()
        assert_absent(meter.energy(now_ns, now_ns), "are needed")


def test_no_energy_is_never_zero() -> None:
    assert_absent(absent("no GPU"), "no GPU")


def test_stopping_twice_or_before_the_start_is_harmless() -> None:
    EnergyMeter(lambda: 0).stop()
    with following(Script([0, 1, 2])) as meter:
        meter.stop()


def test_the_meter_starts_just_after_a_step() -> None:
    card = Card(0.05, idle_w=100.0, load_w=100.0)
    with following(card):
        assert card.steps >= 1


def test_steps_are_noted_in_order_of_time() -> None:
    card = Card(0.02, idle_w=100.0, load_w=100.0)
    with following(card) as meter:
        marks = []
        for _ in range(5):
            marks.append(monotonic_ns())
            card.wait(3)
    card.require_a_machine_that_keeps_up()
    energies = [meter.energy(start, stop) for start, stop in pairwise(marks)]
    whole = meter.energy(marks[0], marks[-1])
    assert whole.device_j is not None
    parts = [energy.device_j for energy in energies if energy.device_j is not None]
    assert all(part > 0 for part in parts)
    assert all(part < whole.device_j for part in parts)
