"""`kill -9` at any moment leaves no broken record and no process."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support import ROOT, SETUP_NOTHING, Finished

from kit.errors import KitError
from kit.results.store import read_record

WAIT_S = 60

DAEMONS = """
import os, signal, subprocess, sys, threading

def spawn():
    '''A process in a session of its own that ignores SIGTERM, and one below it.'''
    code = "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \\
        "subprocess.Popen(['tail', '-f', sys.argv[1]]); signal.pause()"
    subprocess.Popen([sys.executable, "-c", code, __file__], start_new_session=True)
"""


def started_by(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        os.sched_yield()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(map(alive, processes))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("moment", "spawn_in"),
    [("setting up", "setup"), ("the clock runs", "train"), ("counting operations", "train")],
)
def test_killing_the_referee_leaves_no_process_and_no_broken_record(
    moment: str, spawn_in: str, submission: Callable[..., Path], kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    hang = "threading.Event().wait()"
    in_replay = moment.startswith("counting")
    train = "hang_in_replay(run)" if in_replay else f"spawn(); print('up', flush=True); {hang}"
    setup = f"spawn(); print('up', flush=True); {hang}" if spawn_in == "setup" else "pass"
    source = (
        DAEMONS
        + f"""
def hang_in_replay(run):
    import sys
    if "kit.trainer.counting" in sys.modules:
        spawn(); print('up', flush=True); {hang}

def setup(run):
    {setup}

def train(run, state):
    {train}
"""
    )
    log = "replay.log" if in_replay else "output.log"
    referee = subprocess.Popen(
        kit_command(f"submission={submission(source)}", "loader=torch"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert referee.stdout is not None
    for line in referee.stdout:
        if moment in line:
            break
    results = tmp_path / "results"
    wait_for(lambda: any("up" in path.read_text() for path in results.glob(f"*/{log}")))
    processes = started_by(referee.pid)
    assert len(processes) >= 3
    referee.kill()
    referee.wait()
    wait_for(lambda: gone(processes))
    (run_dir,) = results.glob("2*")
    if in_replay:
        record = read_record(run_dir)
        assert record.outcome == "missed"
        assert record.flops.method == "pending"
    else:
        with pytest.raises(KitError, match="still going, or was killed"):
            read_record(run_dir)
    referee.stdout.close()


@pytest.mark.parametrize("ending", ["return", "os.kill(os.getpid(), 9)", "os.kill(os.getppid(), 9); signal.pause()"])
def test_what_a_trainer_leaves_running_ends_with_it(
    ending: str, submission: Callable[..., Path], kit_run: Callable[..., Finished], tmp_path: Path
) -> None:
    source = (
        SETUP_NOTHING
        + DAEMONS
        + f"def train(run, state):\n    spawn()\n    print(os.getpid(), flush=True)\n    {ending}\n"
    )
    done = kit_run(f"submission={submission(source)}", "loader=torch", "count_flops=false")
    assert done.record["outcome"] in ("missed", "crashed")
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(str(tmp_path)) for word in process.info["cmdline"] or [])
    ]
    assert gone(left)


@pytest.fixture
def in_foreground() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and what they start inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_foreground")
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_somebody_ends_leaves_a_record_that_says_cancelled(
    ending: signal.Signals, submission: Callable[..., Path], kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    source = SETUP_NOTHING + "import signal\ndef train(run, state):\n    run.log(step=1)\n    signal.pause()\n"
    referee = subprocess.Popen(
        kit_command(f"submission={submission(source)}", "loader=torch"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    results = tmp_path / "results"
    wait_for(lambda: any("logged" in path.read_text() for path in results.glob("*/events.jsonl")))
    referee.send_signal(ending)
    _, errors = referee.communicate(timeout=WAIT_S)
    assert referee.returncode == 130
    assert "Traceback" not in errors
    (run_dir,) = results.glob("2*")
    record = read_record(run_dir)
    assert record.outcome == "cancelled"
    assert record.time.to_target_s is None
