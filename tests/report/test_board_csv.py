"""A board for spreadsheets: every number, and no text that computes."""

import csv
import io
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from records import found, make_entry

from kit.analysis.board import make_board
from kit.analysis.material import Material
from kit.report.board_csv import board_csv
from kit.results.record import Energy, Record


def lines(*entries: list[Record], **how: Any) -> list[dict[str, str]]:
    board = make_board(Material(found(run for entry in entries for run in entry)), **how)
    return list(csv.DictReader(io.StringIO(board_csv(board))))


def test_each_entry_is_one_line_with_its_numbers_and_their_intervals() -> None:
    energy = Energy(
        device_j=500.0,
        method="nvml_total_energy",
        update_period_s=0.1,
        uncertainty_j=1.0,
        unavailable_because=None,
    )
    first, second = lines(
        make_entry(1.0, 2.0, 3.0, None, None, name="fast", energy=energy), make_entry(9.0, name="slow")
    )
    assert (first["submission"], first["rank"], first["tied"]) == ("fast", "1", "no")
    assert [float(first[name]) for name in ("time_s", "time_s_low", "time_s_high")] == [3.0, 1.0, math.inf]
    assert (first["runs"], first["reached"], first["success_rate"]) == ("5", "3", "0.6")
    assert (float(first["energy_j"]), float(first["train_flops"])) == (500.0, 1e12)
    assert (second["time_s"], second["time_s_low"]) == ("9.0", "")
    assert (second["energy_j"], second["energy_j_unavailable_because"]) == ("", "no GPU")
    assert first.keys() == second.keys()


def test_a_name_that_is_a_formula_is_no_formula() -> None:
    text = '=HYPERLINK("https://example.com","won")'
    (line,) = lines(make_entry(1.0, name=text))
    assert line["submission"] == f"'{text}"


@given(name=st.text(max_size=20), author=st.text(max_size=20))
def test_whatever_names_hold_there_is_one_line_and_no_cell_computes(name: str, author: str) -> None:
    (record,) = make_entry(1.0)
    who = record.submission.model_copy(update={"name": name, "authors": (author,)})
    (line,) = lines([record.model_copy(update={"submission": who})])
    for cell in line.values():
        assert not cell.lstrip(" ").startswith(tuple("=+-@\t\r\n＝＋－＠"))  # noqa: RUF001
    assert line["track"] == "made"
    assert line["rank"] == "1"


def test_a_board_without_entries_has_a_heading_alone() -> None:
    assert lines() == []
