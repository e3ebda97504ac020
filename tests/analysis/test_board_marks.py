"""What boards say beside ranks: filters, algorithmic efficiency, the front of time and energy."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import found, make_entry, make_record

from kit.analysis.board import Board, Filters, Row, make_board
from kit.analysis.material import Material
from kit.results.record import Energy, Flops, Isolation, Record


def board_of(*entries: Sequence[Record], **how: Any) -> Board:
    return make_board(Material([run for entry in entries for run in found(entry)]), **how)


def rows_of(*entries: Sequence[Record], **how: Any) -> dict[str, Row]:
    return {row.entry.submission: row for table in board_of(*entries, **how).tables for row in table.rows}


def joules(value: float | None) -> Energy:
    return Energy(
        device_j=value,
        method=None if value is None else "nvml_total_energy",
        update_period_s=0.1,
        uncertainty_j=1.0,
        unavailable_because="no counter" if value is None else None,
    )


def operations(count: int | None) -> Flops:
    return Flops(method="pending") if count is None else Flops(method="replay", train_total=count, trusted=True)


# ---- filters

OTHER_DEVICE = make_record().device.model_copy(update={"name": "NVIDIA H200"})
ENTRIES = (
    make_entry(1.0, 2.0, name="here"),
    make_entry(3.0, name="elsewhere", device=OTHER_DEVICE),
    make_entry(4.0, name="sealed", isolation=Isolation(mode="sandbox", defences=())),
    make_entry(5.0, name="late", started_at=datetime(2027, 1, 1, tzinfo=UTC)),
    make_entry(
        6.0,
        submission=make_record().submission.model_copy(
            update={"name": "theirs", "authors": ("Grace", "Alan"), "source_sha256": "c" * 64}
        ),
    ),
)


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (Filters(), {"here", "elsewhere", "sealed", "late", "theirs"}),
        (Filters(device="h200"), {"elsewhere"}),
        (Filters(submission="here"), {"here"}),
        (Filters(author="Alan"), {"theirs"}),
        (Filters(sealed=True), {"sealed"}),
        (Filters(sealed=False), {"here", "elsewhere", "late", "theirs"}),
        (Filters(since=date(2026, 12, 1)), {"late"}),
        (Filters(since=date(2027, 1, 1)), {"late"}),
        (Filters(author="Ada", sealed=True), {"sealed"}),
        (Filters(device="nothing"), set()),
        (Filters(track="nothing"), set()),
    ],
)
def test_filters_show_the_entries_that_are_asked_for(filters: Filters, shown: set[str]) -> None:
    assert set(rows_of(*ENTRIES, filters=filters)) == shown


def test_places_are_among_those_that_are_shown() -> None:
    assert rows_of(*ENTRIES, filters=Filters(submission="late"))["late"].rank == 1


# ---- algorithmic efficiency

TRACK = make_record().track
BASELINE = TRACK.baseline.rpartition("/")[2]


def test_half_of_the_baselines_operations_are_twice_its_efficiency() -> None:
    rows = rows_of(
        make_entry(1.0, 1.0, 1.0, name=BASELINE, flops=operations(1000)),
        make_entry(1.0, 1.0, 1.0, name="thrifty", flops=operations(500)),
    )
    assert (rows[BASELINE].efficiency.value, rows["thrifty"].efficiency.value) == (1.0, 2.0)
    assert rows["thrifty"].efficiency.baseline_sha256 == rows[BASELINE].entry.source_sha256


def test_a_baseline_of_another_machine_will_do_and_one_that_is_filtered_out_counts() -> None:
    baseline = make_entry(9.0, name=BASELINE, device=OTHER_DEVICE, flops=operations(1000))
    thrifty = make_entry(1.0, name="thrifty", flops=operations(500))
    rows = rows_of(baseline, thrifty, filters=Filters(submission="thrifty"))
    assert rows["thrifty"].efficiency.value == 2.0
    here = make_entry(9.0, name=BASELINE, id="another-run", flops=operations(2000))
    assert rows_of(baseline, here, thrifty)["thrifty"].efficiency.value == 4.0


@pytest.mark.parametrize(
    ("entries", "because"),
    [
        ([make_entry(1.0, name="alone")], f"no runs of {BASELINE} are here"),
        (
            [make_entry(1.0, name="alone"), make_entry(1.0, name=BASELINE, flops=operations(None))],
            f"the baseline {BASELINE} has no count of operations here",
        ),
        ([make_entry(1.0, name="alone"), make_entry(None, name=BASELINE)], f"the baseline {BASELINE} has no count"),
        ([make_entry(1.0, name="alone", flops=operations(None)), make_entry(1.0, name=BASELINE)], "not counted"),
        ([make_entry(None, name="alone"), make_entry(1.0, name=BASELINE)], "half of its runs or more missed"),
        (
            [
                make_entry(1.0, name="alone"),
                make_entry(1.0, name=BASELINE, track=TRACK.model_copy(update={"target": 0.5})),
            ],
            f"no runs of {BASELINE} are here",
        ),
    ],
)
def test_where_there_is_no_efficiency_the_reason_is_given(entries: list[list[Record]], because: str) -> None:
    found = rows_of(*entries)["alone"].efficiency
    assert found.value is None
    assert because in (found.unavailable_because or "")


# ---- the front of time and energy


def test_who_is_beaten_in_one_and_equalled_in_the_other_is_not_on_the_front() -> None:
    rows = rows_of(
        make_entry(1.0, name="fast", energy=joules(9.0)),
        make_entry(3.0, name="frugal", energy=joules(2.0)),
        make_entry(3.0, name="as slow", energy=joules(3.0)),
        make_entry(4.0, name="as frugal", energy=joules(2.0)),
        make_entry(2.0, name="between", energy=joules(5.0)),
        make_entry(5.0, name="worse", energy=joules(10.0)),
        make_entry(0.5, name="unmeasured", energy=joules(None)),
        make_entry(None, name="misses", energy=joules(1.0)),
    )
    assert {name: row.pareto for name, row in rows.items()} == {
        "fast": True,
        "frugal": True,
        "between": True,
        "as slow": False,
        "as frugal": False,
        "worse": False,
        "misses": False,
        "unmeasured": None,
    }


points = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=8)


@given(points=points)
def test_the_front_is_those_whom_nobody_dominates(points: list[tuple[int, int]]) -> None:
    rows = rows_of(
        *(make_entry(float(t), name=f"entry_{n}", energy=joules(float(e))) for n, (t, e) in enumerate(points))
    )
    for number, (time, energy) in enumerate(points):
        dominated = any(t <= time and e <= energy and (t, e) != (time, energy) for t, e in points)
        assert rows[f"entry_{number}"].pareto is not dominated


def test_machines_have_fronts_of_their_own() -> None:
    rows = rows_of(
        make_entry(1.0, name="one", energy=joules(1.0)),
        make_entry(2.0, name="two", energy=joules(2.0), device=OTHER_DEVICE),
    )
    assert rows["one"].pareto
    assert rows["two"].pareto
