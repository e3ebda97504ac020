"""Whose turn it is: one timed run at a time on each device of a machine, whoever starts it.

The locks are flock(2)'s, which the kernel takes back from a process that ends, however it ends. Their files lie in
/tmp, where every user of a machine finds them; a holder writes into its file who it is. Containers that share a device
but not /tmp can share a folder that the environment variable KIT_LOCK_DIR names.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from kit.errors import KitError, escaped

WhenBusy = Literal["wait", "refuse"]
CPU = "cpu"
"""The device of a run without GPUs."""
FOLDER_VARIABLE, FOLDER = "KIT_LOCK_DIR", "/tmp"
EVERYBODYS = 0o666
MAX_BYTES = 1000
ASK_EVERY_S = 0.25


@contextmanager
def turn(devices: Sequence[str], when_busy: WhenBusy, say: Callable[[str], None]) -> Iterator[None]:
    """Have devices to oneself among the kit's processes.

    Args:
        devices: UUIDs of GPUs, or `CPU`.
        when_busy: Wait until whoever has one is done, or refuse.
        say: Told whom this waits for.

    Raises:
        KitError: Somebody has one, and waiting is not wanted; or the lock cannot be had here at all.
    """
    with ExitStack() as held:
        for device in sorted(set(devices)):  # all in one order: two that want the same ones cannot wait for each other
            held.enter_context(_lock(device, when_busy, say))
        yield


@contextmanager
def _lock(device: str, when_busy: WhenBusy, say: Callable[[str], None]) -> Iterator[None]:
    path = Path(os.environ.get(FOLDER_VARIABLE, FOLDER)) / f"kit-{device}.lock"
    lock = FileLock(path, mode=EVERYBODYS)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            busy = f"{device} is timed on by {_holder(path)}"
            if when_busy == "refuse":
                raise KitError(f"{busy}: end that or wait for it; device.when_busy=wait waits") from None
            say(f"waiting: {busy}")
            lock.acquire(poll_interval=ASK_EVERY_S)
    except OSError as error:
        raise KitError(
            f"{path}: cannot lock {device} ({error.strerror}); {FOLDER_VARIABLE} may name another folder, "
            "the same for all who use the device"
        ) from error
    try:
        _sign(path)
        yield
    finally:
        lock.release()


def _sign(path: Path) -> None:
    """Also over what one left that was killed; a file of another user's that cannot be written stays as it is."""
    with suppress(OSError), open(os.open(path, os.O_WRONLY | os.O_NOFOLLOW), "wb", buffering=0) as file:
        file.truncate()
        file.write(
            json.dumps({"pid": os.getpid(), "since": datetime.now().astimezone().isoformat("T", "seconds")}).encode()
        )


def _holder(path: Path) -> str:
    """Whatever stands in the file, any user may have written."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
        pid, since = int(content["pid"]), datetime.fromisoformat(content["since"])
        who = f"process {pid}"
        with suppress(psutil.Error):
            who += f" of {escaped(psutil.Process(pid).username())}"
        return f"{who} since {since:%Y-%m-%d %H:%M:%S}"
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return "another process of the kit"
