"""DAWNBench's entries are read as they were meant, in each way in which submitters wrote them."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import KitError
from kit.results import imported
from kit.results.exchange.read_dawnbench import COLUMNS, import_dawnbench
from kit.results.imported import Imported
from kit.results.published.dawnbench import DAWNBENCH_FILE, DawnbenchEntry
from kit.results.table import as_csv

HEADER = "epoch\thours\ttop1Accuracy\n"
ROWS = "1\t0.5\t60.5\n2\t1.0\t93.99\n3\t1.5\t94.03\n4\t2.0\t93.9\n"
IMAGENET = "epoch\thours\ttop1Accuracy\ttop5Accuracy\n1\t2.5\t60\t80\n2\t5.25\t75\t93.002\n"


def describe(**differently: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "version": "v1.0",
        "author": "Ada",
        "authorEmail": "",
        "framework": "PyTorch 0.4",
        "model": "A net",
        "hardware": "1 x V100",
        "timestamp": "2018-04-20",
        "costPerHour": 3.06,
        "codeURL": "https://github.com/ada/net",
    }
    return {key: value for key, value in (content | differently).items() if value is not None}


def write(
    folder: Path, table: str | bytes | None, task: str = "CIFAR10", name: str = "ada_net", **differently: Any
) -> Path:
    place = folder / task / "train"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(describe(**differently)))
    if table is not None:
        (place / f"{name}.tsv").write_bytes(table.encode() if isinstance(table, str) else table)
    return folder


def only(found: Imported[DawnbenchEntry]) -> DawnbenchEntry:
    assert [str(remark) for remark in found.refused] == []
    (entry,) = found.rows
    return entry


def test_an_entry_is_read_with_the_columns_that_the_kit_ships(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + ROWS))
    entry = only(found)
    assert (entry.task, entry.time_to_target_s, entry.epoch_at_target) == ("CIFAR10", 5400, 3)
    assert (entry.accuracy_at_target, entry.best_accuracy, entry.rows_in_tsv) == (94.03, 94.03, 4)
    assert (entry.author, entry.cost_per_hour_usd, str(entry.date)) == ("Ada", 3.06, "2018-04-20")
    assert entry.source_file == "CIFAR10/train/ada_net.json"
    assert found.notes == ()
    header, row = as_csv(COLUMNS, found.rows).splitlines()
    assert header == next(line for line in DAWNBENCH_FILE.read_text().splitlines() if not line.startswith("#"))
    assert row.startswith("CIFAR10,2018-04-20,Ada,PyTorch 0.4,A net,1 x V100,,5400,3.06,3,94.03,94.03,4,,,https://")
    (read,) = csv.DictReader(as_csv(COLUMNS, found.rows).splitlines())
    assert DawnbenchEntry.model_validate(read) == entry


@pytest.mark.parametrize(
    "table",
    [
        (HEADER + ROWS).replace("\n", "\r\n"),
        (HEADER + ROWS).replace("\n", "\r"),
        "\ufeff" + (HEADER + ROWS).replace("\n", "\r\n"),
        (HEADER + ROWS).rstrip("\n"),
        (HEADER + ROWS) + "\n\n",
        (HEADER + ROWS).replace("\t", "\t\t"),
        HEADER + ROWS.replace("3\t1.5\t", "3\t\t\t1.5\t"),
        HEADER + ROWS.replace("\n", "\t\n"),
        (HEADER + ROWS).expandtabs(4).replace("93.99\n", "93.99 \n"),
        "Iterations   epoch   hours   top1Accuracy\n" + "".join(f"640\t{row}\n" for row in ROWS.splitlines()),
        HEADER.replace("hours", "hours ") + ROWS,
        "hours\ttop1Accuracy\tepoch\n0.5\t60.5\t1\n1\t93.99\t2\n1.5\t94.03\t3\n2\t93.9\t4\n",
        "Epoch\tHours\tTop1accuracy\n" + ROWS,
        "epoch\thours\ttop1Accuracy\tlearning rate\n" + ROWS.replace("\n", "\t0.1\n"),
    ],
    ids=[
        "CRLF",
        "CR",
        "byte-order mark and CRLF",
        "no last newline",
        "empty lines at the end",
        "two tabs everywhere",
        "three tabs in one row",
        "a tab at the end of rows",
        "blanks for tabs",
        "blanks for tabs in the header alone",
        "a blank after a name",
        "columns in another order",
        "other capitals",
        "a column of its own",
    ],
)
def test_a_table_is_read_however_it_was_written(tmp_path: Path, table: str) -> None:
    entry = only(import_dawnbench(write(tmp_path, table)))
    assert (entry.time_to_target_s, entry.epoch_at_target, entry.accuracy_at_target) == (5400, 3, 94.03)
    assert entry.rows_in_tsv == 4


def test_epochs_and_hours_under_each_others_names_are_told_apart_and_noted(tmp_path: Path) -> None:
    table = "hours\tepoch\ttop1Accuracy\n" + "".join(f"{n}\t{n * 0.0127}\t{93 + n / 80}\n" for n in range(1, 90))
    found = import_dawnbench(write(tmp_path, table))
    entry = only(found)
    assert entry.epoch_at_target == 80
    assert entry.time_to_target_s == pytest.approx(80 * 0.0127 * 3600, abs=1e-6)
    assert ["ada_net.tsv: hours count up" in str(note) for note in found.notes] == [True]


def test_evaluations_after_each_hour_are_not_taken_for_swapped_columns(tmp_path: Path) -> None:
    table = HEADER + "".join(f"{n * 2.5}\t{n}\t{90 + n}\n" for n in range(1, 6))
    found = import_dawnbench(write(tmp_path, table))
    assert (only(found).time_to_target_s, only(found).epoch_at_target, found.notes) == (4 * 3600, 10, ())


def test_fractions_are_read_as_percents_and_noted(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + "1\t0.5\t0.605\n2\t1.0\t0.9399\n3\t1.5\t0.9401\n"))
    assert (only(found).time_to_target_s, only(found).accuracy_at_target) == (5400, 94.01)
    assert ["fractions" in note.what for note in found.notes] == [True]


def test_broken_epochs_and_long_decimals_stay_as_they_are(tmp_path: Path) -> None:
    table = HEADER + "138.13248\t10.5\t93.99999\n145.1392\t11.25\t94.04000012397766\n"
    entry = only(import_dawnbench(write(tmp_path, table)))
    assert (entry.epoch_at_target, entry.accuracy_at_target) == (145.1392, 94.04000012397766)


def test_imagenet_is_decided_by_its_top_5_column(tmp_path: Path) -> None:
    entry = only(import_dawnbench(write(tmp_path, IMAGENET, "ImageNet", costPerHour=None)))
    assert (entry.task, entry.time_to_target_s, entry.accuracy_at_target) == ("ImageNet", 18_900, 93.002)
    assert entry.cost_per_hour_usd is None


@pytest.mark.parametrize("part", ["", "CIFAR10", "CIFAR10/train"])
def test_a_part_of_the_repository_is_enough(tmp_path: Path, part: str) -> None:
    assert only(import_dawnbench(write(tmp_path, HEADER + ROWS) / part)).task == "CIFAR10"


def test_without_a_folder_of_its_name_a_task_is_known_by_its_columns(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS, "mine", "small")
    write(tmp_path, IMAGENET, "mine", "large")
    found = import_dawnbench(tmp_path / "mine" / "train")
    assert [(row.task, row.source_file) for row in found.rows] == [
        ("ImageNet", "large.json"),
        ("CIFAR10", "small.json"),
    ]


def test_a_row_that_cannot_be_read_is_told_with_its_line_and_the_rest_is_imported(tmp_path: Path) -> None:
    table = HEADER + "1\tsoon\t60\n2\tnan\t93\n3\t0.5\n4\t0.75\t940\n5\t-1\t90\n6\t1.5\t94.03\n"
    found = import_dawnbench(write(tmp_path, table))
    assert [row.time_to_target_s for row in found.rows] == [5400]
    told = [(remark.file, remark.line, remark.what.split(":")[0]) for remark in found.refused]
    file = "CIFAR10/train/ada_net.tsv"
    assert told == [
        (file, 2, "hours"),
        (file, 3, "hours"),
        (file, 4, "expected 3 cells, got 2"),
        (file, 5, "top1Accuracy"),
        (file, 6, "hours"),
    ]


def test_of_very_many_bad_rows_some_are_told_one_by_one(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + "x\ty\tz\n" * 1000 + ROWS))
    assert len(found.rows) == 1
    assert len(found.refused) == 21
    assert found.refused[-1].what == "980 more rows that cannot be read"


@pytest.mark.parametrize(
    ("table", "differently", "told"),
    [
        (None, {}, "ada_net.json: there is no .tsv of this name"),
        ("", {}, "ada_net.tsv: empty"),
        (HEADER, {}, "ada_net.tsv: no row that can be read"),
        ("a\tb\n1\t2\n", {}, "ada_net.tsv:1: expected the columns epoch, hours, top1Accuracy; hours is missing"),
        ("hours\thours\ttop1Accuracy\n" + ROWS, {}, "ada_net.tsv:1: two columns of one name"),
        (HEADER + "1\t0.5\t93.9\n", {}, "ada_net.tsv: top1Accuracy never reaches 94 %: the best is 93.9 %"),
        (HEADER + "1\t0\t94.9\n", {}, "ada_net.tsv:2: the target is reached after 0 hours"),
        ("hours\ttop1Accuracy\n1\t95\n", {}, "ada_net.tsv:2: the target is reached at an epoch that is not given"),
        ((HEADER + ROWS).encode("utf-16"), {}, "ada_net.tsv:1: not UTF-8: byte 0xff"),
        ((HEADER + ROWS).encode() + b"5\t2\t9\xe9\n", {}, "ada_net.tsv:6: not UTF-8: byte 0xe9"),
        (HEADER + ROWS, {"timestamp": "20.4.2018"}, "ada_net.json: timestamp: expected yyyy-mm-dd, got '20.4.2018'"),
        (HEADER + ROWS, {"author": None}, "ada_net.json: author: expected text, got nothing"),
        (HEADER + ROWS, {"author": "\ud800"}, "ada_net.json: author: expected text, got '\\ud800'"),
        (HEADER + ROWS, {"hardware": ["V100"]}, "ada_net.json: hardware: expected text, got ['V100']"),
    ],
)
def test_an_entry_that_cannot_be_read_is_told_and_the_next_one_is_imported(
    tmp_path: Path, table: str | bytes | None, differently: dict[str, Any], told: str
) -> None:
    write(tmp_path, table, **differently)
    write(tmp_path, HEADER + ROWS, name="good")
    found = import_dawnbench(tmp_path)
    assert [row.source_file for row in found.rows] == ["CIFAR10/train/good.json"]
    (refused,) = found.refused
    assert str(refused).startswith(f"CIFAR10/train/{told}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{\n "version": "v1.0",\n "author": }\n', "x.json:3: not JSON"),
        (b"[" * 100_000, "x.json: not JSON: "),
        (b'{"costPerHour": NaN}', "x.json: not JSON: NaN is no number"),
        (b"[]", "x.json: expected a JSON object, got list"),
        (b'{"a": ' + b"9" * 5000 + b"}", "x.json: not JSON: "),
        (b"\xff\xfe{}", "x.json:1: not UTF-8"),
    ],
)
def test_a_description_that_is_no_json_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    write(tmp_path, HEADER + ROWS, name="x")
    (tmp_path / "CIFAR10/train/x.json").write_bytes(content)
    (refused,) = import_dawnbench(tmp_path).refused
    assert str(refused).startswith(f"CIFAR10/train/{told}")


def test_a_table_alone_is_told(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS)
    (tmp_path / "CIFAR10/train/log.tsv").write_text(HEADER + ROWS)
    found = import_dawnbench(tmp_path)
    assert len(found.rows) == 1
    assert [str(remark) for remark in found.refused] == [
        "CIFAR10/train/log.tsv: there is no .json of this name beside it"
    ]


def test_what_is_no_training_or_no_images_is_left_out_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS)
    write(tmp_path, "epoch\thours\tf1Score\n1\t1\t0.76\n", "SQuAD", "bidaf")
    (tmp_path / "CIFAR10/inference").mkdir()
    (tmp_path / "CIFAR10/inference/fast.json").write_text("{}")
    found = import_dawnbench(tmp_path)
    assert (len(found.rows), found.refused) == (1, ())
    assert sorted(note.what.split(":")[0] for note in found.notes) == [
        "inference is left out (1 entries)",
        "left out",
    ]


def test_a_price_that_is_no_number_is_left_blank_with_a_note(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + ROWS, costPerHour="about 3 dollars"))
    assert only(found).cost_per_hour_usd is None
    assert "costPerHour" in found.notes[0].what
    assert only(import_dawnbench(write(tmp_path, HEADER + ROWS, costPerHour="3.06"))).cost_per_hour_usd == 3.06


def test_hours_that_go_back_elsewhere_are_noted_and_the_first_row_counts(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + "1\t2.0\t94.5\n2\t1.0\t95\n"))
    assert only(found).time_to_target_s == 7200
    assert [str(note) for note in found.notes] == ["CIFAR10/train/ada_net.tsv:3: hours go back from 2 to 1"]


def test_hours_of_each_epoch_alone_are_no_time_to_a_target(tmp_path: Path) -> None:
    (refused,) = import_dawnbench(write(tmp_path, HEADER + "1\t0.13\t50\n2\t0.08\t90\n3\t0.07\t94.5\n")).refused
    assert str(refused).startswith("CIFAR10/train/ada_net.tsv:4: hours go back before the target is reached")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "MAX_FILE_BYTES", 1 << 10)
    (refused,) = import_dawnbench(write(tmp_path, HEADER + ROWS * 100)).refused
    assert "larger than" in refused.what


def test_pipes_links_to_folders_and_hidden_files_hold_nothing_up(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS)
    place = tmp_path / "CIFAR10/train"
    os.mkfifo(place / "pipe.json")
    (place / "round").symlink_to(tmp_path)
    (place / "._ada_net.json").write_text("resource fork")
    found = import_dawnbench(tmp_path)
    assert len(found.rows) == 1
    assert [str(remark) for remark in found.refused] == ["CIFAR10/train/pipe.json: not a file"]


def test_names_that_a_terminal_would_obey_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, "", name="red\x1b[31m")
    (refused,) = import_dawnbench(tmp_path).refused
    assert refused.file == "CIFAR10/train/red\\x1b[31m.tsv"


def test_words_that_a_terminal_would_obey_are_escaped_in_the_table(tmp_path: Path) -> None:
    found = import_dawnbench(write(tmp_path, HEADER + ROWS, author="Ada\x1b[2J"))
    assert "Ada\\x1b[2J" in as_csv(COLUMNS, found.rows)


def test_a_link_that_is_null_is_none(tmp_path: Path) -> None:
    write(tmp_path, HEADER + ROWS)
    path = tmp_path / "CIFAR10/train/ada_net.json"
    path.write_text(json.dumps(describe() | {"codeURL": None}))
    assert only(import_dawnbench(tmp_path)).code_url == ""


def test_a_folder_without_entries_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no DAWNBench entries here; expected <task>/train"):
        import_dawnbench(tmp_path)
    with pytest.raises(KitError, match="expected a folder of DAWNBench entries"):
        import_dawnbench(tmp_path / "nothing")


@given(table=st.one_of(st.binary(max_size=300), st.text("0123456789.\t\n\r-eNa", max_size=200).map(str.encode)))
def test_whatever_a_table_holds_it_is_imported_or_told(tmp_path_factory: pytest.TempPathFactory, table: bytes) -> None:
    found = import_dawnbench(write(tmp_path_factory.mktemp("entries"), HEADER.encode() + table))
    assert len(found.rows) + len(found.refused) >= 1
    assert all(row.time_to_target_s > 0 for row in found.rows)
