"""The watcher of a sealed run's memory and processes: what it sees, and what it does not take for more than it is."""

import ctypes
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import psutil
import pytest

from kit.referee.overuse import Guard, Overuse
from kit.track import Limits

SIZE = 200_000_000
MUCH = 4 * SIZE
"""More than other processes on the machine take or give back meanwhile."""
PR_SET_NAME = 15


def hold(size: int, ends: Connection) -> bytearray:
    kept = bytearray(b"x") * size
    ends.send("up")
    ends.recv()
    return kept


def hold_memory(ends: Connection) -> None:
    hold(SIZE, ends)


def hold_under_a_strange_name(ends: Connection) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"\xff\xfe\nRssAnon:", 0, 0, 0)
    hold(SIZE, ends)


def fork_and_share(ends: Connection) -> None:
    kept = bytearray(b"x") * SIZE
    children = []
    for _ in range(5):
        end, begin = os.pipe()
        if (pid := os.fork()) == 0:
            os.read(end, 1)
            os._exit(len(kept) % 2)
        children.append((pid, begin))
    ends.send("up")
    ends.recv()
    for pid, begin in children:
        os.write(begin, b"x")
        os.waitpid(pid, 0)


def many_threads(ends: Connection) -> None:
    end = threading.Event()
    for _ in range(50):
        threading.Thread(target=end.wait, daemon=True).start()
    ends.send("up")
    ends.recv()
    end.set()


def file_in_memory(size: int) -> int:
    file = os.memfd_create("nobody's")
    os.posix_fallocate(file, 0, size)
    return file


def memory_of_nobody(ends: Connection) -> None:
    file_in_memory(MUCH)
    ends.send("up")
    ends.recv()


def own_bytes() -> int:
    """What a forked process has from the start, besides pages of files: this process may have mapped gigabytes."""
    used = psutil.Process().memory_info()
    private: int = used.rss - used.shared
    return private


@contextmanager
def running(target: Callable[[Connection], None]) -> Iterator[int]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=target, args=(theirs,))
    process.start()
    assert ours.recv() == "up"
    try:
        assert process.pid is not None
        yield process.pid
    finally:
        ours.send("end")
        process.join()


def watched(
    target: Callable[[Connection], None], meanwhile: Callable[[], None] = lambda: None, **limits: int
) -> Overuse | None:
    """What a guard finds that was there before."""
    ended = threading.Event()
    guard = Guard(os.getpid(), Limits(run_s=60, **limits), ended.set)
    with running(target) as pid:
        meanwhile()
        guard._pid = pid
        guard.start()
        ended.wait(2.0)
        guard.stop()
    assert ended.is_set() == (guard.found is not None)
    return guard.found


@pytest.mark.parametrize("target", [hold_under_a_strange_name, memory_of_nobody])
def test_memory_is_seen_whatever_its_owner_is_called_and_where_it_has_none(
    target: Callable[[Connection], None],
) -> None:
    found = watched(target, memory_bytes=own_bytes() + SIZE // 2)
    assert found is not None
    assert found.fate == "out_of_memory"


def test_memory_is_seen_while_others_give_theirs_back() -> None:
    file = file_in_memory(MUCH)
    found = watched(hold_memory, lambda: os.ftruncate(file, 0), memory_bytes=own_bytes() + SIZE // 2)
    os.close(file)
    assert found is not None
    assert found.fate == "out_of_memory"


def test_pages_that_forked_processes_share_are_not_taken_for_many() -> None:
    assert watched(fork_and_share, memory_bytes=own_bytes() + MUCH) is None


def test_threads_count_as_processes_do() -> None:
    found = watched(many_threads, processes=40)
    assert found is not None
    assert (found.fate, found.reason) == ("crashed", "more than 40 processes and threads")


def test_a_watcher_that_fails_ends_what_it_cannot_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise ValueError("no number")

    monkeypatch.setattr("kit.referee.overuse._status", broken)
    found = watched(many_threads)
    assert found is not None
    assert "could not be watched" in found.reason
