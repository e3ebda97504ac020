"""The table of AI and Efficiency: read row by row, written from records, and the same operations both ways."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_record

from kit.errors import KitError
from kit.results.exchange.write_ai_and_efficiency import efficiency_csv
from kit.results.imported import Imported
from kit.results.published.ai_and_efficiency import COLUMNS, COUNTED, EfficiencyRow, efficiency_rows
from kit.results.record import Flops, SubmissionInfo
from kit.results.table import as_csv, read_table

FIRST = ",".join(COLUMNS) + "\n"
ALEXNET = "AlexNet,6/1/2012,AlexNet,https://example.org/alexnet,3.1,1,AI and Efficiency,\n"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def imported(path: Path) -> Imported[EfficiencyRow]:
    return efficiency_rows(read_table(path))


def test_a_multiply_add_is_one_operation_in_the_table_and_two_in_the_kit(tmp_path: Path) -> None:
    (row,) = imported(write(tmp_path, FIRST + ALEXNET)).rows
    assert (row.level, str(row.date), row.model, row.listed_ratio) == ("AlexNet", "2012-06-01", "AlexNet", 1)
    assert (str(row.teraflops_s_days), row.operations_per_multiply_add) == ("3.1", 1)
    assert row.train_flops == 2 * 31 * 864 * 10**13


def test_levels_of_translation_count_it_twice_already(tmp_path: Path) -> None:
    text = FIRST + ALEXNET.replace("AlexNet,6", "GNMT,6")
    (row,) = imported(write(tmp_path, text)).rows
    assert (row.operations_per_multiply_add, row.train_flops) == (2, 31 * 864 * 10**13)


@pytest.mark.parametrize(
    "text",
    [
        ("\ufeff" + FIRST + ALEXNET).replace("\n", "\r\n"),
        "# a comment, with a comma\n\n" + FIRST + ALEXNET,
        (FIRST + ALEXNET).rstrip("\n"),
        FIRST.upper() + ALEXNET.replace(",AI and Efficiency,\n", "\n"),
        FIRST + ALEXNET.replace("6/1/2012", "2012-06-01").replace("3.1", '" 3.10 "'),
    ],
    ids=["byte-order mark and CRLF", "comments", "no last newline", "short rows", "ISO dates and quotes"],
)
def test_a_table_is_read_however_it_was_written(tmp_path: Path, text: str) -> None:
    found = imported(write(tmp_path, text))
    assert [(row.train_flops, str(row.date)) for row in found.rows] == [(2 * 31 * 864 * 10**13, "2012-06-01")]
    assert found.refused == ()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (ALEXNET.replace("3.1", "much"), "Compute (teraflops-s/days): Input should be a valid decimal, got 'much'"),
        (ALEXNET.replace("3.1", "nan"), "Compute (teraflops-s/days): Input should be a finite number, got 'nan'"),
        (ALEXNET.replace("3.1", "-3.1"), "Compute (teraflops-s/days): Input should be greater than"),
        (ALEXNET.replace("3.1", "1e999999999"), "Compute (teraflops-s/days): Input should be less than"),
        (ALEXNET.replace("6/1/2012", "1/6"), "Publication Date: expected a date as 5/28/2019 or 2019-05-28, got '1/6'"),
        (ALEXNET.replace("6/1/2012", "13/1/2012"), "Publication Date: expected a date"),
        (
            ALEXNET.replace(",1,", ",lots,"),
            "Reduction Factor: Input should be a valid number, unable to parse string as a number, got 'lots'",
        ),
        (ALEXNET.replace("AlexNet,6", ",6"), "Metric: String should have at least 1 character, got ''"),
        ("AlexNet,6/1/2012\n", "expected 8 cells, got 2"),
        (ALEXNET.replace("\n", ",,,\n"), "expected 8 cells, got 11"),
    ],
)
def test_a_row_that_cannot_be_read_is_told_with_its_line_and_the_rest_is_imported(
    tmp_path: Path, bad: str, told: str
) -> None:
    found = imported(write(tmp_path, FIRST + ALEXNET + bad + ALEXNET))
    assert len(found.rows) == 2
    (refused,) = found.refused
    assert str(refused).startswith(f"table.csv:3: {told}")


def test_an_open_quote_ends_the_table_there(tmp_path: Path) -> None:
    found = imported(write(tmp_path, FIRST + ALEXNET + 'AlexNet,"6/1/2012,\n' + ALEXNET))
    assert len(found.rows) == 1
    assert str(found.refused[0]).startswith("table.csv:3: not CSV from here on")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "expected the columns Metric, "),
        ("a,b\n1,2\n", "expected the columns .*; missing: Metric"),
        (FIRST.replace("Analysis,", "metric,"), "a column is there twice: Metric"),
        (b"\xff\xfea\x00", "not UTF-8"),
    ],
)
def test_a_file_that_is_no_such_table_is_a_mistake(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(KitError, match=told):
        imported(write(tmp_path, content))
    with pytest.raises(KitError, match="No such file"):
        imported(tmp_path / "none.csv")


def submitted(**differently: str) -> SubmissionInfo:
    return make_record().submission.model_copy(update=differently)


def counted(train_total: int) -> Flops:
    return Flops(method="replay", train_total=train_total, evaluation_total=0, trusted=True)


@given(train_total=st.integers(1, 10**24))
def test_operations_of_a_record_come_back_whole(tmp_path_factory: pytest.TempPathFactory, train_total: int) -> None:
    text = efficiency_csv(make_record(flops=counted(train_total)))
    found = imported(write(tmp_path_factory.mktemp("table"), text))
    assert found.refused == ()
    assert [row.train_flops for row in found.rows] == [train_total]


def test_a_record_is_a_row_that_says_where_it_comes_from(tmp_path: Path) -> None:
    track = make_record().track.model_copy(update={"dataset": "imagenet", "metric": "top5", "target": 0.791})
    text = efficiency_csv(make_record(flops=counted(2 * 31 * 864 * 10**13), track=track))
    header, row = text.splitlines()
    assert header == ",".join(COLUMNS)
    assert row == 'AlexNet,11/24/2026,made,,3.1,,"counted by kit 0.1.0, record 20261124T120000Z-made-made-s1-abcdef",'
    (read,) = imported(write(tmp_path, text)).rows
    assert read.listed_ratio is None
    counted_row = as_csv(COUNTED, [read]).splitlines()[1]
    assert counted_row == row.replace("11/24/2026", "2026-11-24") + ",1,535680000000000000"


@pytest.mark.parametrize(
    ("differently", "told"),
    [
        ({"flops": Flops(method="pending")}, "not counted"),
        ({"flops": counted(0)}, "the count is 0"),
        (
            {"flops": Flops(method="replay", train_total=5, untrusted_because="the replay learned less")},
            "the replay learned less",
        ),
        ({"outcome": "missed", "reason": "fell short"}, "the target was not reached: missed, fell short"),
        ({"submission": submitted(date="soon")}, "no row of that table: date: .*expected a date"),
        ({"submission": submitted(name="")}, "no row of that table: model: "),
        ({"flops": counted(10**36)}, "no row of that table: teraflops_s_days: "),
    ],
)
def test_a_count_that_may_not_be_compared_is_no_row(differently: dict[str, object], told: str) -> None:
    with pytest.raises(KitError, match=told):
        efficiency_csv(make_record(**differently))
