"""Boards by the time on a reference device: every time says how it was got, and only those that may be ranked are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from profiles import make_profile
from records import found, make_entry, make_official, make_record

from kit.analysis.board import Board, Row, make_board
from kit.analysis.material import CALIBRATION_DIR, Material, read_material
from kit.analysis.on_reference import ReferenceTimes, read_reference_times
from kit.analysis.reference import ReferenceDevice, load_reference, opened
from kit.errors import KitError
from kit.hardware.profile import Profile, WorkloadTime, write_profile
from kit.results.record import Device, Flops, OperatorFlops, Progress, Record, Time
from kit.results.signing import Verification
from kit.results.store import write_record

OPERATORS = (
    OperatorFlops(
        operator_class="gemm", dtype="float32", phase="training", calls=3, flops_per_call=1e6, bytes_per_call=1e4
    ),
)
COUNTED = Flops(method="replay", train_total=10**12, operators=OPERATORS, trusted=True)


def gpu(name: str) -> Device:
    return Device(type="cuda", name=name, count=1, threads=None, uuid_hash="0" * 64, driver="580", power_limit_w=700.0)


def profile_of(device: Device, *, slow: float, off: float = 1.0) -> Profile:
    """A device with six reference workloads; from one to the next its times are off by a factor."""
    workloads = tuple(
        WorkloadTime(
            name=f"workload_{number}",
            dtype="float32",
            compiled=False,
            step_s=0.01 * slow * off**number,
            spread=0.02,
            operators=OPERATORS,
        )
        for number in range(6)
    )
    return make_profile(id=f"of-{slow:g}", device=device, slow=slow, workloads=workloads)


HERE, THERE = gpu("Here"), gpu("There")
OWN, OTHER = profile_of(HERE, slow=1), profile_of(THERE, slow=0.5)
REFERENCE = ReferenceDevice(name="there", spec=None, profile=OTHER)


def board_of(
    *entries: Sequence[Record], reference: ReferenceDevice = REFERENCE, own: Profile | None = OWN, by: Any = "reference"
) -> Board:
    records = [record for entry in entries for record in entry]
    by_id = {record.id: record for record in records}
    runs = found(records)
    on = ReferenceTimes(reference, runs, lambda run: by_id[run.result.id], lambda _: own)
    return make_board(Material(runs), by, on=on)


def rows(board: Board) -> dict[str, Row]:
    (table,) = board.tables
    return {row.entry.submission: row for row in table.rows}


def median_s(row: Row) -> float | None:
    assert row.on_reference is not None
    assert row.on_reference.time_s.median is not None
    return row.on_reference.time_s.median.value


def test_measured_and_predicted_times_are_ranked_together_with_their_intervals() -> None:
    board = board_of(
        make_entry(1.0, 1.1, 1.2, name="there", device=THERE, flops=COUNTED),
        make_entry(3.0, 3.1, 3.2, name="here", device=HERE, flops=COUNTED),
        make_entry(1.0, 1.1, 1.2, name="fast", device=HERE, flops=COUNTED),
    )
    found = rows(board)
    assert board.reference == "there"
    assert [(name, row.rank) for name, row in found.items()] == [("fast", 1), ("there", 2), ("here", 3)]
    assert {name: row.on_reference.tier for name, row in found.items() if row.on_reference is not None} == {
        "fast": "predicted",
        "there": "measured",
        "here": "predicted",
    }
    assert median_s(found["here"]) == pytest.approx(3.1 * 0.5)
    interval = found["here"].measure("reference").median
    assert interval is not None
    assert interval.interval is not None
    assert interval.interval.low == pytest.approx(3.0 * 0.5, rel=0.02)
    assert interval.interval.high == pytest.approx(3.2 * 0.5, rel=0.02)


def test_the_error_of_a_prediction_widens_the_interval() -> None:
    rough = ReferenceDevice(name="there", spec=None, profile=profile_of(THERE, slow=0.5, off=1.05))
    entry = make_entry(3.0, 3.1, 3.2, device=HERE, flops=COUNTED)
    exact, wide = (
        rows(board_of(entry, reference=reference))["made"].measure("reference").median
        for reference in (REFERENCE, rough)
    )
    assert exact is not None
    assert wide is not None
    assert exact.interval is not None
    assert wide.interval is not None
    assert (wide.interval.high or 0) / (wide.interval.low or 1) > (exact.interval.high or 0) / (exact.interval.low or 1)


def test_without_an_interval_a_time_is_not_ranked_among_those_of_another_method() -> None:
    board = board_of(
        make_entry(1.0, name="once", device=THERE),
        make_entry(3.0, 3.1, name="here", device=HERE, flops=COUNTED),
    )
    once, here = rows(board)["once"], rows(board)["here"]
    assert (once.rank, here.rank) == (None, 1)
    assert "not ranked among times of another method" in (once.unranked_because or "")
    alone = rows(board_of(make_entry(1.0, name="once", device=THERE), make_entry(2.0, name="twice", device=THERE)))
    assert [row.rank for row in alone.values()] == [1, 2]


H200 = opened(load_reference("h200"))


def test_times_by_specifications_are_shown_and_never_ranked() -> None:
    board = board_of(
        make_entry(1.0, 2.0, name="a100", device=gpu("NVIDIA A100-SXM4-40GB")),
        make_entry(9.0, 9.1, name="h200", device=gpu("NVIDIA H200")),
        reference=H200,
        own=None,
    )
    found = rows(board)
    assert list(found) == ["h200", "a100"]
    assert (found["h200"].rank, found["a100"].rank) == (1, None)
    assert "indicative, and never ranked" in (found["a100"].unranked_because or "")
    assert found["a100"].on_reference is not None
    assert found["a100"].on_reference.tier == "spec"


def test_without_a_profile_and_without_runs_on_the_reference_there_is_nothing_to_rank() -> None:
    with pytest.raises(KitError, match=r"reference h200 has no measured profile .* --reference FILE\.json"):
        board_of(make_entry(1.0, device=gpu("NVIDIA A100-SXM4-40GB")), reference=H200, own=None)


def test_a_part_that_was_run_again_on_the_reference_makes_a_time_measured() -> None:
    def progress(step_s: float) -> tuple[Progress, ...]:
        return tuple(Progress(optimizer_steps=2**power, elapsed_s=step_s * 2**power) for power in range(8))

    entry = make_entry(1.0, 2.0, 3.0, name="mine", device=HERE, progress=progress(0.01))
    again = entry[0].model_copy(
        update={
            "id": "again",
            "device": THERE,
            "progress": progress(0.004),
            "outcome": "partial",
            "max_steps": 128,
            "official": None,
        }
    )
    row = rows(board_of(entry, [again], own=None))["mine"]
    assert row.on_reference is not None
    assert (row.on_reference.tier, row.rank) == ("measured", 1)
    assert "re-run as again" in (row.on_reference.basis or "")
    assert median_s(row) == pytest.approx(2.0 * 0.4)
    assert row.entry.runs == 3


ALICE, MALLORY, NOBODY = (
    Verification(state="valid", public_key=f"ed25519:{'A' * 43}="),
    Verification(state="valid", public_key=f"ed25519:{'M' * 43}="),
    Verification(state="missing"),
)


def again(entry: Sequence[Record], **differently: Any) -> Record:
    """The middle run of an entry made again on the reference device, at a time too good to be true."""
    time = Time(to_target_s=1e-3, total_s=1.0, setup_s=0.0, evaluation_s=0.0)
    return entry[1].model_copy(update={"id": "again", "device": THERE, "time": time, "official": None} | differently)


def tier(entry: Sequence[Record], rerun: Record, signature: Verification, reruns: Verification) -> str | None:
    """How the entry's time on the reference is got, with these signatures of its runs and of its re-run."""
    runs = [*found(entry, signature), *found([rerun], reruns)]
    by_id = {record.id: record for record in (*entry, rerun)}
    on = ReferenceTimes(REFERENCE, runs, lambda run: by_id[run.result.id], lambda _: OWN)
    row = rows(make_board(Material(runs), "reference", on=on))[entry[0].submission.name]
    assert row.on_reference is not None
    return row.on_reference.tier


@pytest.mark.parametrize(
    ("signature", "reruns", "expected"),
    [
        (ALICE, ALICE, "measured"),
        (ALICE, MALLORY, "predicted"),
        (ALICE, NOBODY, "predicted"),
        (ALICE, Verification(state="invalid", because="changed"), "predicted"),
        (NOBODY, NOBODY, "measured"),
        (NOBODY, Verification(state="invalid", because="changed"), "predicted"),
    ],
)
def test_a_re_run_counts_if_who_vouches_for_the_runs_vouches_for_it(
    signature: Verification, reruns: Verification, expected: str
) -> None:
    entry = make_entry(1.0, 2.0, 3.0, name="mine", device=HERE, flops=COUNTED)
    assert tier(entry, again(entry), signature, reruns) == expected


@pytest.mark.parametrize("differently", [{"target": 0.1}, {"metric": "top5"}, {"rehearsal": True}])
def test_a_re_run_of_an_easier_race_is_none(differently: dict[str, Any]) -> None:
    entry = make_entry(1.0, 2.0, 3.0, name="mine", device=HERE, flops=COUNTED)
    rerun = again(entry, track=entry[0].track.model_copy(update=differently))
    assert tier(entry, rerun, NOBODY, NOBODY) == "predicted"


def test_one_whole_re_run_says_nothing_of_its_own_spread() -> None:
    entry = make_entry(1.0, 2.0, 3.0, name="mine", device=HERE, flops=COUNTED)
    row = rows(board_of(entry, [again(entry)]))["mine"]
    median = row.measure("reference").median
    assert median is not None
    assert median.value == pytest.approx(1e-3)
    assert median.interval is None


def test_a_time_that_cannot_be_had_leaves_a_reason() -> None:
    missed = make_entry(None, None, 1.0, name="misses", device=HERE, flops=COUNTED)
    uncounted = make_entry(1.0, name="uncounted", device=HERE, flops=Flops(method="pending"))
    found = rows(board_of(missed, uncounted))
    assert [row.rank for row in found.values()] == [None, None]
    assert "missed the target" in (found["misses"].unranked_because or "")
    assert "needs its operations: not counted" in (found["uncounted"].unranked_because or "")


def test_boards_as_measured_say_nothing_of_a_reference() -> None:
    board = make_board(Material(found(make_entry(1.0))))
    assert board.reference is None
    assert rows(board)["made"].on_reference is None


# ---- from a folder


def write(results: Path, records: Sequence[Record]) -> None:
    for record in records:
        (results / record.id).mkdir(parents=True)
        write_record(record, results / record.id)


def test_the_profile_of_a_run_is_the_one_that_was_measured_beside_it(tmp_path: Path) -> None:
    official = {"calibration": OWN.id}
    write(tmp_path / "spring", make_entry(2.0, 2.0, device=HERE, flops=COUNTED, official=official))
    write_profile(OWN, tmp_path / "spring" / CALIBRATION_DIR / f"{OWN.id}.json")
    reference = write_profile(OTHER, tmp_path / "there.json")
    material = read_material(tmp_path)
    on = read_reference_times(tmp_path, str(reference), material)
    row = rows(make_board(material, "reference", on=on))["made"]
    assert row.rank == 1
    assert median_s(row) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "gone", ""])
def test_a_profile_is_looked_for_nowhere_else(tmp_path: Path, name: str) -> None:
    record = make_record(device=HERE, flops=COUNTED, official=make_official(calibration=name))
    write(tmp_path / "results", [record])
    write_profile(OWN, tmp_path / "results" / "elsewhere.json")
    reference = write_profile(OTHER, tmp_path / "there.json")
    material = read_material(tmp_path / "results")
    on = read_reference_times(tmp_path / "results", str(reference), material)
    row = rows(make_board(material, "reference", on=on))["made"]
    assert row.rank is None
    assert row.unranked_because is not None
