"""The timing engine on a clock that the test winds: no time passes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.hardware.calibration.quiet import Reading, Watch
from kit.hardware.calibration.timing import Engine, Stopwatch, Task, Timings, quantile


class World:
    """A clock, and others who use the machine while `busy` says so."""

    def __init__(self, busy: Callable[[float], bool] = lambda _: False) -> None:
        self.now_s = 0.0
        self.foreign_s = 0.0
        self.order: list[str] = []
        self._busy = busy

    def now(self) -> float:
        return self.now_s

    def passes(self, seconds: float) -> None:
        """Time; in steps, so that others come and go."""
        while seconds > 0:
            step = min(0.01, seconds)
            if self._busy(self.now_s):
                self.foreign_s += step
            self.now_s += step
            seconds -= step

    def read(self) -> Reading:
        return Reading(at_s=self.now_s, foreign_s=self.foreign_s)

    def task(self, name: str, seconds: Callable[[], float]) -> Task:
        def call() -> None:
            if not self.order or self.order[-1] != name:
                self.order.append(name)
            self.passes(seconds() * (3 if self._busy(self.now_s) else 1))

        return Task(name, call)

    def engine(self, *, patience_s: float = 0.0) -> Engine:
        watch = Watch(self.read, cores=1, sleep=self.passes)
        return Engine(Stopwatch(timing_s=0.001, now=self.now), watch, patience_s=patience_s)


def test_a_task_is_timed_per_call() -> None:
    world = World()
    tasks = [world.task("short", lambda: 1e-5), world.task("long", lambda: 0.1)]
    engine = world.engine()
    assert engine.measure(tasks, ends_s=60, rounds=3) == 3
    assert [engine.timings[task].seconds for task in tasks] == pytest.approx([1e-5, 0.1])
    assert [len(engine.timings[task].clean) for task in tasks] == [3, 3]


def test_every_task_has_its_turn_in_every_round() -> None:
    world = World()
    tasks = [world.task(name, lambda: 0.002) for name in ("a one", "a two", "b one", "b two")]
    world.engine().measure(tasks, ends_s=60, rounds=3)
    assert world.order == ["a one", "a two", "b one", "b two"] * 3


def test_a_task_runs_in_its_setting() -> None:
    world = World()
    inside: list[bool] = [False]
    seen: list[bool] = []

    @contextmanager
    def setting() -> Iterator[None]:
        inside[0] = True
        yield
        inside[0] = False

    def call() -> None:
        seen.append(inside[0])
        world.passes(0.01)

    world.engine().measure([Task("made", call, setting)], ends_s=60, rounds=1)
    assert seen
    assert all(seen)
    assert not inside[0]


def test_no_further_round_begins_when_the_time_is_up() -> None:
    world = World()
    tasks = [world.task(str(number), lambda: 0.05) for number in range(10)]
    engine = world.engine()
    done = engine.measure(tasks, ends_s=5, rounds=100)
    assert 1 < done < 10
    assert world.now_s < 5 + 1.5  # the stretch that was going on is finished


def test_what_there_was_no_time_for_has_no_timings() -> None:
    world = World()
    tasks = [world.task(str(number), lambda: 0.5) for number in range(9)]
    engine = world.engine()
    assert engine.measure(tasks, ends_s=5, rounds=9) == 0
    slots = [len(engine.timings[task].slots) for task in tasks]
    assert slots == sorted(slots, reverse=True)
    assert set(slots) == {0, 1}


def test_a_disturbed_stretch_is_measured_again_when_it_is_quiet() -> None:
    world = World(busy=lambda now_s: now_s < 2)
    task = world.task("made", lambda: 0.01)
    engine = world.engine(patience_s=30)
    engine.measure([task], ends_s=60, rounds=1)
    timings = engine.timings[task]
    assert timings.clean == pytest.approx([0.01])
    assert timings.disturbed == pytest.approx([0.03])
    assert timings.seconds == pytest.approx(0.01)


def test_waiting_for_quiet_ends_with_the_patience() -> None:
    world = World(busy=lambda _: True)
    tasks = [world.task(str(number), lambda: 0.05) for number in range(20)]
    engine = world.engine(patience_s=3)
    engine.measure(tasks, ends_s=60, rounds=1)
    assert all(not engine.timings[task].clean and engine.timings[task].disturbed for task in tasks)
    assert world.now_s < 3 + 20 * 0.05 * 3 * 5 + 3
    assert all(use.disturbing for use in engine.uses)


def test_rare_stalls_do_not_show() -> None:
    world = World()
    calls = iter(range(10**9))
    task = world.task("made", lambda: 0.5 if next(calls) % 5 == 4 else 0.001)
    engine = world.engine()
    engine.measure([task], ends_s=60, rounds=5)
    assert engine.timings[task].seconds == pytest.approx(0.001)


def test_a_slot_of_something_slow_stays_short() -> None:
    world = World()
    task = world.task("made", lambda: 1.0)
    Stopwatch(timing_s=0.001, now=world.now).time(task)
    assert world.now_s < 3.5  # a first call, one to see how many are enough, one timing


def test_clean_slots_count_and_disturbed_ones_only_where_there_are_no_others() -> None:
    assert Timings(clean=[2.0, 2.0, 2.0], disturbed=[1.0]).seconds == 2
    assert Timings(disturbed=[3.0, 3.0, 3.0]).seconds == 3


def test_few_slots_claim_no_small_spread() -> None:
    assert Timings(clean=[1.0]).spread == 0.25
    assert Timings(clean=[1.0, 2.0]).spread == pytest.approx(1 / 1.25)
    assert Timings(clean=[1.0, 1.0, 1.0]).spread == 0.03


@given(slots=st.lists(st.floats(min_value=1e-6, max_value=1), min_size=1, max_size=12))
def test_seconds_lie_among_the_slots_and_spread_reaches_the_lowest_and_the_middle(slots: list[float]) -> None:
    timings = Timings(clean=slots)
    assert min(slots) <= timings.seconds <= max(slots)
    assert timings.seconds * (1 - timings.spread) <= min(slots) * (1 + 1e-9) or len(slots) < 3
    assert timings.spread > 0


@given(values=st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=30), share=st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float) -> None:
    import numpy as np

    assert quantile(values, share) == pytest.approx(float(np.quantile(values, share)), abs=1e-6)
