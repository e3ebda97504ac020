"""Counters of the processor's energy: readable, closed, masked, or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kit.doctor.rapl import rapl


@pytest.fixture
def powercap() -> Iterator[Path]:
    """Two packages and a core domain, below folders that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        for zone, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "package-1")):
            place = Path(folder) / zone
            place.mkdir()
            (place / "name").write_text(f"{name}\n")
            (place / "energy_uj").write_text("123456\n")
        (Path(folder) / "intel-rapl").mkdir()
        yield Path(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root reads everything: its tests of permissions need somebody else."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_readable_counters_are_named(powercap: Path) -> None:
    (finding,) = rapl(powercap)
    assert finding.status == "ok"
    assert finding.found == "counters of package-0, core, package-1"


def test_closed_counters_come_with_the_owners_two_ways_to_open_them(powercap: Path) -> None:
    for file in powercap.glob("*/energy_uj"):
        file.chmod(0)
    with as_nobody():
        (finding,) = rapl(powercap)
    assert finding.status == "missing"
    assert "3 of 3 counters cannot be read (intel-rapl:0: Permission denied)" in finding.found
    assert finding.advice is not None
    assert f"chmod a+r {powercap}/intel-rapl:*/energy_uj" in finding.advice
    assert 'SUBSYSTEM=="powercap"' in finding.advice


def test_counters_that_are_readable_in_part_are_a_warning(powercap: Path) -> None:
    (powercap / "intel-rapl:0:0" / "energy_uj").chmod(0)
    with as_nobody():
        (finding,) = rapl(powercap)
    assert finding.status == "warning"
    assert "1 of 3 counters cannot be read (intel-rapl:0:0: Permission denied)" in finding.found


def test_counters_that_a_container_masks_are_told_apart_from_closed_ones(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked")
    (finding,) = rapl(tmp_path)
    assert finding.status == "missing"
    assert "No such file or directory" in finding.found
    assert finding.advice is not None
    assert "bind-mount" in finding.advice


def test_a_counter_that_holds_no_number_is_not_taken_for_one(powercap: Path) -> None:
    (powercap / "intel-rapl:1" / "energy_uj").write_text("\n")
    (finding,) = rapl(powercap)
    assert finding.status == "warning"


@pytest.mark.parametrize(
    ("flags", "found"),
    [("flags : fpu hypervisor sse", "a virtual machine without counters"), ("flags : fpu sse", "no counters in ")],
)
def test_a_virtual_machine_is_told_apart_from_a_driver_that_is_not_loaded(
    flags: str, found: str, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name : a processor\n{flags}\n")
    (finding,) = rapl(tmp_path / "nothing", cpuinfo=tmp_path / "cpuinfo")
    assert finding.status == "missing"
    assert finding.found.startswith(found)
