"""Numbers at the edge of what files may hold: a stranger's file keeps nobody else's runs from being shown."""

import hashlib
from io import StringIO
from pathlib import Path

import duckdb
import pytest
from extremes import LARGE, SMALL, extreme
from profiles import make_profile
from rich.console import Console
from site_results import GPU, add_trace, gpu_entry, write_results

from kit.analysis.board import By, make_board
from kit.analysis.material import read_material
from kit.analysis.on_reference import read_reference_times
from kit.analysis.results_history import make_history
from kit.hardware.profile import write_profile
from kit.report.board import print_board
from kit.report.board_csv import board_csv
from kit.report.history import print_history
from kit.report.site.build import build_site
from kit.results.record import Conditions, ForeignProcess, Record

KEPT = ("schema_version", "target", "value", "seed_index", "memory_bytes", "reached", "config")
CONDITIONS = Conditions(
    temperature_start_c=30,
    temperature_end_c=60,
    clock_sm_start_mhz=1000,
    clock_sm_mean_mhz=1500.0,
    clock_sm_end_mhz=1700,
    clock_memory_mean_mhz=2600.0,
    throttled_power_s=0.0,
    throttled_heat_s=0.0,
    foreign_processes=(ForeignProcess(pid=1, first_seen_s=-1.0, last_seen_s=1.0, peak_bytes=1, computes=True),),
)


@pytest.fixture(scope="module", params=[LARGE, SMALL], ids=["large", "small"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two honest entries, one whose numbers are all as large or as small as they may be, and such a device profile."""
    folder = tmp_path_factory.mktemp("results")
    honest = [*gpu_entry("made", 2.0, 3.0, watts=10, flops=1e9), *gpu_entry("one", 1.0, 2.0, watts=10, flops=1e9)]
    numbers: tuple[float, ...] = request.param
    strange: list[Record] = [
        extreme(record.model_copy(update={"conditions": CONDITIONS}), numbers, keep=KEPT)
        for record in gpu_entry("two", 4.0, 3.0, watts=20, flops=2e9)
    ]
    strange[0] = add_trace(folder / "run-0004", strange[0], 1.0)
    write_results(folder, [*honest, *strange])
    profile = make_profile(device=GPU)
    write_profile(profile, folder / "calibration" / f"{profile.id}.json")
    write_profile(extreme(profile, numbers, keep=KEPT), folder / "calibration" / "x.json")
    return folder


def test_a_site_has_pages_of_all_that_could_be_read(results: Path, tmp_path: Path) -> None:
    built = build_site(results, tmp_path / "site")
    assert built.entries == 3
    for page in (tmp_path / "site").rglob("*.json"):
        assert "Infinity" not in page.read_text()
        assert "NaN" not in page.read_text()


@pytest.mark.parametrize("by", ["time", "energy", "flops", "cost", "reference"])
def test_every_board_and_history_is_printed(results: Path, by: By) -> None:
    material = read_material(results)
    on = None
    if by == "reference":
        on = read_reference_times(results, str(next((results / "calibration").glob("2*.json"))), material)
    board = make_board(material, by, on=on)
    shown = Console(file=StringIO(), width=200)
    print_board(board, shown)
    assert "one" in board_csv(board)
    assert board.model_dump_json()
    if by != "reference":
        print_history(make_history("results", material, by), shown)


@pytest.mark.parametrize(
    "strange", ["power_mw = 'nan'::DOUBLE", "power_mw = 1e308", "elapsed_s = 1e308", "elapsed_s = -1e308"]
)
def test_a_trace_of_strange_numbers_is_shown_or_says_why_not(tmp_path: Path, strange: str) -> None:
    folder = tmp_path / "results"
    (record,) = gpu_entry("made", 2.0, watts=10, flops=1e9)
    record = add_trace(folder / "run-0000", record, 1.0)
    assert record.trace is not None
    column, value = strange.split(" = ")
    path = folder / "run-0000" / record.trace.file
    query = f"SELECT * REPLACE (CASE WHEN elapsed_s > 0.9 THEN {value} ELSE {column} END AS {column}) FROM '{path}'"
    with duckdb.connect() as database:
        database.sql(query).write_parquet(str(tmp_path / "strange"))
    path.write_bytes((tmp_path / "strange").read_bytes())
    trace = record.trace.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    write_results(folder, [record.model_copy(update={"trace": trace})])
    assert build_site(folder, tmp_path / "site").entries == 1
    (page,) = (tmp_path / "site/entries").glob("*.html")
    shown, refused = 'data-figure="power-figure"' in page.read_text(), "not the columns of a meter" in page.read_text()
    assert (shown, refused) == (column == "elapsed_s", column == "power_mw")
