"""`kit import` and `kit export` on the command line: tables and remarks where they belong, and the exit status."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from records import make_entry, make_official, make_record
from support import kit
from typer.testing import CliRunner, Result

from kit.cli import app
from kit.errors import KitError
from kit.results.record import Flops
from kit.results.store import write_record

DESCRIPTION = {
    "version": "v1.0",
    "author": "Ada",
    "framework": "PyTorch",
    "model": "net",
    "hardware": "V100",
    "timestamp": "2018-04-20",
}


def run(*arguments: str) -> Result:
    """A command, in this process."""
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def entries(tmp_path: Path) -> Path:
    """Two entries of DAWNBench; the second has a row that cannot be read, and never reaches the target."""
    place = tmp_path / "entries/CIFAR10/train"
    place.mkdir(parents=True)
    for name, table in (
        ("good", "epoch\thours\ttop1Accuracy\n9\t0.5\t94.1\n"),
        ("bad", "epoch\thours\ttop1Accuracy\nx\n"),
    ):
        (place / f"{name}.json").write_text(json.dumps(DESCRIPTION))
        (place / f"{name}.tsv").write_text(table)
    return tmp_path / "entries"


def test_what_was_refused_is_told_apart_from_the_table_and_in_the_status(entries: Path) -> None:
    done = run("import", "dawnbench", str(entries))
    assert done.exit_code == 1
    assert [row["time_to_target_s"] for row in csv.DictReader(done.stdout.splitlines())] == ["1800"]
    assert done.stderr.splitlines() == [
        "refused: CIFAR10/train/bad.tsv:2: expected 3 cells, got 1",
        "refused: CIFAR10/train/bad.tsv: no row that can be read",
    ]


def test_a_table_goes_to_a_file_and_nothing_is_replaced(entries: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    (entries / "CIFAR10/train/bad.json").unlink()
    (entries / "CIFAR10/train/bad.tsv").unlink()
    for _ in range(2):
        done = run("import", "dawnbench", str(entries), "-o", str(table))
        assert (done.exit_code, done.stdout) == (0, f"{table}: 1 rows\n")
    assert len(table.read_text().splitlines()) == 2
    table.write_text("mine")
    with pytest.raises(KitError, match="is there already, and says something else"):
        raise run("import", "dawnbench", str(entries), "-o", str(table)).exception or AssertionError
    assert table.read_text() == "mine"


def test_everything_is_there_for_programs(entries: Path) -> None:
    content = json.loads(run("import", "dawnbench", str(entries), "--json").stdout)
    assert [row["source_file"] for row in content["rows"]] == ["CIFAR10/train/good.json"]
    assert [(remark["file"], remark["line"]) for remark in content["refused"]] == [
        ("CIFAR10/train/bad.tsv", 2),
        ("CIFAR10/train/bad.tsv", None),
    ]
    assert content["notes"] == []


def test_a_users_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    for arguments in (["import", "dawnbench", "nowhere"], ["export", "nowhere", "--format", "mlperf", "-o", "x"]):
        done = kit(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("kit: nowhere")
        assert done.stderr.count("\n") == 1


def test_an_entrys_median_run_is_what_is_exported(tmp_path: Path) -> None:
    flops = Flops(method="replay", train_total=2 * 864 * 10**14, evaluation_total=0, trusted=True)
    runs = make_entry(3.0, 1.0, 2.0, flops=flops)
    for record in runs:
        (tmp_path / "results" / record.id).mkdir(parents=True)
        write_record(record, tmp_path / "results" / record.id)
    out = tmp_path / "row.csv"
    done = run("export", str(tmp_path / "results"), "--format", "ai-and-efficiency", "-o", str(out))
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, str(out))
    assert runs[2].id in out.read_text()
    back = run("import", "ai-and-efficiency", str(out))
    assert [row["train_flops"] for row in csv.DictReader(back.stdout.splitlines())] == [str(2 * 864 * 10**14)]


@pytest.mark.parametrize(
    ("to", "told"),
    [
        ("dawnbench", "DAWNBench raced for"),
        ("mlperf", "MLPerf's ResNet-50 races to"),
        ("codabench", "name an image that has this kit with --image"),
        ("ai-and-efficiency", "cannot write"),
    ],
)
def test_an_export_that_cannot_be_made_leaves_nothing(to: str, told: str, tmp_path: Path) -> None:
    trusted = Flops(method="replay", train_total=10**12, evaluation_total=0, trusted=True)
    write_record(make_record(flops=trusted), tmp_path)
    (tmp_path / "file").write_text("")
    before = sorted(os.listdir(tmp_path))
    place = tmp_path / "file" / "below" if to == "ai-and-efficiency" else tmp_path / "out"
    failed = run("export", str(tmp_path), "--format", to, "-o", str(place)).exception
    assert isinstance(failed, KitError)
    assert told in str(failed)
    assert sorted(os.listdir(tmp_path)) == before


def test_an_image_is_for_codabench_alone(tmp_path: Path) -> None:
    write_record(make_record(), tmp_path)
    done = run("export", str(tmp_path), "--format", "mlperf", "-o", "x", "--image", "y")
    assert "--image names the container image of a Codabench competition" in str(done.exception)


@pytest.mark.parametrize("to", ["dawnbench", "ai-and-efficiency", "mlperf", "codabench"])
@pytest.mark.parametrize(
    ("differently", "told"),
    [
        ({"track": make_record().track.model_copy(update={"rehearsal": True})}, "a rehearsal, on other data"),
        ({"official": make_official(split="control")}, "a run on the control split"),
    ],
)
def test_a_run_on_other_data_is_no_result_for_others(
    to: str, differently: dict[str, Any], told: str, tmp_path: Path
) -> None:
    write_record(make_record(**differently), tmp_path)
    failed = run("export", str(tmp_path), "--format", to, "-o", str(tmp_path / "x")).exception
    assert isinstance(failed, KitError)
    assert told in str(failed)
