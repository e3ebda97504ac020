"""`kill -9` of `kit score` at any moment: nothing is lost, and nothing is run twice."""

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support import ROOT, why_no_sandbox
from tiny import LEARNS, make_track, prepare_tiny, write_submission, write_track

from kit.analysis.board import make_board
from kit.analysis.material import read_material
from kit.results.record import IsolationMode, Record
from kit.results.signing import new_key, verify
from kit.results.store import read_record
from kit.score.ledger import KILLED_DIR
from kit.score.seeds import read_or_make_secret, seeds

WAIT_S = 900
CHECKS_A_SECOND = 50


class Command:
    """`kit score` on the tiny track, as an organizer types it."""

    def __init__(self, folder: Path, *, packs: int, seeds: int, isolation: IsolationMode = "process") -> None:
        self.results = folder / "results"
        prepare_tiny(folder / "data")
        new_key(folder / "key.pem")
        self.names = [f"entry_{number}" for number in range(packs)]
        paths = [
            write_submission(folder / "submissions" / name, f"{LEARNS}\n# {name}\n", name=name) for name in self.names
        ]
        self.line = [
            *(sys.executable, "-m", "kit.cli", "score", *map(str, paths)),
            *("--track", str(write_track(folder)), "--data-dir", str(folder / "data")),
            *("--results", str(self.results), "--key", str(folder / "key.pem"), "--seeds", str(seeds)),
            *("--no-calibrate", "--isolation", isolation, "--device", "cpu", "--loader", "torch"),
        ]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(self.line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self) -> str:
        done = subprocess.run(self.line, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill_when(self, moment: Callable[[Path], bool], later_s: float = 0.0) -> None:
        """Start, and kill so long after a moment of the results; it must not have ended by itself."""
        scoring = self.start()
        try:
            self.wait_for(moment, scoring)
            assert not ended_within(scoring, later_s), scoring.communicate()[0]
        finally:
            scoring.kill()
            scoring.communicate()

    def wait_for(self, moment: Callable[[Path], bool], scoring: "subprocess.Popen[str]") -> None:
        """Until a moment of the results, while the scoring goes on."""
        deadline = time.monotonic() + WAIT_S
        while not moment(self.results):
            assert time.monotonic() < deadline, "did not happen in time"
            assert not ended_within(scoring, 1 / CHECKS_A_SECOND), scoring.communicate()[0]


def skip_without_sandbox() -> None:
    if (because := why_no_sandbox()) is not None:
        pytest.skip(because)


def ended_within(scoring: "subprocess.Popen[str]", wait_s: float) -> bool:
    try:
        scoring.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def so_many_began(runs: int, results: Path) -> bool:
    return len(list(results.glob("2*"))) >= runs


def so_many_clocks_run(runs: int, results: Path) -> bool:
    return sum("clock_started" in path.read_text() for path in results.glob("2*/events.jsonl")) >= runs


def records(results: Path) -> list[Record]:
    return [read_record(path) for path in sorted(results.glob("2*"))]


def board_json(results: Path) -> str:
    return subprocess.run(
        [sys.executable, "-m", "kit.cli", "board", str(results), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def check_whole(command: Command, folder: Path, count: int) -> None:
    """Every pack has every seed once, counted and signed, and the board is that of these records alone."""
    expected = seeds(read_or_make_secret(Path(f"{command.results}.secret"), command.results), make_track(), count)
    found = records(command.results)
    assert Counter((record.submission.name, record.seed) for record in found) == Counter(
        (name, seed) for name in command.names for seed in expected
    )
    for record in found:
        assert record.outcome == "reached"
        assert record.flops.method == "replay"
        assert verify(command.results / record.id).state == "valid"
    board = make_board(read_material(command.results))
    (table,) = board.tables
    assert not board.left_out
    shown = {row.entry.submission: (row.entry.runs, row.flags) for row in table.rows}
    assert shown == dict.fromkeys(command.names, (count, ()))
    undisturbed = folder / "undisturbed"
    for record in found:
        shutil.copytree(command.results / record.id, undisturbed / record.id)
    assert board_json(undisturbed) == board_json(command.results)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["process", "sandbox"])
def test_a_scoring_that_was_killed_in_a_run_goes_on_with_that_run(tmp_path: Path, isolation: IsolationMode) -> None:
    if isolation == "sandbox":
        skip_without_sandbox()
    command = Command(tmp_path, packs=2, seeds=2, isolation=isolation)
    command.kill_when(partial(so_many_clocks_run, 2))
    before = {record.id for record in (read_record(path.parent) for path in command.results.glob("2*/record.json"))}
    assert before
    said = command.finish()
    assert f"{len(before)} of 4 runs are there already" in said
    assert before <= {record.id for record in records(command.results)}
    aside = list((command.results / KILLED_DIR).iterdir()) if len(before) == 1 else []
    assert len(aside) == (len(before) == 1)  # it may have been just over
    assert {record.isolation.mode for record in records(command.results)} == {isolation}
    check_whole(command, tmp_path, 2)
    again = command.finish()
    assert "4 of 4 runs are there already" in again
    assert len(records(command.results)) == 4


def test_ctrl_c_leaves_a_record_and_the_next_call_goes_on(tmp_path: Path) -> None:
    command = Command(tmp_path, packs=1, seeds=1)
    (folder,) = (tmp_path / "submissions").iterdir()
    source = folder / "submission.py"
    honest = source.read_text()
    source.write_text("import signal\ndef setup(run): ...\ndef train(run, state):\n    signal.pause()\n")
    scoring = command.start()
    try:
        command.wait_for(partial(so_many_clocks_run, 1), scoring)
        scoring.terminate()
        output, _ = scoring.communicate(timeout=WAIT_S)
    finally:
        scoring.kill()
    assert scoring.returncode == 130
    assert "Traceback" not in output
    assert [record.outcome for record in records(command.results)] == ["cancelled"]
    source.write_text(honest)
    command.finish()
    assert [record.outcome for record in records(command.results)] == ["cancelled", "reached"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_packs_with_three_seeds_killed_five_times_come_to_the_board_of_their_records(tmp_path: Path) -> None:
    command = Command(tmp_path, packs=20, seeds=3)
    chances = random.Random(0)
    moments = sorted(chances.sample(range(2, 55), 5))
    survivors: set[str] = set()
    for runs in moments:
        command.kill_when(partial(so_many_began, runs), later_s=chances.uniform(0, 3))
        made = {path.parent.name for path in command.results.glob("2*/record.json")}
        assert survivors <= made
        survivors = made
    command.finish()
    assert survivors <= {record.id for record in records(command.results)}
    check_whole(command, tmp_path, 3)
    aside = command.results / KILLED_DIR
    assert len(list(aside.iterdir()) if aside.exists() else []) <= 5
    assert "60 of 60 runs are there already" in command.finish()
    assert len(records(command.results)) == 60
