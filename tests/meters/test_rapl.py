"""RAPL, on a folder that looks like the kernel's."""

import os
import threading
from pathlib import Path
from time import monotonic_ns

import pytest

from kit.meters.rapl import RaplMeter

RANGE_UJ = 262_143_328_850
PATIENCE_S = 20.0


class Machine:
    """A powercap folder whose counters a test moves."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def zone(self, folder: str, name: str, uj: int = 0, range_uj: int = RANGE_UJ) -> None:
        (self.root / folder).mkdir(parents=True)
        (self.root / folder / "name").write_text(f"{name}\n")
        (self.root / folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self.set(folder, uj)

    def set(self, folder: str, uj: int) -> None:
        partial = self.root / folder / ".partial"
        partial.write_text(f"{uj}\n")
        partial.replace(self.root / folder / "energy_uj")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "powercap")


def measured(machine: Machine, *moves: dict[str, int]) -> tuple[float | None, str | None]:
    """A window in which the counters take these values, each of which is seen."""
    meter = RaplMeter(machine.root)
    seen = Readings(meter)
    meter.start()
    seen.wait()
    start_ns = monotonic_ns()
    seen.wait()
    for move in moves:
        for folder, uj in move.items():
            machine.set(folder, uj)
        seen.wait()
    stop_ns = monotonic_ns()
    seen.wait()
    meter.stop()
    return meter.energy_j(start_ns, stop_ns)


class Readings:
    """Waits for the meter to have read twice more: once may have begun before."""

    def __init__(self, meter: RaplMeter) -> None:
        self._meter = meter

    def wait(self) -> None:
        rows, waited = self._meter.rows, threading.Event()
        for _ in range(int(PATIENCE_S / 0.005)):
            if self._meter.rows >= rows + 2 or self._meter.energy_j(0, 0)[1] not in (None, NOT_READ):
                return
            waited.wait(0.005)
        raise AssertionError("the meter does not read")


NOT_READ = "RAPL: the counters were not read from before the window until after it"


def test_the_packages_are_added_up(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0", 5_000_000)
    machine.zone("intel-rapl:1", "package-1", 9_000_000)
    joules, reason = measured(machine, {"intel-rapl:0": 7_000_000}, {"intel-rapl:1": 12_000_000})
    assert reason is None
    assert joules == pytest.approx(5.0, abs=1e-6)


def test_what_contains_or_repeats_a_package_is_not_added_to_it(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0")
    machine.zone("intel-rapl:0:0", "core")
    machine.zone("intel-rapl:0:1", "dram")
    machine.zone("intel-rapl:1", "psys")
    machine.zone("intel-rapl-mmio:0", "package-0")
    others = ["intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl-mmio:0"]
    joules, _ = measured(machine, {"intel-rapl:0": 1_000_000} | dict.fromkeys(others, 50_000_000))
    assert joules == pytest.approx(1.0, abs=1e-6)


def test_a_counter_that_wraps_around_goes_on(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0", RANGE_UJ - 400_000)
    joules, reason = measured(machine, {"intel-rapl:0": 599_999})
    assert reason is None
    assert joules == pytest.approx(1.0, abs=1e-6)


def test_a_counter_that_starts_again_gives_no_energy(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0", 200_000_000_000)
    joules, reason = measured(machine, {"intel-rapl:0": 0})
    assert joules is None
    assert reason == "RAPL: the counter of intel-rapl:0 jumped"


def test_a_machine_without_packages_says_so(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "psys")
    joules, reason = RaplMeter(machine.root).energy_j(0, 1)
    assert joules is None
    assert reason is not None
    assert "shows no CPU package" in reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_counters_for_root_alone_are_absent_with_the_remedy(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0")
    (machine.root / "intel-rapl:0" / "energy_uj").chmod(0)
    joules, reason = RaplMeter(machine.root).energy_j(0, 1)
    assert joules is None
    assert reason is not None
    assert "chmod a+r" in reason


def test_a_counter_that_vanishes_on_the_way_gives_no_energy(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0")
    meter = RaplMeter(machine.root)
    seen = Readings(meter)
    meter.start()
    seen.wait()
    start_ns = monotonic_ns()
    (machine.root / "intel-rapl:0" / "energy_uj").unlink()
    seen.wait()
    meter.stop()
    joules, reason = meter.energy_j(start_ns, monotonic_ns())
    assert joules is None
    assert reason is not None
    assert "No such file" in reason


def test_a_window_that_was_not_followed_gives_no_energy(machine: Machine) -> None:
    machine.zone("intel-rapl:0", "package-0")
    assert RaplMeter(machine.root).energy_j(0, 1) == (None, NOT_READ)
