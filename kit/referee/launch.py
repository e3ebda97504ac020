"""Starts a trainer as a process tree of its own, and ends all of it.

`isolation=process`: own session, an environment made from nothing, private scratch folders, output drained and capped,
and no process that outlives the run. It keeps honest code honest; hostile code needs the sandbox.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from kit.protocol import TO_REFEREE, Channel, ToReferee
from kit.trainer.supervisor import PR_SET_CHILD_SUBREAPER, prctl

DEFENCES = (
    "clean_environment",
    "private_scratch",
    "own_session",
    "no_process_survives",
    "hidden_labels",
    "data_after_go",
)
OUTPUT_HEAD_BYTES = 1 << 20
OUTPUT_TAIL_BYTES = 64 << 10
END_S = 5.0
PASSED_ON = ("LD_LIBRARY_PATH", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")
"""Of the referee's environment: what finding the GPU's libraries can need."""


class Trainer:
    """A running trainer; as a context manager it is gone, with everything that it started, on the way out.

    Args:
        max_payload_bytes: Largest predictions that are read from it.
        gpu: What CUDA_VISIBLE_DEVICES says inside; None hides every GPU.
        output: Where its standard output and error go.
    """

    def __init__(self, *, max_payload_bytes: int, gpu: str | None, output: Path) -> None:
        self._scratch = Path(tempfile.mkdtemp(prefix="kit-"))
        self._before = {child.pid for child in psutil.Process().children()}
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        ours, theirs = socket.socketpair()
        self.channel: Channel[ToReferee] = Channel(ours, TO_REFEREE, max_payload_bytes=max_payload_bytes)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "kit.trainer.supervisor",
                    str(os.getpid()),
                    str(theirs.fileno()),
                ],
                env=_environment(self._scratch, gpu),
                cwd=self._scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._drain = threading.Thread(target=_drain, args=(self._process.stdout, output), name="output", daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

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
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)  # the supervisor takes its descendants with it
            if self.wait() is None:
                self._process.kill()
                self._process.wait()
        self._end_orphans()
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


def _environment(scratch: Path, gpu: str | None) -> dict[str, str]:
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
        "CUDA_VISIBLE_DEVICES": gpu if gpu is not None else "",
    }


def _drain(pipe: IO[bytes], path: Path) -> None:
    """Keep the first MiB and the last 64 KiB: a flood costs neither memory nor disk, and never blocks the trainer."""
    written, dropped, tail = 0, 0, b""
    with path.open("wb") as file:
        while data := os.read(pipe.fileno(), 1 << 16):
            head = data[: OUTPUT_HEAD_BYTES - written]
            file.write(head)
            file.flush()
            written += len(head)
            joined = tail + data[len(head) :]
            tail = joined[-OUTPUT_TAIL_BYTES:]
            dropped += len(joined) - len(tail)
        if dropped:
            file.write(f"\n[kit: {dropped:,} bytes left out]\n".encode())
        file.write(tail)
    pipe.close()
