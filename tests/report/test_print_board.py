"""A board for people: what it says, and that names cannot write into it."""

import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from records import found, make_entry, make_record
from rich.console import Console
from support import ROOT

from kit.analysis.board import Filters, make_board
from kit.analysis.material import Material
from kit.analysis.on_reference import ReferenceTimes
from kit.analysis.reference import load_reference, opened
from kit.report.board import print_board
from kit.results.record import Record
from kit.results.store import write_record


def shown(*entries: list[Record], **how: Any) -> str:
    console = Console(file=StringIO(), width=250)
    print_board(make_board(Material(found(run for entry in entries for run in entry)), **how), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def test_a_row_has_median_interval_success_and_expected_time() -> None:
    text = shown(make_entry(1.0, 2.0, 3.0, 4.0, None, name="mine"))
    (line,) = (line for line in text.splitlines() if "mine" in line and "4/5" in line)
    for part in ("1 ", "3.000 s", "1.000 s to ∞", "4/5 (38 to 96%)", "5.000 s"):
        assert part in line
    assert "intervals hold the true median in 93.75% of cases" in text


@pytest.mark.parametrize("width", [60, 80, 100, 250])
def test_numbers_are_never_cut_however_narrow_the_terminal(width: int) -> None:
    entry = make_entry(100.25, 200.5, 300.75, None, 400.125, name="a_name_of_some_length", official={"seeds": 6})
    terminal = Console(file=StringIO(), width=width, force_terminal=True, color_system=None)
    print_board(make_board(Material(found(entry))), terminal)
    lines = terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in lines[2:4])
    for part in ("300.750 s", "100.250 s to ∞", "4/5 (38 to 96%)", "incomplete"):
        assert part in lines[3] or width < 80
    assert any(line.startswith("too narrow for:") for line in lines) == (width < 250)


def test_a_pipe_is_given_whole_lines() -> None:
    pipe = Console(file=StringIO(), width=40)
    print_board(make_board(Material(found(make_entry(1.0, 2.0, 3.0, 4.0, None, name="mine")))), pipe)
    text = pipe.file.getvalue()  # type: ignore[attr-defined]
    (line,) = (line for line in text.splitlines() if "mine" in line and "4/5" in line)
    assert " ".join(line.split()) == "1 mine 3.000 s 1.000 s to ∞ 4/5 (38 to 96%) 5.000 s 1 TFLOP no"


def test_what_speaks_against_an_entry_is_said_in_words() -> None:
    cheat = make_entry(1.0, 1.0, official={"split": "control"})
    control = [record.model_copy(update={"id": f"{record.id}-c"}) for record in cheat]
    text = shown(make_entry(1.0, 1.0, official={"seeds": 3}), control)
    assert "incomplete, control" in text
    assert "incomplete: fewer runs than there were to be" in text
    assert "shuffled labels, flagged: 2 of 2 runs reached the target although their labels were shuffled" in text


def test_a_board_without_official_runs_says_what_makes_some() -> None:
    text = shown([make_record()])
    assert "no official runs here; kit score makes them" in text
    assert "runs here that are of no scoring: 1" in text


def test_markup_in_what_a_stranger_wrote_is_shown_and_not_obeyed() -> None:
    record = make_entry(None, reason="[bold red]won[/]", outcome="crashed")[0]
    track = record.track.model_copy(update={"title": "[link=https://example.com]click[/link]\x1b[2J\n"})
    text = shown([record.model_copy(update={"track": track})])
    assert "[link=https://example.com]click[/link]\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}\n" in text
    assert "\x1b" not in text


def test_a_board_by_reference_time_says_of_each_entry_how_and_where_it_was_got() -> None:
    def on(device: str, *times_s: float, name: str) -> list[Record]:
        update = {"type": "cuda", "name": device, "threads": None}
        return make_entry(*times_s, name=name, device=make_record().device.model_copy(update=update))

    runs = [*on("NVIDIA H200", 1.0, 1.1, name="there"), *on("NVIDIA A100-SXM4-40GB", 2.0, 2.1, name="older")]
    records = {record.id: record for record in runs}
    reference = opened(load_reference("h200"))
    times = ReferenceTimes(reference, found(runs), lambda run: records[run.result.id], lambda _: None)
    text = shown(runs, by="reference", on=times)
    assert "all machines, not sealed" in text
    assert "by time to target on the reference device h200" in text
    (there,) = (line for line in text.splitlines() if line.lstrip().startswith("1 "))
    assert all(part in there for part in ("there", "1.050 s", "1.000 s to 1.100 s", "measured", "NVIDIA H200"))
    assert "older: spec, from sqrt(peak x bandwidth) in float32; a time by specifications is indicative" in text


def test_efficiency_and_front_are_shown_or_the_reason_why_not() -> None:
    energy = make_record().energy.model_copy(update={"device_j": 5.0, "unavailable_because": None})
    text = shown(make_entry(1.0, name="made", energy=energy), make_entry(2.0, name="other", energy=energy))
    (line,) = (line for line in text.splitlines() if line.lstrip().startswith("1 "))
    assert "1×" in line
    assert "yes" in line
    bare = shown(make_entry(1.0, name="other"))
    assert "no front of time and energy: no entry here has both" in bare
    assert "no algorithmic efficiency: no runs of made are here" in bare


def test_filters_that_leave_nothing_are_named() -> None:
    text = shown(make_entry(1.0), filters=Filters(device="H200", sealed=True))
    assert "no entry here is of device H200, sealed True" in text


def test_the_command_prints_a_board_and_its_json(tmp_path: Path) -> None:
    for record in make_entry(1.0, 2.0, name="mine"):
        (tmp_path / record.id).mkdir()
        write_record(record, tmp_path / record.id)

    def kit(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "kit.cli", "board", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    text = kit(str(tmp_path), "--by", "flops")
    assert text.returncode == 0, text.stderr
    assert "by training operations" in text.stdout
    assert '"by":"flops"' in kit(str(tmp_path), "--by", "flops", "--json").stdout.replace(" ", "")
    assert kit(str(tmp_path), "--csv").stdout.startswith("track,")
    for wrong in (("--json", "--csv"), ("--reference", "h100"), ("--by", "reference", "--reference", "abacus")):
        refused = kit(str(tmp_path), *wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    nowhere = kit(str(tmp_path / "nowhere"))
    assert nowhere.returncode == 2
    assert nowhere.stderr == f"kit: {tmp_path / 'nowhere'}: there are no results here\n"


def test_a_long_table_is_cut_and_says_where_the_rest_is() -> None:
    text = shown(*(make_entry(float(place), name=f"entry{place}") for place in range(1, 206)))
    assert "entry200 " in text
    assert "entry201" not in text
    assert "and 5 more entries: --csv or --json give all of them" in text
