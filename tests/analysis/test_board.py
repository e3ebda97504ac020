"""Boards: pure functions of records; machines are never mixed, and nothing is left out silently."""

import random
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import found, make_entry, make_official, make_record

from kit.analysis.board import Board, By, Filters, Row, Table, make_board
from kit.analysis.material import FoundRun, Material, read_material
from kit.analysis.result import result_of
from kit.errors import KitError
from kit.results.record import Cost, Energy, Flops, Isolation, Record
from kit.results.signing import Verification
from kit.results.store import write_record

MINE, THEIRS = f"ed25519:{'M' * 43}=", f"ed25519:{'T' * 43}="
UNSIGNED = Verification(state="missing")


def board_of(*entries: Sequence[Record], by: By = "time", **how: Any) -> Board:
    return make_board(Material([run for entry in entries for run in found(entry)]), by, **how)


def only_table(board: Board) -> Table:
    (table,) = board.tables
    return table


def places(board: Board) -> list[tuple[str, int | None, bool]]:
    return [(row.entry.submission, row.rank, row.tied) for row in only_table(board).rows]


# ---- ranks


def test_the_smallest_median_leads_and_who_overlaps_it_is_tied() -> None:
    board = board_of(
        make_entry(5.0, 6.0, 7.0, name="slow"),
        make_entry(1.0, 2.0, 3.0, name="fast"),
        make_entry(2.5, 2.6, 4.0, name="near"),
        make_entry(None, None, 9.0, name="misses"),
    )
    assert places(board) == [("fast", 1, False), ("near", 2, True), ("slow", 3, False), ("misses", None, False)]


def test_equal_medians_share_a_rank() -> None:
    board = board_of(make_entry(1.0, name="b"), make_entry(1.0, name="a"), make_entry(2.0, name="c"))
    assert places(board) == [("a", 1, False), ("b", 1, True), ("c", 3, True)]


def test_without_anybody_who_reached_nobody_has_a_rank() -> None:
    board = board_of(make_entry(None, None, None, name="one"), make_entry(None, None, 1.0, name="two"))
    assert places(board) == [("two", None, False), ("one", None, False)]


ENERGY = Energy(
    device_j=None, method=None, update_period_s=None, uncertainty_j=None, unavailable_because="no GPU was used"
)


@pytest.mark.parametrize(
    ("by", "of_slow"),
    [
        ("energy", {"energy": ENERGY.model_copy(update={"device_j": 5.0, "unavailable_because": None})}),
        ("flops", {"flops": Flops(method="replay", train_total=5, evaluation_total=0, trusted=True)}),
        ("cost", {"cost": Cost(usd_per_hour=1, price_source="https://example.com", price_date=date(2026, 11, 1))}),
    ],
)
def test_who_is_slower_can_lead_by_another_quantity(by: By, of_slow: dict[str, Any]) -> None:
    none: dict[str, Any] = {"energy": ENERGY, "flops": Flops(method="absent"), "cost": None}
    slow = make_entry(5.0, 6.0, 7.0, name="slow", **none | of_slow)
    fast = make_entry(1.0, 2.0, 3.0, name="fast", **none)
    assert places(board_of(slow, fast, by=by)) == [("slow", 1, False), ("fast", None, False)]
    assert places(board_of(slow, fast))[0] == ("fast", 1, False)


# ---- what is not mixed


@pytest.mark.parametrize(
    "differently",
    [
        {"device": make_record().device.model_copy(update={"name": "another"})},
        {"device": make_record().device.model_copy(update={"cores": 64})},
        {"track": make_record().track.model_copy(update={"version": 2})},
        {"track": make_record().track.model_copy(update={"dataset_fingerprint": "0" * 64})},
        {"isolation": Isolation(mode="sandbox", defences=())},
    ],
    ids=["device", "cores", "version", "data", "seal"],
)
def test_what_cannot_be_compared_is_in_two_tables(differently: dict[str, Any]) -> None:
    board = board_of(make_entry(1.0, name="one"), make_entry(2.0, name="two", **differently))
    assert [[row.rank for row in table.rows] for table in board.tables] == [[1], [1]]


def test_loaders_race_in_one_table() -> None:
    board = board_of(make_entry(1.0, name="one", loader="torch"), make_entry(2.0, name="two", loader="dali"))
    assert [row.entry.loader for row in only_table(board).rows] == ["torch", "dali"]


def test_one_track_can_be_asked_for() -> None:
    other = make_record().track.model_copy(update={"name": "other"})
    entries = make_entry(1.0), make_entry(2.0, name="elsewhere", track=other)
    assert [table.track for table in board_of(*entries).tables] == ["made", "other"]
    assert [table.track for table in board_of(*entries, filters=Filters(track="other")).tables] == ["other"]
    assert not board_of(*entries, filters=Filters(track="nothing")).tables


# ---- what is left out, and why


def test_runs_of_nobodys_scoring_are_counted_and_not_ranked() -> None:
    board = board_of([make_record()], make_entry(1.0))
    assert board.unofficial == 1
    assert [row.entry.runs for row in only_table(board).rows] == [1]


def test_what_is_left_out_is_listed_with_its_reason() -> None:
    (run,) = make_entry(1.0)
    again = run.model_copy(update={"id": "20261124T130000Z-again", "started_at": run.started_at.replace(hour=13)})
    cancelled = make_entry(None, name="ended", outcome="cancelled", reason="ended from outside")[0]
    track = run.track.model_copy(update={"rehearsal": True})
    rehearsal = make_entry(1.0, name="rehearsed", track=track)[0]
    tampered = make_entry(1.0, name="tampered")[0]
    runs = [
        *found([run, again, cancelled, rehearsal]),
        *found([tampered], Verification(state="invalid", because="record.json was changed")),
        FoundRun("a-copy", result_of(run), UNSIGNED),
    ]
    board = make_board(Material(runs))
    reasons = {item.file.removesuffix("/record.json"): item.because for item in board.left_out}
    assert reasons == {
        "a-copy": f"the same run as {run.id}",
        again.id: f"the seed was run before, in {run.id}, and the first run counts",
        cancelled.id: "no result: ended from outside",
        rehearsal.id: "a rehearsal, on other data than the track's",
        tampered.id: "the signature does not hold: record.json was changed",
    }
    assert [row.entry.runs for row in only_table(board).rows] == [1]


def test_a_copy_takes_no_place_from_what_an_organizer_signed() -> None:
    """A folder that sorts first, with a record of the same id or the same seed and a better time, is no way in."""
    (run,) = make_entry(2.0)
    signed = found([run], Verification(state="valid", public_key=MINE))
    faster = run.model_copy(update={"time": run.time.model_copy(update={"to_target_s": 0.001})})
    earlier = faster.model_copy(update={"id": "0", "started_at": run.started_at.replace(year=2020)})
    copies = [FoundRun("0", result_of(faster), UNSIGNED), FoundRun("00", result_of(earlier), UNSIGNED)]
    board = make_board(Material([*copies, *signed]))
    (row,) = only_table(board).rows
    assert (row.entry.best_s, row.signed_runs, row.folders) == (2.0, 1, (run.id,))
    assert {item.file for item in board.left_out} == {"0/record.json", "00/record.json"}


def test_of_two_signers_the_one_whom_the_reader_names_comes_first() -> None:
    (run,) = make_entry(2.0)
    faster = run.model_copy(update={"time": run.time.model_copy(update={"to_target_s": 0.001}), "id": "0"})
    runs = [
        FoundRun(name, result_of(record), Verification(state="valid", public_key=key))
        for name, record, key in (("mine", run, MINE), ("earlier", faster, THEIRS))
    ]
    (row,) = only_table(make_board(Material(runs), names={MINE: "the organizer"})).rows
    assert (row.entry.best_s, row.signers[0].name) == (2.0, "the organizer")
    (row,) = only_table(make_board(Material(runs))).rows
    assert row.entry.best_s == 0.001


def test_entries_of_one_source_can_be_told_apart() -> None:
    configs = [
        run.model_copy(
            update={"id": str(lr), "submission": run.submission.model_copy(update={"config": {"lr": lr}}), "seed": 1}
        )
        for run in make_entry(2.0)
        for lr in (0.1, 0.2)
    ]
    table = only_table(board_of(configs, make_entry(3.0, name="other")))
    source = table.rows[0].entry.source_sha256[:8]
    assert table.labels == (f"made {source} (1)", f"made {source} (2)", "other")


def test_a_meter_that_read_nothing_ranks_nobody_first() -> None:
    def energy(device_j: float) -> Energy:
        return Energy(
            device_j=device_j,
            method="nvml_total_energy",
            update_period_s=None,
            uncertainty_j=None,
            unavailable_because=None,
        )

    board = board_of(
        make_entry(1.0, name="none", energy=energy(0.0)), make_entry(1.0, name="some", energy=energy(5.0)), by="energy"
    )
    ranks = {row.entry.submission: (row.rank, row.unranked_because) for row in only_table(board).rows}
    assert ranks == {"some": (1, None), "none": (None, "the meter read 0 J")}


def test_missing_seeds_are_flagged() -> None:
    (row,) = only_table(board_of(make_entry(1.0, 2.0, official={"seeds": 5}))).rows
    assert (row.entry.runs, row.entry.seeds, row.flags) == (2, 5, ("incomplete",))


def test_damaged_records_are_listed_and_break_nothing(tmp_path: Path) -> None:
    for record in make_entry(1.0, 2.0):
        (tmp_path / record.id).mkdir()
        write_record(record, tmp_path / record.id)
    for name, content in (
        ("half", b'{"schema_version": 1, "id"'),
        ("newer", b'{"schema_version": 99}'),
        ("empty", b""),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_bytes(content)
    (tmp_path / "going").mkdir()
    (tmp_path / "going" / "events.jsonl").write_text("")
    (tmp_path / "notes").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    board = make_board(read_material(tmp_path))
    assert [row.entry.runs for row in only_table(board).rows] == [2]
    assert {item.file: item.because.partition(":")[0].partition("(")[0].strip() for item in board.left_out} == {
        "half/record.json": "not a record",
        "newer/record.json": "record schema 99 is newer than this kit's",
        "empty/record.json": "not a record",
        "going/record.json": "there is no record here",
    }


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="there are no results here"):
        read_material(tmp_path / "nowhere")


# ---- other splits, and who signed


def row_with(*others: Sequence[Record]) -> Row:
    board = board_of(make_entry(1.0, 1.1, 1.2), *others)
    (row,) = only_table(board).rows
    return row


def elsewhere(split: str, *times_s: float | None, best: float = 0.1) -> list[Record]:
    """Runs of the same entry on other data, a new shuffle for each."""
    made = make_entry(*times_s, best=best, official={"split": split})
    return [
        record.model_copy(
            update={
                "id": f"{record.id}-{split}",
                "track": record.track.model_copy(update={"dataset_fingerprint": f"{index:064x}"}),
            }
        )
        for index, record in enumerate(made)
    ]


def test_runs_on_other_data_judge_the_entry_and_are_not_ranked() -> None:
    honest = row_with(elsewhere("control", None, None, None), elsewhere("resplit", 1.0, 1.0, 1.0))
    assert honest.entry.runs == 3
    assert honest.control is not None
    assert honest.resplit is not None
    assert (honest.control.verdict, honest.resplit.verdict, honest.flags) == ("holds", "holds", ())
    cheat = row_with(elsewhere("control", 1.0, 1.0, 1.0), elsewhere("resplit", None, None, None))
    assert cheat.flags == ("control", "resplit")
    assert cheat.control is not None
    assert cheat.control.runs == 3


def test_without_such_runs_nothing_is_said() -> None:
    row = row_with()
    assert (row.control, row.resplit, row.flags) == (None, None, ())


def test_signers_are_named_by_the_readers_keys() -> None:
    keys = [f"ed25519:{letter * 43}=" for letter in "AB"]
    records = make_entry(1.0, 2.0, 3.0)
    signatures = [*(Verification(state="valid", public_key=key) for key in keys), UNSIGNED]
    runs = [
        FoundRun(record.id, result_of(record), signature) for record, signature in zip(records, signatures, strict=True)
    ]
    (row,) = only_table(make_board(Material(runs), names={keys[1]: "the organizers"})).rows
    assert [(signer.name, signer.runs) for signer in row.signers] == [(None, 1), ("the organizers", 1)]
    assert row.entry.runs == 3


# ---- the same input, the same bytes

times = st.lists(st.none() | st.floats(0.1, 100), min_size=1, max_size=4)


@given(entries=st.lists(times, min_size=1, max_size=4), chances=st.randoms(use_true_random=False))
def test_a_board_does_not_depend_on_the_order_of_its_runs(
    entries: list[list[float | None]], chances: random.Random
) -> None:
    runs = [
        run for number, times_s in enumerate(entries) for run in found(make_entry(*times_s, name=f"entry_{number}"))
    ]
    board = make_board(Material(runs))
    shuffled = list(runs)
    chances.shuffle(shuffled)
    assert make_board(Material(shuffled)).model_dump_json() == board.model_dump_json()
    assert Board.model_validate_json(board.model_dump_json()) == board


@given(entries=st.lists(times, min_size=1, max_size=5))
def test_ranks_follow_medians_and_everybody_is_there(entries: list[list[float | None]]) -> None:
    rows = only_table(board_of(*(make_entry(*each, name=f"entry_{n}") for n, each in enumerate(entries)))).rows
    assert len(rows) == len(entries)
    ranked = [row for row in rows if row.rank is not None]
    assert list(rows[: len(ranked)]) == ranked
    medians = [row.entry.time_s.median.value for row in ranked if row.entry.time_s.median is not None]
    assert all(median is not None for median in medians)
    assert medians == sorted(medians, key=lambda value: value or 0)
    assert all((row.rank == 1) == (median == medians[0]) for row, median in zip(ranked, medians, strict=True))


def test_reading_the_same_results_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for record in make_entry(1.0, None, 2.0):
        (tmp_path / record.id).mkdir()
        write_record(record, tmp_path / record.id)
    first, second = (make_board(read_material(tmp_path)).model_dump_json() for _ in range(2))
    assert first == second


def test_the_mark_of_an_organizers_run_stays_in_the_record(tmp_path: Path) -> None:
    record = make_record(official=make_official(3, pack_sha256="f" * 64, split="resplit", calibration="a"))
    assert Record.model_validate_json(record.model_dump_json()) == record
