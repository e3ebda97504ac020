"""Histories of published tables, of files with their columns, and of results."""

import csv
import random
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from records import make_entry, make_record

from kit.analysis.histories import TABLES, history_named
from kit.analysis.history import FixedHardware, History
from kit.analysis.progress import By, Progress
from kit.analysis.results_history import history_of_results
from kit.errors import KitError
from kit.results.published.ai_and_efficiency import ROWS_FILE
from kit.results.published.dawnbench import DAWNBENCH_FILE, TASKS, dawnbench
from kit.results.record import Cost, Energy, Flops, Isolation, Record, Time
from kit.results.store import write_record


def series(history: History, name: str) -> Progress:
    (found,) = (progress for progress in history.progress if progress.series.name == name)
    return found


@pytest.fixture(scope="module")
def efficiency() -> History:
    return history_named("ai-and-efficiency")


# ---- AI and Efficiency


def test_alexnets_level_has_the_figures_that_follow_from_its_table(efficiency: History) -> None:
    alexnet = series(efficiency, "AlexNet")
    assert alexnet.series.unit == "teraflop/s-days"
    assert (alexnet.frontier[0].cost, alexnet.frontier[-1].cost) == (3.1, 0.069)
    assert len(alexnet.frontier) == len(alexnet.series.points) == 6
    assert alexnet.ratio == pytest.approx(44.9275, abs=1e-4)
    assert alexnet.months == pytest.approx(83.844, abs=1e-3)
    assert alexnet.moore_ratio == pytest.approx(11.26, abs=0.01)
    doubling = alexnet.doubling
    assert doubling is not None
    assert doubling.fit is not None
    assert doubling.endpoints_months == pytest.approx(15.273, abs=1e-3)
    assert doubling.fit.doubling_months == pytest.approx(15.684, abs=1e-3)
    assert doubling.fit.intercept == pytest.approx(0.1284, abs=1e-4)
    assert doubling.fit.r_squared == pytest.approx(0.9823, abs=1e-4)
    assert (doubling.fit.shortest.label, doubling.fit.longest.label) == ("GoogLeNet", "AlexNet")
    assert doubling.fit.shortest.doubling_months == pytest.approx(15.30, abs=0.01)
    assert doubling.fit.longest.doubling_months == pytest.approx(16.83, abs=0.01)
    assert doubling.fit.interval is not None
    assert doubling.fit.interval.low_months < 15.3
    assert doubling.fit.interval.high_months > 16.8


@pytest.mark.parametrize(
    ("level", "ratio", "months", "published_ratio", "published_months"),
    [
        ("AlexNet", 44.93, 15.27, 44, 16),
        ("ResNet-50", 22.67, 11.67, 10, 17),
        ("Seq2Seq", 58.125, 6.15, 61, 6),
        ("GNMT", 8.95, 3.66, 9, 4),
    ],
)
def test_every_level_is_shown_beside_what_was_published(
    efficiency: History, level: str, ratio: float, months: float, published_ratio: float, published_months: float
) -> None:
    found = series(efficiency, level)
    assert found.ratio == pytest.approx(ratio, abs=0.01)
    assert found.doubling is not None
    assert found.doubling.endpoints_months == pytest.approx(months, abs=0.01)
    assert found.series.claim is not None
    assert (found.series.claim.ratio, found.series.claim.doubling_months) == (published_ratio, published_months)


def test_the_known_faults_of_the_table_are_flagged_and_explained(efficiency: History) -> None:
    flags = {
        (progress.series.name, point.label): set(point.flags)
        for progress in efficiency.progress
        for point in progress.series.points
    }
    assert flags["ResNet-50", "EfficientNet (b1)"] >= {"factor", "forward"}
    assert flags["GNMT", "GNMT"] >= {"date", "link", "twice"}
    assert all("date" in flags[level, label] for level, label in flags if label.startswith(("Transformer", "Seq2Seq")))
    assert flags["AlexNet", "GoogLeNet"] == set()
    assert set().union(*flags.values()) == set(efficiency.flags)


def test_all_models_of_the_paper_are_there_in_the_unit_of_the_table(efficiency: History) -> None:
    assert len(efficiency.models) == 16
    by_label = {model.label: model for model in efficiency.models}
    assert by_label["AlexNet"].ratio == 1
    assert by_label["AlexNet"].cost == pytest.approx(3.1, rel=0.01)
    assert by_label["EfficientNet-b0"].cost == pytest.approx(0.069, rel=0.01)
    assert by_label["EfficientNet-b0"].ratio == pytest.approx(90 * 0.77 / (4 * 0.39))
    assert by_label["VGG-11"].ratio < 1


def test_a_table_knows_operations_alone() -> None:
    with pytest.raises(KitError, match="knows training operations alone; expected --by flops, got --by time"):
        history_named("ai-and-efficiency", "time")


# ---- DAWNBench


def fixed(history: History) -> dict[int, FixedHardware]:
    return {one.count: one for one in history.fixed_hardware}


def test_cifar10_on_one_and_on_eight_v100_is_software_and_algorithm() -> None:
    history = history_named("dawnbench-cifar10")
    (whole,) = history.progress
    assert whole.ratio == pytest.approx(9101.469 / 9.429)
    one, eight = fixed(history)[1], fixed(history)[8]
    assert one.progress is not None
    assert eight.progress is not None
    assert one.progress.ratio == pytest.approx(4075 / 57.046)
    assert eight.progress.ratio == pytest.approx(173.959 / 9.429)
    assert {point.hardware for point in one.progress.series.points} == {"1 × V100"}
    assert {point.hardware for point in eight.progress.series.points} == {"8 × V100"}
    for found in (one, eight):
        assert found.rest_ratio is not None
        assert found.progress is not None
        assert found.rest_ratio * found.progress.ratio == pytest.approx(whole.ratio)
    # Over the time from the first to the last record on one V100: 4075 s, itself on one, to 27.976 s on four.
    assert one.same_period_ratio == pytest.approx(4075 / 27.976)
    assert eight.same_period_ratio == pytest.approx(eight.progress.ratio)


def test_nobody_trained_imagenet_on_one_v100() -> None:
    history = history_named("dawnbench-imagenet")
    one, eight = fixed(history)[1], fixed(history)[8]
    assert (one.progress, one.rest_ratio, one.same_period_ratio) == (None, None, None)
    assert eight.progress is not None
    assert eight.progress.ratio == pytest.approx(52679 / 1297.66)
    assert eight.progress.ratio < history.progress[0].ratio


def test_by_cost_only_entries_with_a_price_count_and_wrong_prices_are_flagged() -> None:
    history = history_named("dawnbench-cifar10", "cost")
    (whole,) = history.progress
    entries = [entry for entry in dawnbench() if entry.task == "CIFAR10"]
    priced = [entry for entry in entries if entry.usd is not None]
    assert len(whole.series.points) == len(priced) < len(entries)
    assert whole.series.unit == "USD"
    assert whole.frontier[-1].cost == pytest.approx(0.02121, abs=1e-5)
    assert whole.frontier[-1].flags == ("monthly",)
    assert set(history.flags) == {"monthly"}
    assert not history.fixed_hardware
    assert f"{len(priced)} of {len(entries)} entries give a price" in " ".join(history.notes)
    assert set(history_named("dawnbench-imagenet", "cost").flags) == {"swapped"}


@pytest.mark.parametrize("by", ["flops", "energy"])
def test_dawnbench_never_published_operations_nor_energy(by: By) -> None:
    with pytest.raises(KitError, match=f"have times and costs; expected --by time or cost, got --by {by}"):
        history_named("dawnbench-imagenet", by)


@pytest.mark.parametrize("name", TABLES)
def test_a_history_is_whole_as_json(name: str) -> None:
    history = history_named(name)
    assert History.model_validate_json(history.model_dump_json()) == history
    assert history.source is not None
    assert history == history_named(name)


# ---- files


def copy_of(source: Path, path: Path, *, cells: dict[int, dict[str, str]] | None = None) -> Path:
    """The rows of a shipped table as others write them, with some cells changed, by row."""
    with source.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    for index, changes in (cells or {}).items():
        rows[index] |= changes
    columns = [column for column in rows[0] if column != "faults"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_file_with_the_columns_of_ai_and_efficiency_is_read_alike(efficiency: History, tmp_path: Path) -> None:
    history = history_named(str(copy_of(ROWS_FILE, tmp_path / "theirs.csv")))
    assert history.progress == efficiency.progress
    assert history.flags == efficiency.flags
    assert history.source is None


def test_a_new_row_of_ai_and_efficiency_may_be_a_record(tmp_path: Path) -> None:
    newer = {
        "Publication Date": "1/2/2024",
        "Publication": "newer",
        "Compute (teraflops-s/days)": "0.01",
        "Reduction Factor": "",
    }
    history = history_named(str(copy_of(ROWS_FILE, tmp_path / "newer.csv", cells={5: newer})))
    assert series(history, "AlexNet").frontier[-1].label == "newer"
    assert series(history, "AlexNet").frontier[-1].date == date(2024, 1, 2)
    assert series(history, "AlexNet").frontier[-1].published_ratio is None
    assert series(history, "AlexNet").ratio == pytest.approx(310)


def test_a_file_of_dawnbench_entries_holds_both_tasks(tmp_path: Path) -> None:
    history = history_named(str(copy_of(DAWNBENCH_FILE, tmp_path / "imported.csv")))
    both = [history_named(f"dawnbench-{task.dataset}") for task in TASKS.values()]
    assert list(history.progress) == [one.progress[0] for one in both]
    assert list(history.fixed_hardware) == [found for one in both for found in one.fixed_hardware]


@pytest.mark.parametrize(
    ("source", "changes", "because"),
    [
        (ROWS_FILE, {"Publication Date": "1/6"}, "expected a date as 5/28/2019 or 2019-05-28"),
        (ROWS_FILE, {"Publication Date": "13/1/2012"}, "expected a date as 5/28/2019"),
        (ROWS_FILE, {"Publication Date": "1/1/0900"}, "date: .*1900"),
        (ROWS_FILE, {"Compute (teraflops-s/days)": "-3"}, "Compute .* got '-3'"),
        (ROWS_FILE, {"Compute (teraflops-s/days)": "nan"}, "Compute .* got 'nan'"),
        (ROWS_FILE, {"Compute (teraflops-s/days)": "1e200"}, "Compute .* got '1e200'"),
        (DAWNBENCH_FILE, {"time_to_target_s": ""}, "time_to_target_s"),
        (DAWNBENCH_FILE, {"date": "yesterday"}, "date"),
        (DAWNBENCH_FILE, {"task": "SQuAD"}, "task"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_kept(
    source: Path, changes: dict[str, str], because: str, tmp_path: Path
) -> None:
    whole = history_named(str(copy_of(source, tmp_path / "whole.csv")))
    history = history_named(str(copy_of(source, tmp_path / "some.csv", cells={1: changes})))
    (left_out,) = history.left_out
    assert "some.csv, " in left_out.file
    assert re.search(because, left_out.because), left_out.because
    count, fewer = (sum(len(one.series.points) for one in found.progress) for found in (whole, history))
    assert fewer == count - 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a,b\n1,2\n", "expected a table with the columns Metric, .* or task, "),
        (b"", "expected a table with the columns"),
        (b"# only a comment", "expected a table with the columns"),
        (b"Metric,Publication\nx,y\n", "missing: Publication Date"),
        (b"task,date\nCIFAR10,2020-01-01\n", "missing: author"),
        (b"task,task\n", "a column is there twice"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'# a comment\n"task,date', "line 2: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_such_table_says_what_was_expected(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(KitError, match=expected):
        history_named(str(path))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(KitError, match="larger than 16 MiB"):
        history_named(str(path))


@pytest.mark.parametrize("name", ["nothing", "dawnbench", "nothing.json"])
def test_a_name_of_nothing_says_what_there_is(name: str) -> None:
    with pytest.raises(KitError, match="expected ai-and-efficiency, dawnbench-cifar10, dawnbench-imagenet, a table"):
        history_named(name)


def test_a_table_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="No such file"):
        history_named(str(tmp_path / "nothing.csv"))


# ---- results


def entry(name: str, day: str, operations: int, *times_s: float | None, **differently: Any) -> list[Record]:
    """Runs of one submission of a day, at so many operations."""
    content: dict[str, Any] = {
        "flops": Flops(method="replay", train_total=operations, evaluation_total=0, trusted=True),
        "isolation": Isolation(mode="sandbox", defences=()),
    }
    runs = make_entry(*(times_s or (1.0,)), name=name, **content | differently)
    return [run.model_copy(update={"submission": run.submission.model_copy(update={"date": day})}) for run in runs]


def write(folder: Path, *entries: list[Record]) -> Path:
    for records in entries:
        for record in records:
            (folder / record.id).mkdir(parents=True)
            write_record(record, folder / record.id)
    return folder


def labels(progress: Progress) -> list[str]:
    return [point.label for point in progress.frontier]


def test_results_are_ordered_by_the_dates_of_their_submissions(tmp_path: Path) -> None:
    write(
        tmp_path,
        entry("late", "2026-03-01", 10),
        entry("early", "2024-03-01", 80),
        entry("between", "2025-03-01", 40),
        entry("worse", "2025-09-01", 60),
    )
    (progress,) = history_of_results(tmp_path).progress
    assert progress.series.name == "made version 1"
    assert progress.series.title == "Made, 90 %"
    assert progress.series.unit == "FLOP"
    assert labels(progress) == ["early", "between", "late"]
    assert progress.ratio == 8
    assert progress.doubling is not None
    assert progress.doubling.endpoints_months == pytest.approx(8, abs=0.05)


def test_an_entry_counts_with_the_median_of_its_runs(tmp_path: Path) -> None:
    write(tmp_path, entry("steady", "2025-01-01", 10, 1.0, 5.0, 3.0))
    (progress,) = history_of_results(tmp_path, "time").progress
    assert [point.cost for point in progress.series.points] == [3.0]


def test_times_and_energies_of_two_devices_are_two_series_and_operations_are_one(tmp_path: Path) -> None:
    other = make_record().device.model_copy(update={"name": "another processor"})
    energy = Energy(
        device_j=5.0, method="nvml_total_energy", update_period_s=None, uncertainty_j=None, unavailable_because=None
    )
    price = Cost(usd_per_hour=3600, price_source="https://example.com", price_date=date(2026, 11, 1))
    write(
        tmp_path,
        entry("here", "2024-03-01", 80, 4.0, energy=energy, cost=price),
        entry("there", "2025-03-01", 40, 1.0, energy=energy, cost=price, device=other),
    )
    per_device: tuple[By, ...] = "time", "energy"
    for by in per_device:
        progress = history_of_results(tmp_path, by).progress
        assert [labels(one) for one in progress] == [["here"], ["there"]]
        assert "another processor" in progress[1].series.title
        assert progress[0].no_doubling_because == "there is one result only"
    assert labels(history_of_results(tmp_path, "flops").progress[0]) == ["here", "there"]
    (one,) = history_of_results(tmp_path, "cost").progress
    assert one.series.unit == "USD"
    assert [point.cost for point in one.frontier] == [4.0, 1.0]


def test_a_recipe_counts_once_on_however_many_machines_it_was_run(tmp_path: Path) -> None:
    """Else one recipe on ten machines would weigh as ten in a trend."""
    other = make_record().device.model_copy(update={"name": "another processor"})
    elsewhere = [
        run.model_copy(update={"id": f"{run.id}-there"}) for run in entry("one", "2024-03-01", 80, device=other)
    ]
    write(tmp_path, entry("one", "2024-03-01", 81), elsewhere, entry("two", "2025-03-01", 40))
    history = history_of_results(tmp_path)
    assert [(point.label, point.cost) for point in history.progress[0].series.points] == [("one", 80), ("two", 40)]
    (left_out,) = history.left_out
    assert left_out.because.startswith("the same recipe as one (")
    assert len(history_of_results(tmp_path, "time").progress) == 2


def test_an_entry_with_official_runs_is_judged_by_these_alone(tmp_path: Path) -> None:
    official = entry("one", "2025-01-01", 10, 2.0)
    own = [
        run.model_copy(update={"official": None, "id": f"{run.id}-own"}) for run in entry("one", "2025-01-01", 10, 9.0)
    ]
    write(tmp_path, official, own)
    (progress,) = history_of_results(tmp_path, "time").progress
    assert [(point.cost, point.flags) for point in progress.series.points] == [(2.0, ())]


def test_runs_of_anybodys_own_and_without_a_sandbox_are_flagged(tmp_path: Path) -> None:
    (run,) = entry("own", "2025-01-01", 10, isolation=Isolation(mode="process", defences=()))
    write(tmp_path, [run.model_copy(update={"official": None})])
    history = history_of_results(tmp_path)
    assert history.progress[0].series.points[0].flags == ("unofficial", "unsealed")
    assert set(history.flags) == {"unofficial", "unsealed"}


NEVER = Time(to_target_s=None, total_s=3.0, setup_s=1.0, evaluation_s=0.0)


@pytest.mark.parametrize(
    ("day", "differently", "because"),
    [
        ("2026-12-24", {}, "dated 2026-12-24, after its run"),
        ("2199-01-01", {}, "dated 2199-01-01, after its run"),
        ("soon", {}, "date is 'soon', which is none"),
        ("1066-10-14", {}, "1900"),
        ("2025-01-01", {"outcome": "cancelled", "reason": "by somebody", "time": NEVER}, "no result: by somebody"),
        ("2025-01-01", {"flops": Flops(method="pending")}, "not counted"),
    ],
)
def test_what_is_on_no_frontier_is_listed_with_the_reason(
    day: str, differently: dict[str, Any], because: str, tmp_path: Path
) -> None:
    time_s = None if "outcome" in differently else 1.0
    write(tmp_path, entry("good", "2025-01-01", 10), entry("bad", day, 5, time_s, **differently))
    history = history_of_results(tmp_path)
    assert [point.label for point in history.progress[0].series.points] == ["good"]
    (left_out,) = history.left_out
    assert because in left_out.because


def test_an_entry_of_which_half_misses_has_no_cost(tmp_path: Path) -> None:
    write(tmp_path, entry("half", "2025-01-01", 10, None, 1.0))
    history = history_of_results(tmp_path)
    assert not history.progress
    assert history.left_out[0].because == "half of its runs or more missed the target"


def test_checks_on_other_data_are_no_results_and_damaged_records_are_listed(tmp_path: Path) -> None:
    write(tmp_path, entry("good", "2025-01-01", 10), entry("check", "2025-01-01", 5, official={"split": "resplit"}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/record.json").write_text('{"id": ')
    history = history_of_results(tmp_path)
    assert [point.label for point in history.progress[0].series.points] == ["good"]
    assert [left_out.file for left_out in history.left_out] == ["damaged/record.json"]


def test_the_same_results_give_the_same_history_in_any_order(tmp_path: Path) -> None:
    entries = [entry(f"made{index}", f"20{index:02}-01-01", 100 - index) for index in range(10, 18)]
    histories = []
    for seed in range(3):
        random.Random(seed).shuffle(entries)
        folder = write(tmp_path / str(seed), *entries)
        histories.append(history_of_results(folder).model_copy(update={"name": ""}).model_dump_json())
    assert len(set(histories)) == 1


def test_an_empty_folder_has_no_history(tmp_path: Path) -> None:
    history = history_named(str(tmp_path))
    assert (history.progress, history.left_out, history.by) == ((), (), "flops")


def test_a_date_is_not_in_the_future_where_days_begin_first(tmp_path: Path) -> None:
    late = datetime(2026, 11, 24, 11, tzinfo=UTC)
    write(tmp_path, entry("tomorrow", "2026-11-25", 10, started_at=late))
    assert labels(history_of_results(tmp_path).progress[0]) == ["tomorrow"]
