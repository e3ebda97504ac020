"""The first process of a trainer: starts its ranks, outlives them, and takes every process that they left behind along.

Small, because it starts before everything else. It asks the kernel to be told when the referee
dies and to be given the orphans of its descendants, so `kill -9` of the referee or of the trainer leaves nothing
running.

    python -m kit.trainer.supervisor PARENT_PID SOCKET WORDS PROCESSES RANKS STOPPED_S

SOCKET is the referee's, and rank 0 gets it; WORDS is a pipe's end, on which the referee is told which rank ended a run
of several. PROCESSES is how many the user may have from here on, which is exact in a box of their own; 0 leaves that as
it is. A rank that has been stopped for STOPPED_S seconds is ended.
"""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kit.tree import descendants

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LOOK_S = 0.5
LOOPBACK = "127.0.0.1"


def prctl(option: int, value: int) -> None:
    """Set one property of this process (Linux)."""
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with(parent_pid: int, death_signal: signal.Signals) -> None:
    """Have the kernel send `death_signal` to this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:  # it ended before the kernel was asked
        os._exit(128 + death_signal)


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


def _limit(processes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    with suppress(OSError):  # where memory runs out, the kernel shall end this and not the referee
        Path("/proc/self/oom_score_adj").write_text("1000")


def _start(referee: int, count: int) -> "list[subprocess.Popen[bytes]]":
    """Start the ranks, in their order."""
    if count == 1:
        return [_launch([referee], os.environ)]
    # It listens already, so no other process can take the port before rank 0 is there to serve it.
    meeting = socket.create_server((LOOPBACK, 0))
    pairs = [socket.socketpair() for _ in range(1, count)]
    to_ranks = [ours.fileno() for ours, _ in pairs]
    shared = os.environ | {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(meeting.getsockname()[1]),
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // count)),
    }
    links = [[referee, meeting.fileno(), *to_ranks], *([theirs.fileno()] for _, theirs in pairs)]
    ranks = [_launch(link, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank, link in enumerate(links)]
    for sock in (meeting, *(end for pair in pairs for end in pair)):
        sock.close()
    return ranks


def _launch(descriptors: Iterable[int], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "kit.trainer", str(os.getpid()), *map(str, descriptors)]
    return subprocess.Popen(command, env=environment, pass_fds=[*descriptors])


class _Words:
    """What the referee is told: the first thing that is said."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock, suppress(OSError):
            if self._descriptor >= 0:
                os.write(self._descriptor, text.encode())
                os.close(self._descriptor)
                self._descriptor = -1


def _end_stopped(pids: Sequence[int], stopped_s: float, words: _Words) -> None:
    """End a rank that is seen stopped again and again: what stopped this process too is nobody's fault."""
    seen = [0] * len(pids)
    while True:
        time.sleep(LOOK_S)
        for rank, pid in enumerate(pids):
            seen[rank] = seen[rank] + 1 if _is_stopped(pid) else 0
            if seen[rank] * LOOK_S > stopped_s:
                words.say(f"rank {rank} was stopped, and did not go on within {stopped_s:g} s")
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"T")
    except OSError:
        return False


def main() -> int:
    """Run the trainer; the exit status is that of the first rank to end, or 128 plus the signal that ended it."""
    parent_pid, referee, voice, processes, count = map(int, sys.argv[1:6])
    stopped_s = float(sys.argv[6])
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the referee decides
    die_with(parent_pid, signal.SIGTERM)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _limit(processes)
    try:
        os.set_inheritable(voice, False)
        ranks, words = _start(referee, count), _Words(voice)
        os.close(referee)
        pids = [rank.pid for rank in ranks]
        if count > 1:
            threading.Thread(target=_end_stopped, args=(pids, stopped_s, words), daemon=True).start()
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid in pids:
                code = os.waitstatus_to_exitcode(status)
                if count > 1:
                    how = f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
                    words.say(f"rank {pids.index(pid)} {how} before training returned")
                return code if code >= 0 else 128 - code
    finally:
        end_descendants()


if __name__ == "__main__":
    sys.exit(main())
