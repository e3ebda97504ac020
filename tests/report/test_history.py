"""`kit progress` as a person and a program see it."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from records import make_entry
from rich.cells import cell_len
from support import ROOT, kit
from typer.testing import CliRunner

from kit.analysis.histories import history_named
from kit.analysis.history import History
from kit.cli import app
from kit.errors import KitError
from kit.results.published.ai_and_efficiency import ROWS_FILE
from kit.results.store import write_record


def progress(*arguments: str, columns: int = 160) -> str:
    done = CliRunner().invoke(
        app, ["progress", *arguments], env={"COLUMNS": str(columns)}, catch_exceptions=False, color=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def texts(path: Path) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.parse(path).iter() if node.tag.endswith("}text")]


def test_ai_and_efficiency_shows_its_figures_beside_the_published_ones_and_its_faults() -> None:
    text = progress("ai-and-efficiency")
    alexnet = text[text.index("AlexNet: 79.1 %") : text.index("ResNet-50: 92.9 %")]
    assert "efficiency × 44.93 (published: 44) in 83.8 months; Moore's law in that time × 11.26" in alexnet
    assert "doubling time 15.3 months by its ends, 15.7 by least squares (R² 0.98); published: 16" in alexnet
    assert "leaving one out, from 15.3 (without GoogLeNet) to 16.8 (without AlexNet)" in alexnet
    assert "13.0 to 18.4 months in 95 % of 2,000 resamples" in alexnet
    (b1,) = (line for line in text.splitlines() if "EfficientNet (b1)" in line)
    assert " ".join(b1.split()) == "2019-05-28 EfficientNet (b1) 0.75 22.67 10 private, forward, factor"
    for level, ratio in (("ResNet-50", "22.67"), ("Seq2Seq", "58.12"), ("GNMT", "8.95")):
        assert f"efficiency × {ratio} (published: " in text[text.index(f"\n{level}: ") :]
    for flag in ("date", "forward", "factor", "rounded", "epochs", "private", "twice", "link"):
        assert f"\n{flag}: " in text
    assert "all 16 models" in text
    assert "compare within a level only" in text


def test_dawnbench_shows_what_is_left_on_fixed_hardware() -> None:
    text = progress("dawnbench-cifar10")
    assert "9 of 31 results cost less than all before them" in text
    rows = {line.split("  ")[0].strip() or line.strip().split("  ")[0]: line for line in text.splitlines()}
    assert " ".join(rows["software and algorithm"].split()) == "software and algorithm × 71.43 × 18.45"
    assert " ".join(rows["any hardware, in all"].split()) == "any hardware, in all × 965.26 × 965.26"
    assert " ".join(rows["of that the rest"].split()) == "of that the rest × 13.51 × 52.32"
    assert " ".join(rows["of that hardware and scale"].split()) == "of that hardware and scale × 2.04 × 1.00"
    assert "none" in progress("dawnbench-imagenet")


@pytest.mark.parametrize("name", ["ai-and-efficiency", "dawnbench-cifar10", "dawnbench-imagenet"])
def test_tables_fit_a_terminal_of_80_columns(name: str) -> None:
    for line in progress(name, columns=80).splitlines():
        if line[:4].isdigit() or line.startswith((" ", "software", "any")):
            assert cell_len(line) <= 80
            assert "…" not in line[:10] + line[42:], line


def test_the_documented_figures_of_fixed_hardware_are_those_that_come_out() -> None:
    page = (ROOT / "docs/progress.md").read_text(encoding="utf-8")
    shown = [
        row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith(("| CIFAR-10", "| ImageNet |"))
    ]
    assert len(shown) == 3
    for task, hardware, within, in_that_time, whole, rest in shown:
        history = history_named(f"dawnbench-{task.replace('-', '').lower()}")
        (one,) = (one for one in history.fixed_hardware if f"{one.count} × {one.device}" == hardware)
        assert one.progress is not None
        assert one.same_period_ratio is not None
        found = (
            one.progress.ratio,
            one.same_period_ratio / one.progress.ratio,
            history.progress[0].ratio,
            one.rest_ratio,
        )
        expected = [float(text.replace(",", "")) for text in (within, in_that_time, whole, rest)]
        assert found == pytest.approx(expected, rel=0.006), (task, hardware)


def test_a_program_gets_every_number() -> None:
    history = History.model_validate(json.loads(progress("dawnbench-cifar10", "--json")))
    assert len(history.progress[0].series.points) == 31
    assert {one.count for one in history.fixed_hardware} == {1, 8}
    content = json.loads(progress("ai-and-efficiency", "--json"))
    assert content["progress"][0]["doubling"]["fit"]["interval"]["resamples"] == 2000
    assert content["progress"][0]["series"]["points"][0]["published_ratio"] == 1


def test_results_are_a_table_with_flags_and_with_what_was_left_out(tmp_path: Path) -> None:
    for name, day in (("early", "2025-01-01"), ("late", "2026-01-01"), ("never", "2026-02-01")):
        for record in make_entry(None if name == "never" else 1.0, name=name):
            operations = record.flops.model_copy(update={"train_total": 4 * 10**12 if name == "early" else 10**12})
            submission = record.submission.model_copy(update={"date": day})
            (tmp_path / record.id).mkdir()
            write_record(
                record.model_copy(update={"flops": operations, "submission": submission}), tmp_path / record.id
            )
    text = progress(str(tmp_path))
    assert "made version 1: Made, 90 %" in text
    assert "efficiency × 4.00 in 12.0 months" in text
    assert "unsealed: by runs without a sandbox" in text
    assert "left out: never (" in text
    assert "half of its runs or more missed the target" in text
    assert "4 TFLOP" in text


def test_what_was_imported_and_what_was_exported_has_a_history_too(tmp_path: Path) -> None:
    entries = tmp_path / "CIFAR10/train"
    entries.mkdir(parents=True)
    for name, day, hours in (("ada_old", "2018-04-20", 4), ("ada_new", "2019-04-20", 1)):
        description = {"version": "v1.0", "author": "Ada", "authorEmail": "", "framework": "PyTorch", "model": name}
        description |= {"hardware": "8 x V100", "timestamp": day}
        (entries / f"{name}.json").write_text(json.dumps(description))
        (entries / f"{name}.tsv").write_text(f"epoch\thours\ttop1Accuracy\n1\t{hours}\t94.5\n")
    table = tmp_path / "imported.csv"
    assert CliRunner().invoke(app, ["import", "dawnbench", str(tmp_path), "-o", str(table)]).exit_code == 0
    assert "efficiency × 4.00 in 12.0 months" in progress(str(table))

    (record,) = make_entry(1.0)
    (tmp_path / record.id).mkdir()
    path, row = write_record(record, tmp_path / record.id), tmp_path / "row.csv"
    exported = ["export", str(path), "--format", "ai-and-efficiency", "-o", str(row)]
    assert CliRunner().invoke(app, exported).exit_code == 0
    again = tmp_path / "again.csv"
    assert CliRunner().invoke(app, ["import", "ai-and-efficiency", str(row), "-o", str(again)]).exit_code == 0
    for file in (row, again):
        content = History.model_validate(json.loads(progress(str(file), "--json")))
        (point,) = content.progress[0].series.points
        assert point.cost * 8.64e16 == pytest.approx((record.flops.train_total or 0) / 2)


def test_a_folder_without_results_says_so(tmp_path: Path) -> None:
    assert "no results with energy and a date here" in progress(str(tmp_path), "--by", "energy")


def test_names_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    table = tmp_path / "theirs.csv"
    table.write_text(ROWS_FILE.read_text().replace("GoogLeNet", "[red]Goo\x1b[31mgLe$Net$[/]"))
    text = progress(str(table), "--plot", str(tmp_path / "theirs.png"))
    assert "\x1b" not in text
    assert "[red]Goo" in text


@pytest.mark.parametrize("name", ["ai-and-efficiency", "dawnbench-imagenet"])
def test_the_picture_names_records_and_moores_law(name: str, tmp_path: Path) -> None:
    path = tmp_path / "progress.svg"
    progress(name, "--plot", str(path))
    found = texts(path)
    assert any(text.startswith("Moore's law: doubling in 24 months") for text in found)
    if name == "ai-and-efficiency":
        assert {
            "GoogLeNet",
            "EfficientNet (b0) †",
            "† flagged; kit progress says why",
            "least squares: doubling in 15.7 months",
        } <= set(found)
        assert sum(text.startswith("training operations, teraflop/s-days") for text in found) == 4
    else:
        assert {"8 × V100: × 40.60", "least squares: doubling in 2.3 months", "ResNet152"} <= set(found)
    first = path.read_bytes()
    progress(name, "--plot", str(path))
    assert path.read_bytes() == first


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_the_picture_has_the_format_of_its_name(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"progress.{ending}"
    progress("ai-and-efficiency", "--plot", str(path))
    if ending == "png":
        with Image.open(path) as picture:
            assert picture.width > 1500
            assert len(picture.convert("RGB").getcolors(2**24) or []) > 10
    else:
        assert path.read_bytes().startswith(b"%PDF")


def test_one_result_alone_can_be_drawn(tmp_path: Path) -> None:
    (record,) = make_entry(1.0)
    (tmp_path / record.id).mkdir()
    write_record(record, tmp_path / record.id)
    path = tmp_path / "one.svg"
    assert "there is one result only" in progress(str(tmp_path), "--plot", str(path))
    assert "made †" in texts(path)
    assert "1 TFLOP" in texts(path)


def test_a_place_without_a_series_stays_empty(tmp_path: Path) -> None:
    table = tmp_path / "three.csv"
    lines = ROWS_FILE.read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join(line for line in lines if not line.startswith(("#", "GNMT"))))
    path = tmp_path / "three.svg"
    progress(str(table), "--plot", str(path))
    panels = [node for node in ElementTree.parse(path).iter() if node.get("id", "").startswith("axes_")]
    assert [any(part.tag.endswith("}text") for part in panel.iter()) for panel in panels] == [True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ai-and-efficiency", "--plot", "picture.gif"], "expected a file name that ends in .png, .svg, .pdf"),
        (["ai-and-efficiency", "--plot", "no/where.png"], "cannot write"),
        ([".", "--plot", "picture.png"], "nothing to draw"),
        (["results"], "there is no such folder"),
        (["ai-and-efficiency", "--by", "cost"], "knows training operations alone"),
    ],
)
def test_what_cannot_be_shown_is_a_mistake(
    arguments: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match=expected):
        CliRunner().invoke(app, ["progress", *arguments], catch_exceptions=False)


def test_a_mistake_is_one_line_and_status_2() -> None:
    done = kit("progress", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("kit: nothing: expected ai-and-efficiency, ")
    assert done.stderr.count("\n") == 1
