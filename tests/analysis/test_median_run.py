"""Which run stands for an entry."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_entry, make_official, make_record

from kit.analysis.median_run import record_named
from kit.errors import KitError
from kit.results.record import Record
from kit.results.store import write_record


def lay(folder: Path, records: list[Record]) -> Path:
    for number, record in enumerate(records):
        run_dir = folder / f"{number:03}-{record.submission.name}"
        run_dir.mkdir(parents=True)
        write_record(record, run_dir)
    return folder


def test_a_record_is_itself_by_its_file_or_its_folder(tmp_path: Path) -> None:
    (record,) = make_entry(3.0)
    run_dir = lay(tmp_path, [record]) / "000-made"
    assert record_named(run_dir) == record_named(run_dir / "record.json") == record


@given(times_s=st.lists(st.none() | st.floats(0.1, 100), min_size=1, max_size=7))
def test_at_least_half_of_an_entrys_runs_are_as_fast_as_its_median_run(
    tmp_path_factory: pytest.TempPathFactory, times_s: list[float | None]
) -> None:
    chosen = record_named(lay(tmp_path_factory.mktemp("results"), make_entry(*times_s))).time.to_target_s
    within = [time_s for time_s in times_s if chosen is None or (time_s is not None and time_s <= chosen)]
    beyond = [time_s for time_s in times_s if time_s is None or (chosen is not None and time_s >= chosen)]
    assert chosen in times_s
    assert len(within) * 2 > len(times_s)
    assert len(beyond) * 2 >= len(times_s)


def test_runs_on_other_splits_and_runs_that_were_ended_do_not_count(tmp_path: Path) -> None:
    kept, control, cancelled = make_entry(3.0, 1.0, 2.0)
    control = control.model_copy(update={"official": make_official(1, split="control")})
    cancelled = cancelled.model_copy(update={"outcome": "cancelled", "reason": "by Ada"})
    assert record_named(lay(tmp_path, [kept, control, cancelled])) == kept


def test_several_entries_have_no_one_run(tmp_path: Path) -> None:
    lay(tmp_path, [*make_entry(3.0, name="one"), *make_entry(2.0, name="two")])
    with pytest.raises(KitError, match=r"these are of 2: one on made, a processor, two on made, a processor"):
        record_named(tmp_path)


def test_a_record_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, [make_record()])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/record.json").write_text("{")
    with pytest.raises(KitError, match=r"broken/record.json: not a record"):
        record_named(tmp_path)


def test_nothing_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="there is no record here"):
        record_named(tmp_path)
    with pytest.raises(KitError, match="there is no record here"):
        record_named(tmp_path / "none")
