"""One timed run at a time on each device."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support import ROOT, SETUP_NOTHING, Finished

from kit.errors import KitError
from kit.hardware.turn import CPU, FOLDER_VARIABLE, turn

HOLD = """
import sys
from kit.hardware.turn import turn
with turn(sys.argv[1:], "wait", lambda line: print(line, flush=True)):
    print("mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@contextmanager
def holding(*devices: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has devices, or waits for them."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, *devices],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def says(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def refused(*devices: str) -> str:
    with pytest.raises(KitError) as error, turn(devices, "refuse", print):
        pass
    return str(error.value)


def test_a_second_process_refuses_and_says_who_has_the_device() -> None:
    with holding("GPU-a") as other:
        assert says(other) == "mine"
        message = refused("GPU-a", "GPU-b")
        assert f"GPU-a is timed on by process {other.pid} of {psutil.Process().username()} since 2" in message
        with turn(["GPU-b"], "refuse", print):
            pass


def test_a_second_process_waits_and_says_for_whom() -> None:
    with turn([CPU], "refuse", print), holding(CPU) as other:
        assert says(other).startswith(f"waiting: cpu is timed on by process {os.getpid()} of ")
    with holding(CPU) as another:
        assert says(another) == "mine"


def test_who_waits_comes_next() -> None:
    with holding(CPU) as first, holding(CPU) as second:
        lines = {says(first), says(second)}
        assert "mine" in lines
        has, waits = (first, second) if refused(CPU).count(f"process {first.pid} ") else (second, first)
        assert has.stdin is not None
        has.stdin.write("\n")
        has.stdin.close()
        assert says(waits) == "mine"


def test_a_process_that_is_killed_leaves_the_device_free() -> None:
    with holding(CPU) as other:
        assert says(other) == "mine"
        other.kill()
        other.wait()
        with turn([CPU], "refuse", print):
            pass


def test_the_same_process_cannot_time_twice_at_once() -> None:
    with turn([CPU], "refuse", print):
        assert f"process {os.getpid()} " in refused(CPU)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"pid": 1e400, "since": 3}', b'{"pid": "\\u001b[2J", "since": "now"}', b"\xff" * 5000],
)
def test_what_strangers_write_into_the_file_is_not_repeated(folder: Path, content: bytes) -> None:
    with turn([CPU], "refuse", print):
        (folder / "kit-cpu.lock").write_bytes(content)
        assert "cpu is timed on by another process of the kit: " in refused(CPU)


def test_every_user_can_lock_what_one_locked_first(folder: Path) -> None:
    with turn([CPU], "refuse", print):
        path = folder / "kit-cpu.lock"
        assert path.stat().st_mode & 0o777 == 0o666
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_folder_that_cannot_be_written_is_a_mistake_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/proc/self/nothing")
    with (
        pytest.raises(KitError, match=r"cannot lock cpu .* KIT_LOCK_DIR may name another folder"),
        turn([CPU], "refuse", print),
    ):
        pass


def test_a_run_refuses_a_busy_device_and_leaves_nothing(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    folder = submission(SETUP_NOTHING + "def train(run, state): pass\n")
    with turn([CPU], "refuse", print):
        overrides = (f"submission={folder}", "device=cpu", "loader=torch")
        done = kit_run(*overrides, "device.when_busy=refuse")
        assert done.returncode == 2
        assert done.stderr.startswith(f"kit: cpu is timed on by process {os.getpid()} of ")
        assert not done.results.exists()
        assert kit_run(*overrides, "allow_busy_device=true", "count_flops=false").record["outcome"] == "missed"


def test_a_run_waits_for_a_busy_device(
    submission: Callable[..., Path], kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    folder = submission(SETUP_NOTHING + "def train(run, state): pass\n")
    command = kit_command(f"submission={folder}", "device=cpu", "loader=torch", "count_flops=false")
    with turn([CPU], "refuse", print):
        waiting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert says(waiting).startswith(f"waiting: cpu is timed on by process {os.getpid()} of ")
        assert not list((tmp_path / "results").glob("2*"))
    waiting.communicate()
    assert len(list((tmp_path / "results").glob("2*/record.json"))) == 1
