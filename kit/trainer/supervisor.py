"""The first process of a trainer: starts it, outlives it, and takes every process that it left behind with it.

Small and without dependencies, because it starts before everything else. It asks the kernel to be told when the referee
dies and to be given the orphans of its descendants, so `kill -9` of the referee or of the trainer leaves nothing
running.

    python -m kit.trainer.supervisor REFEREE_PID SOCKET_DESCRIPTOR
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def prctl(option: int, value: int) -> None:
    """Set one property of this process (Linux)."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with(parent_pid: int, death_signal: signal.Signals) -> None:
    """Have the kernel send `death_signal` to this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:  # it ended before the kernel was asked
        os._exit(128 + death_signal)


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, nearest first."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))
    except OSError:  # it ended while we looked
        return


def end_descendants() -> None:
    """Kill and reap until nothing is left; a process that forks meanwhile is met in the next round."""
    while True:
        for pid in list(descendants(os.getpid())):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _stop(*_: object) -> None:
    """Not an exception: one that arrived while descendants are being ended would leave the rest of them running."""
    end_descendants()
    os._exit(128 + signal.SIGTERM)


def main() -> int:
    """Run the trainer; the exit status is its own, or 128 plus the signal that ended it."""
    referee_pid, descriptor = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the referee decides
    die_with(referee_pid, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        command = [sys.executable, "-P", "-m", "kit.trainer", str(os.getpid()), str(descriptor)]
        trainer = subprocess.Popen(command, pass_fds=[descriptor])
        os.close(descriptor)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == trainer.pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
    finally:
        end_descendants()


if __name__ == "__main__":
    sys.exit(main())
