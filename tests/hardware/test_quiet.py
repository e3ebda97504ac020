"""Who disturbs: the arithmetic, with readings that the tests make up."""

import time
from pathlib import Path

import pytest

from kit.hardware.calibration.quiet import Reading, Use, Watch, busy_ticks, cpu_reader


@pytest.mark.parametrize(
    ("wall_s", "foreign_s", "cores", "disturbing"),
    [
        (0.5, 0.0, 2, False),
        (0.5, 0.03, 2, False),  # within the resolution of the counters
        (0.5, 0.05, 2, True),
        (10.0, 0.3, 2, False),  # 3 % of a core
        (10.0, 0.6, 2, True),
        (10.0, 0.6, 64, False),  # 6 % of a core, of 64
        (10.0, 9.9, 64, True),
    ],
)
def test_others_disturb_above_a_share(wall_s: float, foreign_s: float, cores: int, disturbing: bool) -> None:
    assert Use(wall_s, foreign_s, gpu_processes=0, cores=cores).disturbing is disturbing


def test_another_process_on_the_gpu_always_disturbs() -> None:
    assert Use(1.0, 0.0, gpu_processes=1, cores=2).disturbing


def test_idle_and_waiting_are_no_work_and_stolen_time_is() -> None:
    assert (
        busy_ticks([1, 20, 300, 4000, 50000, 600000, 7000000, 80000000]) == 1 + 20 + 300 + 600000 + 7000000 + 80000000
    )


def test_what_this_process_does_is_not_others_work(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  1000 0 0 5000 0 0 0 0 0 0\ncpu0 1000 0 0 5000 0 0 0 0 0 0\n")
    read = cpu_reader(stat=stat)
    before, begun_s = read(), time.process_time()
    while time.process_time() - begun_s < 0.05:
        pass
    after = read()
    assert after.foreign_s - before.foreign_s <= -0.05
    stat.write_text("cpu  1100 0 0 5000 0 0 0 0 0 0\n")
    assert read().foreign_s - after.foreign_s == pytest.approx(100 / _ticks_per_s(), abs=0.1)


def _ticks_per_s() -> int:
    import os

    return os.sysconf("SC_CLK_TCK")


def _watch(foreign_cores: list[float]) -> Watch:
    """Others use so many cores in each interval between readings, then the last for ever."""
    at = [Reading(0.0, 0.0)]

    def read() -> Reading:
        return at[-1]

    def sleep(seconds: float) -> None:
        cores = foreign_cores[min(len(at) - 1, len(foreign_cores) - 1)]
        at.append(Reading(at[-1].at_s + seconds, at[-1].foreign_s + cores * seconds))

    return Watch(read, cores=2, sleep=sleep)


def test_waiting_ends_when_it_is_quiet() -> None:
    watch = _watch([1.0, 1.0, 0.0])
    assert watch.wait_for_quiet(60)
    assert watch.read().at_s == pytest.approx(0.6)


def test_waiting_ends_when_patience_does() -> None:
    watch = _watch([1.0])
    assert not watch.wait_for_quiet(3)
    assert watch.read().at_s == pytest.approx(3, abs=0.3)


def test_counters_that_run_behind_are_no_negative_use() -> None:
    watch = Watch(lambda: Reading(1.0, 4.99), cores=2)
    assert watch.since(Reading(0.0, 5.0)).foreign_s == 0


def test_a_process_seen_at_either_end_of_a_stretch_was_there() -> None:
    watch = Watch(lambda: Reading(1.0, 0.0, gpu_processes=0), cores=2)
    assert watch.since(Reading(0.0, 0.0, gpu_processes=1)).gpu_processes == 1
