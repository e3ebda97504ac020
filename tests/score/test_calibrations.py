"""Calibrations around the runs: what was begun is ended, by whichever call comes next."""

from collections.abc import Callable
from pathlib import Path

import pytest
from profiles import make_profile
from records import found, make_entry

from kit.analysis.board import Row, make_board
from kit.analysis.material import Material, read_material
from kit.errors import KitError
from kit.hardware.profile import Profile
from kit.results.record import Record
from kit.results.store import write_record
from kit.score.calibration import Calibrations


def machine(*speeds: float | None, first: int = 0) -> Callable[[str], Profile]:
    """Calibrations of a machine: so slow at each call; None is too busy to be measured."""
    left = list(enumerate(speeds, start=first))

    def calibrate(device: str) -> Profile:
        number, slow = left.pop(0)
        if slow is None:
            raise KitError("the machine is too busy")
        return make_profile(slow=slow, id=f"20261124T12000{number}Z-made-abcdef")

    return calibrate


def write(run_dir: Path, record: Record) -> None:
    run_dir.mkdir(parents=True)
    write_record(record, run_dir)


def row(results: Path, calibration: str | None) -> Row:
    """The only entry of a board whose runs were made after a profile."""
    records = make_entry(1.0, 1.1, official={"calibration": calibration})
    drifts = read_material(results).drifts
    (table,) = make_board(Material(found(records), (), drifts)).tables
    (row,) = table.rows
    return row


@pytest.mark.parametrize(("after", "verdict", "flags"), [(1.0, "steady", ()), (1.3, "drifted", ("drifted",))])
def test_a_board_says_whether_the_machine_changed(
    tmp_path: Path, after: float, verdict: str, flags: tuple[str, ...]
) -> None:
    said: list[str] = []
    calibrations = Calibrations(tmp_path, "cpu", machine(1.0, after), said.append)
    before = calibrations.measure()
    assert row(tmp_path, before).calibration == "open"
    calibrations.measure()
    assert row(tmp_path, before).calibration == verdict
    assert row(tmp_path, before).flags == flags
    assert any(f"the machine since the calibration before: {verdict}" in line for line in said)


def test_runs_without_calibration_are_said_to_have_none(tmp_path: Path) -> None:
    assert row(tmp_path, None).calibration == "none"


def test_what_a_killed_scoring_began_is_ended_by_the_next_calibration(tmp_path: Path) -> None:
    killed = Calibrations(tmp_path, "cpu", machine(1.0), lambda line: None).measure()
    later = Calibrations(tmp_path, "cpu", machine(1.0, first=1), lambda line: None)
    assert later.awaits({killed})
    later.measure()
    assert not later.awaits({killed})
    assert row(tmp_path, killed).calibration == "steady"


def test_a_profile_is_compared_with_the_one_that_follows_it_and_no_later_one(tmp_path: Path) -> None:
    calibrations = Calibrations(tmp_path, "cpu", machine(1.0, 1.0, 1.5), lambda line: None)
    first = calibrations.measure()
    second = calibrations.measure()
    calibrations.measure()
    assert row(tmp_path, first).calibration == "steady"
    assert row(tmp_path, second).calibration == "drifted"


def test_a_machine_that_is_too_busy_leaves_what_was_begun_open(tmp_path: Path) -> None:
    calibrations = Calibrations(tmp_path, "cpu", machine(1.0, None), lambda line: None)
    before = calibrations.measure()
    with pytest.raises(KitError, match="too busy"):
        calibrations.measure()
    assert row(tmp_path, before).calibration == "open"


def test_a_damaged_profile_or_drift_is_named_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    calibrations = Calibrations(tmp_path, "cpu", machine(1.0, 1.0), said.append)
    before = calibrations.measure()
    (tmp_path / "calibration" / "20250101T000000Z-old-abcdef.json").write_text("{")
    calibrations.measure()
    assert any("20250101T000000Z-old-abcdef.json: not a device profile" in line for line in said)
    (tmp_path / "calibration" / f"{before}.drift.json").write_text('{"old": 1}')
    (left_out,) = read_material(tmp_path).unreadable
    assert left_out.file == f"calibration/{before}.drift.json"


def test_a_drift_in_a_folder_of_somebody_elses_says_nothing_of_this_machine(tmp_path: Path) -> None:
    """Ids are no secret: who could name another's profile could flag its runs, or hide that its machine drifted."""
    calibrations = Calibrations(tmp_path, "cpu", machine(1.0, 1.3), lambda line: None)
    before = calibrations.measure()
    calibrations.measure()
    drift = tmp_path / "calibration" / f"{before}.drift.json"
    strangers = tmp_path / "z" / "calibration"
    strangers.mkdir(parents=True)
    steady = drift.read_text().replace('"verdict": "drifted"', '"verdict": "steady"')
    (strangers / drift.name).write_text(steady)
    write(tmp_path / "z" / "run", make_entry(1.0, name="stranger")[0])
    (drift.parent / "z.drift.json").write_text(steady)
    (left_out,) = read_material(tmp_path).unreadable
    assert (left_out.file, before in left_out.because) == ("calibration/z.drift.json", True)
    assert row(tmp_path, before).calibration == "drifted"
