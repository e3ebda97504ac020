"""Starts a trainer as a process tree of its own, and ends all of it.

`isolation=process`: own session, an environment made from nothing, private scratch folders, output drained and capped,
and no process that outlives the run. It keeps honest code honest; hostile code needs `isolation=sandbox`.
"""

import codecs
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from kit.protocol import TO_REFEREE, Channel, ToReferee, printable
from kit.referee import sandbox
from kit.referee.cgroup import ControlGroup, NotDelegated, control_group
from kit.referee.overuse import Guard, Overuse
from kit.results.record import IsolationMode
from kit.track import Limits
from kit.trainer.supervisor import PR_SET_CHILD_SUBREAPER, prctl

DEFENCES: dict[IsolationMode, tuple[str, ...]] = {
    "process": (
        "clean_environment",
        "private_scratch",
        "own_session",
        "no_process_survives",
        "hidden_labels",
        "data_after_go",
    ),
    "sandbox": (
        "clean_environment",
        "private_scratch",
        "no_process_survives",
        "hidden_labels",
        "data_after_go",
        "no_network",
        "no_other_process",
        "read_only_system",
        "no_library_data",
        "system_calls_filtered",
        "memory_capped",
        "processes_capped",
        "scratch_capped",
    ),
}
OUTPUT_HEAD_BYTES = 1 << 20
OUTPUT_TAIL_BYTES = 64 << 10
MAX_WORDS_BYTES = 1 << 10
END_S = 5.0
FIRST_TO_GO = ("/bin/sh", "-c", 'echo 1000 >/proc/self/oom_score_adj; exec "$@"', "sh")
"""Where memory runs out, the kernel shall end the box and not the referee. What root says here, none unsays inside."""
PASSED_ON = ("LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
"""Of the referee's environment: what finding the GPU's libraries can need."""


class Trainer:
    """A running trainer; as a context manager it is gone, with everything that it started, on the way out.

    Args:
        submission_dir: What it is to run.
        limits: What it may take.
        gpus: What CUDA_VISIBLE_DEVICES says inside, UUIDs; none hides every GPU.
        output: Where its standard output and error go.
        isolation: How it is kept apart.
        ranks: How many processes train together.

    Raises:
        KitError: A sandbox cannot be had on this machine.
    """

    def __init__(
        self,
        *,
        submission_dir: Path,
        limits: Limits,
        gpus: Sequence[str],
        output: Path,
        isolation: IsolationMode,
        ranks: int = 1,
    ) -> None:
        self.isolation = isolation
        self.submission_dir = sandbox.SUBMISSION_DIR if isolation == "sandbox" else str(submission_dir.resolve())
        """Where the trainer finds it."""
        self._held = ExitStack()
        self._group = self._own_group(limits) if isolation == "sandbox" else None
        self._scratch = Path(tempfile.mkdtemp(prefix="kit-"))
        self._before = {child.pid for child in psutil.Process().children()}
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self._words, said = os.pipe()
        self._held.callback(os.close, self._words)
        os.set_blocking(self._words, False)
        ours, theirs = socket.socketpair()
        self.channel: Channel[ToReferee] = Channel(ours, TO_REFEREE, max_payload_bytes=limits.message_bytes)
        try:
            with theirs, os.fdopen(said, "wb"):
                self._process = self._start([theirs.fileno(), said], submission_dir, limits, gpus, ranks)
        except BaseException:
            self.channel.close()
            self._held.close()
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise
        assert self._process.stdout is not None
        self._drain = threading.Thread(target=_drain, args=(self._process.stdout, output), name="output", daemon=True)
        self._drain.start()
        self._guard = Guard(self.pid, limits, self._process.kill) if isolation == "sandbox" else None
        if self._guard is not None:
            self._guard.start()

    def _own_group(self, limits: Limits) -> ControlGroup | None:
        try:
            return self._held.enter_context(control_group(limits))
        except NotDelegated:
            return None

    def _start(
        self, descriptors: list[int], submission_dir: Path, limits: Limits, gpus: Sequence[str], ranks: int
    ) -> subprocess.Popen[bytes]:
        def supervisor(parent_pid: int, processes: int) -> list[str]:
            arguments = parent_pid, *descriptors, processes, ranks, limits.rank_stopped_s
            return [sys.executable, "-P", "-m", "kit.trainer.supervisor", *map(str, arguments)]

        if self.isolation == "process":
            command = supervisor(os.getpid(), 0)
            return _popen(command, _environment(self._scratch, gpus), self._scratch, descriptors)
        with sandbox.filtered() as seccomp:
            box = sandbox.box(
                self._scratch,
                {sandbox.SUBMISSION_DIR: submission_dir},
                limits=limits,
                environment=sandbox.environment(gpus),
                gpu_nodes=sandbox.gpu_nodes(gpus),
                seccomp=seccomp,
            )
            enter = self._group.enter if self._group is not None else ()
            # Inside, the parent of the first process is that of the box, number 1.
            command = [*enter, *FIRST_TO_GO, *box, *supervisor(1, limits.processes)]
            return _popen(command, {}, self._scratch, [*descriptors, seccomp])

    @property
    def pid(self) -> int:
        """Of the process that everything else of it is below."""
        return self._process.pid

    @property
    def overuse(self) -> Overuse | None:
        """For what it was ended, or None."""
        found = None if self._guard is None else self._guard.found
        return self._group.overuse() if found is None and self._group is not None else found

    @property
    def last_words(self) -> str | None:
        """Which of several ranks ended it, and how: by its supervisor, which the submission could speak for."""
        try:
            return os.read(self._words, MAX_WORDS_BYTES).decode(errors="replace") or None
        except BlockingIOError:
            return None

    @property
    def defences(self) -> tuple[str, ...]:
        """What stands between it and the rest of the machine."""
        return DEFENCES[self.isolation] + ("capped_by_kernel",) * (self._group is not None)

    def wait(self, timeout_s: float = END_S) -> int | None:
        """Exit status as a shell gives it (128 plus the signal), or None while it runs on."""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return status if status >= 0 else 128 - status

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.channel.close()
        if self._guard is not None:
            self._process.kill()  # and the kernel ends whatever runs in its box
            self._process.wait()
            self._guard.stop()
        elif self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)  # the supervisor takes its descendants with it
            if self.wait() is None:
                self._process.kill()
                self._process.wait()
        self._end_orphans()
        self._held.close()
        self._drain.join(END_S)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _end_orphans(self) -> None:
        """What a killed supervisor left behind came to this process: children that were not there before."""
        for _ in range(100):
            orphans = [child for child in psutil.Process().children() if child.pid not in self._before]
            if not orphans:
                return
            for orphan in orphans:
                try:
                    for process in [orphan, *orphan.children(recursive=True)]:
                        process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(orphans, timeout=0.1)


def _environment(scratch: Path, gpus: Sequence[str]) -> dict[str, str]:
    """Nothing of the caller's: no keys, no proxies, no caches that an earlier run could have filled."""
    import kit

    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return environment | {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PYTHONPATH": str(Path(kit.__file__).parents[1]),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
    }


def _popen(
    command: list[str], environment: dict[str, str], folder: Path, passed_on: list[int]
) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.PIPE,  # its end: a descriptor of the host's /dev/null would be one to change its mode by
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=passed_on,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.close()
    return process


def _drain(pipe: IO[bytes], path: Path) -> None:
    """Keep the first MiB and the last 64 KiB: a flood costs neither memory nor disk, and never blocks the trainer.

    What a terminal would obey is left out.
    """
    read_bytes, dropped, tail = 0, 0, b""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with path.open("w", encoding="utf-8") as file:
        while data := os.read(pipe.fileno(), 1 << 16):
            head = data[: OUTPUT_HEAD_BYTES - read_bytes]
            file.write(printable(decoder.decode(head)))
            file.flush()
            read_bytes += len(head)
            joined = tail + data[len(head) :]
            tail = joined[-OUTPUT_TAIL_BYTES:]
            dropped += len(joined) - len(tail)
        if dropped:
            file.write(printable(decoder.decode(b"", final=True)) + f"\n[kit: {dropped:,} bytes left out]\n")
            decoder.reset()
        file.write(printable(decoder.decode(tail, final=True)))
    pipe.close()
