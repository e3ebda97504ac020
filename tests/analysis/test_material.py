"""Folders of results as strangers leave them: whatever lies there, the board stands and says what it left out."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from records import make_entry, make_official, make_record
from support import ROOT

from kit.analysis import material
from kit.analysis.board import make_board
from kit.analysis.material import FEW, MAX_REASON, Material, read_material
from kit.report.board_csv import board_csv
from kit.results.record import Official, Record
from kit.results.signing import load_key, new_key, sign
from kit.results.store import RECORD_FILE, write_record

NOW = datetime(2027, 1, 1, tzinfo=UTC)
GOOD = make_entry(1.0, 2.0, 3.0, name="good")


def put(results: Path, *records: Record) -> list[Path]:
    folders = []
    for record in records:
        folder = results / record.id
        folder.mkdir(parents=True)
        write_record(record, folder)
        folders.append(folder)
    return folders


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three good runs."""
    put(tmp_path / "results", *GOOD)
    return tmp_path / "results"


def left_out(results: Path, **how: Any) -> dict[str, str]:
    """What is left out, and why; the good runs are ranked whatever lies beside them."""
    found = read_material(results, **{"now": NOW} | how)
    board = make_board(found)
    shown = {row.entry.submission: row.entry.runs for table in board.tables for row in table.rows}
    assert shown["good"] == 3
    assert all("\n" not in item.because and len(item.because) <= MAX_REASON + 4 for item in board.left_out)
    return {item.file: item.because for item in board.left_out}


# ---- what lies in a record's place


def link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bind(path: Path) -> None:
    # A socket's address is short; its folder is gone to.
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def hundred_megabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


OBJECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "not a plain file"),
    "a socket": (bind, "not a plain file"),
    "a folder": (os.mkdir, "not a plain file"),
    "a link": (link, "not a plain file"),
    "a link to a device": (link_to_zeros, "not a plain file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "not a plain file"),
    "a hundred megabytes": (hundred_megabytes, "too large"),
}


@pytest.mark.parametrize(("make", "because"), OBJECTS.values(), ids=OBJECTS.keys())
def test_what_is_no_file_is_listed_and_neither_followed_nor_waited_for(
    results: Path, make: Callable[[Path], object], because: str
) -> None:
    (results / "strange").mkdir()
    make(results / "strange" / RECORD_FILE)
    (found,) = left_out(results).items()
    assert found[0] == "strange/record.json"
    assert because in found[1]


def test_a_record_in_two_folders_counts_once(results: Path) -> None:
    shutil.copytree(results / GOOD[0].id, results / "zz-copy")
    assert left_out(results) == {"zz-copy/record.json": f"the same run as {GOOD[0].id}"}


def test_another_programs_json_is_no_record(results: Path) -> None:
    for name, content in (("foreign", {"model": "resnet", "acc": 0.9}), ("list", [1, 2])):
        (results / name).mkdir()
        (results / name / RECORD_FILE).write_text(json.dumps(content))
    assert left_out(results) == {"foreign/record.json": "not a record", "list/record.json": "not a record"}


# ---- what a record says


def changed(**paths: Any) -> bytes:
    """A good run's record of another id with some values changed, by dotted names with `__`."""
    content = json.loads(GOOD[0].model_copy(update={"id": "bad", "seed": 77}).model_dump_json())
    content["official"]["seed_index"] = 7
    for path, value in paths.items():
        *outer, last = path.split("__")
        inside = content
        for name in outer:
            inside = inside[name]
        inside[last] = value
    return json.dumps(content).encode()


WRONG: dict[str, tuple[bytes, str]] = {
    "NaN": (changed(time__to_target_s=float("nan")), "to_target_s"),
    "infinity": (changed(time__to_target_s=float("inf")), "to_target_s"),
    "a negative time": (changed(time__to_target_s=-1.0), "greater than or equal to 0"),
    "a time of ages": (changed(time__to_target_s=1e300), "less than or equal to"),
    "a huge integer": (changed(flops__train_total=10**400), "train_total"),
    "a price of all the money": (
        changed(cost={"usd_per_hour": 1e308, "price_source": "https://example.com", "price_date": "2026-01-01"}),
        "usd_per_hour",
    ),
    "no time at all": (changed(time__to_target_s=0), "in no time"),
    "a time and a miss": (changed(outcome="missed"), "ended as 'missed', and has a time"),
    "no time and a success": (changed(time__to_target_s=None), "ended as 'reached', and has no time"),
    "longer than the whole": (changed(time__total_s=0.5), "longer to its target than in all"),
    "no verdict": (changed(evaluations=[]), "no evaluation that reached it"),
    "a verdict short of the target": (
        changed(evaluations=[{"elapsed_s": 1, "evaluation_s": 0, "value": 0.1, "reached": True}]),
        "no evaluation that reached it",
    ),
    "a score of more than all": (
        changed(evaluations=[{"elapsed_s": 1, "evaluation_s": 0, "value": 1e300, "reached": True}]),
        "less than or equal to 1",
    ),
    "the future": (changed(started_at="2999-01-01T00:00:00Z"), "2999-01-01, which is in the future"),
    "the end of time": (changed(started_at="9999-12-31T23:59:59-12:00"), "started_at"),
    "the beginning of time": (changed(started_at="0001-01-01T00:00:00+12:00"), "started_at"),
    "no zone": (changed(started_at="2026-01-01T00:00:00"), "started_at"),
    "a key twice": (changed().replace(b'"seed": 77', b'"seed": 77, "seed": 78'), "the key 'seed' is given twice"),
    "a key twice further down": (
        changed().replace(b'"lr": 0.1', b'"lr": 0.1, "lr": 9'),
        "the key 'lr' is given twice",
    ),
    "UTF-16": (changed().decode().encode("utf-16"), "not a"),
    "Latin-1": (changed(submission__name="café").replace(b"\\u00e9", b"\xe9"), "not a"),
    "depth": (changed().replace(b'"lr": 0.1', b'"lr": ' + b"[" * 5000 + b"]" * 5000), "not a"),
    "half of it": (changed()[:1000], "not a record"),
    "a key as long as a book": (changed(**{"x" * 10_000: 1}), "not a valid record"),
}


@pytest.mark.parametrize(("content", "because"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_is_listed_with_its_reason(results: Path, content: bytes, because: str) -> None:
    (results / "bad").mkdir()
    (results / "bad" / RECORD_FILE).write_bytes(content)
    (found,) = left_out(results).items()
    assert found[0] == "bad/record.json"
    assert because in found[1]


def test_the_record_that_these_are_made_from_is_a_good_one(results: Path) -> None:
    (results / "bad").mkdir()
    (results / "bad" / RECORD_FILE).write_bytes(changed(submission__name="other", submission__source_sha256="b" * 64))
    assert left_out(results) == {}


def test_a_script_in_a_name_is_text(results: Path) -> None:
    name = "<script>alert(1)</script>\x1b[2J"
    put(
        results,
        make_entry(1.0)[0].model_copy(
            update={"submission": GOOD[0].submission.model_copy(update={"name": name, "source_sha256": "d" * 64})}
        ),
    )
    (table,) = make_board(read_material(results, NOW)).tables
    assert name in [row.entry.submission for row in table.rows]


# ---- where runs lie


def test_runs_in_folders_of_folders_are_found_and_hidden_ones_are_not(results: Path) -> None:
    deep = results / "2026" / "spring" / "second round"
    put(deep, *make_entry(5.0, name="deep"))
    put(results / ".killed", *make_entry(6.0, name="hidden"))
    put(results / GOOD[0].id / "submission", *make_entry(7.0, name="inside a run"))
    (table,) = make_board(read_material(results, NOW)).tables
    assert {row.entry.submission: row.folders[0] for row in table.rows} == {
        "good": GOOD[0].id,
        "deep": f"2026/spring/second round/{make_entry(5.0, name='deep')[0].id}",
    }


def test_a_runs_own_folder_is_a_result(tmp_path: Path) -> None:
    (folder,) = put(tmp_path, *make_entry(5.0))
    (table,) = make_board(read_material(folder, NOW)).tables
    assert table.rows[0].folders == (".",)


def test_links_to_folders_are_not_followed(results: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", *make_entry(1.0, name="elsewhere"))
    (results / "linked").symlink_to(tmp_path / "elsewhere")
    (results / "loop").symlink_to(results)
    assert left_out(results) == dict.fromkeys(("linked", "loop"), "a link to a folder, which is not followed")


def test_a_name_that_is_no_text_can_be_printed(results: Path) -> None:
    shutil.copytree(results / GOOD[0].id, os.fsdecode(os.fsencode(results) + b"/caf\xe9"))
    assert left_out(results) == {"caf\N{REPLACEMENT CHARACTER}/record.json": "the name of its folder is not UTF-8"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root can look into every folder")
def test_a_folder_that_cannot_be_looked_into_is_listed(results: Path) -> None:
    (results / "closed").mkdir(mode=0)
    assert left_out(results) == {"closed": "Permission denied"}


# ---- signed runs


def official(record: Record, **differently: Any) -> Official:
    assert record.official is not None
    return record.official.model_copy(update=differently)


def test_what_is_signed_is_believed_and_what_was_changed_since_is_not(results: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    key = load_key(tmp_path / "key.pem")
    signed, tampered, cut = put(results, *make_entry(5.0, 6.0, 7.0, name="signed"))
    for folder in (signed, tampered, cut):
        sign(folder, key)
    record = tampered / RECORD_FILE
    record.write_bytes(record.read_bytes().replace(b'"to_target_s": 6.0', b'"to_target_s": 0.5'))
    (cut / RECORD_FILE).write_bytes((cut / RECORD_FILE).read_bytes()[:-100])
    found = left_out(results)
    assert found.pop(f"{tampered.name}/record.json") == "the signature does not hold: record.json was changed"
    assert "Invalid JSON" in found.pop(f"{cut.name}/record.json") or not found
    (table,) = make_board(read_material(results, NOW)).tables
    (row,) = (row for row in table.rows if row.entry.submission == "signed")
    assert (row.entry.runs, row.signed_runs) == (1, 1)


def test_a_signed_run_comes_to_the_same_as_one_that_is_not(results: Path, tmp_path: Path) -> None:
    before = [run.result for run in read_material(results, NOW).runs]
    new_key(tmp_path / "key.pem")
    for record in GOOD:
        sign(results / record.id, load_key(tmp_path / "key.pem"))
    after = read_material(results, NOW)
    assert {run.signature.state for run in after.runs} == {"valid"}
    assert [run.result for run in after.runs] == before


def test_a_signature_vouches_for_no_record_that_cannot_be(results: Path, tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    for number, content in enumerate((b"{}", changed(time__to_target_s=-1), b"[" * 100_000)):
        folder = results / f"bad-{number}"
        folder.mkdir()
        (folder / RECORD_FILE).write_bytes(content)
        sign(folder, load_key(tmp_path / "key.pem"))
    assert len(left_out(results)) == 3


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, link_to_zeros, hundred_megabytes])
def test_what_lies_in_a_signatures_place_is_waited_for_as_little(results: Path, make: Callable[[Path], object]) -> None:
    make(results / GOOD[0].id / "record.sig.json")
    found = make_board(read_material(results, NOW))
    (item,) = found.left_out
    assert item.file == f"{GOOD[0].id}/record.json"
    assert "the signature does not hold: record.sig.json" in item.because


# ---- many


def test_many_processes_read_what_one_reads(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(results, *make_entry(*[1.0, None] * 6, name="more"))
    (results / "bad").mkdir()
    (results / "bad" / RECORD_FILE).write_text("{}")
    alone = read_material(results, NOW)
    monkeypatch.setattr(material, "FEW", 3)
    monkeypatch.setattr(material, "CHUNK", 2)
    assert FEW > 3
    together = read_material(results, NOW)
    assert together == alone
    assert make_board(together).model_dump_json() == make_board(alone).model_dump_json()


def test_a_script_may_read_many_as_it_reads_few(results: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # not one that other processes could run once more
    script.write_text(
        "import sys\nfrom datetime import UTC, datetime\nfrom pathlib import Path\nfrom kit.analysis import material\n"
        "material.FEW, now = 1, datetime(2027, 1, 1, tzinfo=UTC)\n"
        "print(len(material.read_material(Path(sys.argv[1]), now).runs))\n"
    )
    done = subprocess.run([sys.executable, script, results], check=True, capture_output=True, text=True)
    assert done.stdout == f"{len(GOOD)}\n"


def test_the_same_results_give_the_same_bytes_wherever_and_however_they_are_read(results: Path, tmp_path: Path) -> None:
    put(results, *make_entry(2.0, 3.0, name="more"), *make_entry(4.0, name="another"))
    (results / "bad").mkdir()
    (results / "bad" / RECORD_FILE).write_text("{}")
    copied = tmp_path / "in another order"
    copied.mkdir()
    for folder in sorted(results.iterdir(), reverse=True):
        shutil.copytree(folder, copied / folder.name)

    def board(place: str, cwd: Path, seed: str, *how: str) -> bytes:
        command = [sys.executable, "-m", "kit.cli", "board", place, *how]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=True)
        return done.stdout

    for how in (("--json",), ("--csv",), ()):
        first = board(str(results), ROOT, "0", *how)
        assert b"another" in first
        assert board("in another order", tmp_path, "1", *how) == first


# ---- anything

WHOLE = [GOOD[0].model_dump_json(indent=2).encode(), make_record(official=make_official()).model_dump_json().encode()]
WORDS = [
    b"null", b"-1", b"1e999", b"1e308", b"NaN", b'""', b"[]", b"{}", b'"reached"', b'"a":', b"[" * 600, b"9" * 5000,
    b"9" * 300, b"\xff", b"\\ud800", b"0", b"0.0", b"true", b'"9999-12-31T23:59:59-12:00"', b'"=1+1"', b'"<script>"',
]  # fmt: skip


@st.composite
def hostile_results(draw: st.DrawFn) -> list[bytes]:
    """A few record files, with values and stretches of bytes replaced."""
    files = []
    for _ in range(draw(st.integers(1, 3))):
        content = bytearray(draw(st.sampled_from(WHOLE)))
        for _ in range(draw(st.integers(0, 3))):
            if draw(st.booleans()):  # a value: what follows a colon
                starts = [at + 1 for at, byte in enumerate(content) if byte == ord(":")]
                at = draw(st.sampled_from(starts or [0]))
                until = min((end for end in (content.find(b",", at), content.find(b"}", at)) if end >= 0), default=at)
                content[at:until] = draw(st.sampled_from(WORDS))
            else:
                at = draw(st.integers(0, len(content)))
                content[at : at + draw(st.integers(0, 30))] = draw(st.binary(max_size=8))
        files.append(bytes(content))
    return files


@pytest.mark.timeout(3600)
def test_no_record_files_break_a_board(fuzz_inputs: int) -> None:
    def read(files: list[bytes]) -> None:
        with tempfile.TemporaryDirectory() as place:
            for number, content in enumerate(files):
                (Path(place) / f"{number}").mkdir()
                (Path(place) / f"{number}" / RECORD_FILE).write_bytes(content)
            found: Material = read_material(Path(place), NOW)
            for by in ("time", "energy", "flops", "cost"):
                board = make_board(found, by)
                listed = sum(row.entry.runs for table in board.tables for row in table.rows)
                others = sum(
                    1 for run in found.runs if run.result.official and run.result.official.split != "published"
                )
                assert listed + others + len(board.left_out) + board.unofficial == len(files)
                board.model_dump_json()
                board_csv(board)

    fuzz(read, hostile_results(), fuzz_inputs)
