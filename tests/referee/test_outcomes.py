"""Every way a run can end leaves a record that says so, and why."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import RIGHT_ANSWERS, SETUP_NOTHING, Finished

WRONG_ANSWERS = "run.evaluate(lambda images: torch.eye(10)[torch.zeros(len(images), dtype=int)])"
RAW_CHANNEL = "from kit.protocol import Predictions; import numpy as np; channel = run._link._referee"


def body(*lines: str) -> str:
    return SETUP_NOTHING + "def train(run: Run, state) -> None:\n" + "".join(f"    {line}\n" for line in lines)


def test_a_run_that_reaches_the_target_says_when(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + RIGHT_ANSWERS + "def train(run, state):\n    run.evaluate(lambda images: answers())\n"
    done = kit_run(f"submission={submission(source)}")
    assert done.returncode == 0, done.stderr
    record = done.record
    assert record["outcome"] == "reached"
    assert record["reason"] is None
    assert 0 < record["time"]["to_target_s"] <= record["time"]["total_s"]
    assert record["evaluations"][-1]["value"] == 1.0
    assert record["energy"]["device_j"] is None
    assert record["energy"]["unavailable_because"]
    assert record["flops"]["method"] == "replay"
    assert record["memory"]["host_peak_bytes"] > 100 << 20
    assert str(done.run_dir / "record.json") in done.stdout


@pytest.mark.parametrize(
    ("lines", "outcome", "reason"),
    [
        ([WRONG_ANSWERS], "missed", "short of 99.000%"),
        (["pass"], "missed", "without an evaluation"),
        (["raise ValueError('my own mistake')"], "crashed", "ValueError: my own mistake"),
        (["import sys; sys.exit(3)"], "crashed", "SystemExit: 3"),
        (["import os; os._exit(3)"], "crashed", "status 3"),
        (["import os; os.kill(os.getpid(), 9)"], "crashed", "signal 9"),
        (["import os, threading; os.kill(os.getppid(), 9); threading.Event().wait()"], "crashed", "signal 9"),
        (["import ctypes; ctypes.string_at(0)"], "crashed", "signal 11"),
        (
            ["run._link._referee.close()", "import threading; threading.Event().wait()"],
            "crashed",
            "closed its connection",
        ),
        (["torch.empty(10**14)"], "out_of_memory", "can't allocate memory"),
        (["bytearray(10**15)"], "out_of_memory", "MemoryError"),
        (["run.evaluate(lambda images: torch.full((len(images), 10), float('nan')))"], "invalid", "NaN"),
        (["run.evaluate(lambda images: torch.zeros(len(images), 11))"], "invalid", "shape (797, 10)"),
        (["run.evaluate(lambda images: torch.zeros(5, 10))"], "invalid", "shape (797, 10)"),
        (["run.evaluate(lambda images: 'high')"], "invalid", "str"),
        (
            [
                RAW_CHANNEL,
                "channel.send(Predictions(shape=(796, 1)), np.zeros((796, 1), np.int32))",
                "channel.receive()",
            ],
            "invalid",
            "expected predictions of shape (797, 1), got (796, 1)",
        ),
        (
            [
                RAW_CHANNEL,
                "channel.send(Predictions(shape=(797, 1)), np.full((797, 1), 10, np.int32))",
                "channel.receive()",
            ],
            "invalid",
            "expected classes from 0 to 9, got 10",
        ),
        (
            [RAW_CHANNEL, "channel.send(Predictions(shape=(2**20, 20)), np.zeros((2**20, 20), np.int32))"],
            "invalid",
            "larger than allowed",
        ),
        (
            ["run._link._referee._sock.sendall(b'not a frame at all')", "run._link._referee.receive()"],
            "invalid",
            "wrong bytes",
        ),
        (
            [RAW_CHANNEL, "while True: channel.send(Predictions(shape=(797, 1)), np.zeros((797, 1), np.int32))"],
            "invalid",
            "more than 20 evaluations",
        ),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, list) else None,
)
def test_a_run_that_fails_says_how(
    lines: list[str],
    outcome: str,
    reason: str,
    submission: Callable[..., Path],
    kit_run: Callable[..., Finished],
) -> None:
    done = kit_run(
        f"submission={submission(body(*lines))}", "track.limits.evaluations=20", "loader=torch", "count_flops=false"
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.record["outcome"] == outcome
    assert reason in done.record["reason"]
    assert done.record["time"]["to_target_s"] is None


def test_a_crash_carries_the_submissions_own_traceback_and_nothing_of_the_kit(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + "def helper():\n    raise KeyError('lost')\n\ndef train(run, state):\n    helper()\n"
    traceback = kit_run(f"submission={submission(source)}", "loader=torch").record["traceback"]
    assert "in helper" in traceback
    assert "KeyError: 'lost'" in traceback
    assert "__main__" not in traceback


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import torch\nraise RuntimeError('at import')\n", "at import"),
        ("def setup(run:\n", "SyntaxError"),
        ("def setup(run): pass\n", "must define train"),
        ("def setup(run): run.arrays('train')\ndef train(run, state): pass\n", "there is no data yet"),
        ("def setup(run): run.loader('train', 8)\ndef train(run, state): pass\n", "there is no data yet"),
        ("def setup(run): run.evaluate(None)\ndef train(run, state): pass\n", "there is no data yet"),
    ],
)
def test_a_failure_before_the_clock_is_recorded_without_times(
    source: str, reason: str, submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    record = kit_run(f"submission={submission(source)}", "loader=torch").record
    assert record["outcome"] == "crashed"
    assert reason in record["reason"]
    assert record["reason"].startswith("in setup")
    assert record["time"]["total_s"] is None


@pytest.mark.parametrize(("where", "limit"), [("setup", "track.limits.setup_s=6"), ("train", "track.limits.run_s=0.5")])
def test_a_hang_ends_at_its_limit(
    where: str, limit: str, submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    hang = "import threading, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"
    setup, train = (hang, "pass") if where == "setup" else ("pass", hang)
    record = kit_run(
        f"submission={submission(f'def setup(run): {setup}{chr(10)}def train(run, state): {train}{chr(10)}')}",
        limit,
        "loader=torch",
    ).record
    assert record["outcome"] == "timeout"
    assert "took longer than" in record["reason"]


def test_a_trainer_that_fails_after_the_target_has_still_reached_it(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        SETUP_NOTHING
        + RIGHT_ANSWERS
        + "def train(run, state):\n    run.evaluate(lambda images: answers())\n    1 / 0\n"
    )
    record = kit_run(f"submission={submission(source)}", "loader=torch").record
    assert record["outcome"] == "reached"
    assert record["time"]["to_target_s"] > 0
    assert record["flops"]["method"] == "absent"


def test_what_a_submission_says_cannot_command_a_terminal(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    record = kit_run(f"submission={submission(body('raise ValueError(chr(27) + chr(91) + str(2) + chr(74))'))}").record
    assert "ValueError" in record["reason"]
    assert chr(27) not in record["reason"] + record["traceback"]


def test_a_flood_of_output_is_cut_and_ends_up_in_the_log(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    flood = submission(body("print('x' * 5_000_000)", "print('the end')"))
    done = kit_run(f"submission={flood}", "loader=torch")
    log = (done.run_dir / "output.log").read_text()
    assert 1_000_000 < len(log) < 1_200_000
    assert "bytes left out" in log
    assert log.rstrip().endswith("the end")
