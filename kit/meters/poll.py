"""Threads that look at something again and again, and columns to keep what they see."""

import threading
from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ABSENT = -1
"""In a column of what is never negative: it could not be read."""


class Poller:
    """Calls `look` at once and again and again, in a thread of its own, until stopped.

    Args:
        name: Of the thread.
        look: Says after how many seconds to look again; None is never.
    """

    def __init__(self, name: str, look: Callable[[], float | None]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it. Safe to call twice, and before the start."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (pause_s := self._look()) is not None and not self._stop.wait(pause_s):
            pass


class Columns:
    """Rows of whole numbers, 8 bytes each, that one thread appends to while others read.

    Args:
        names: Of the columns.
    """

    def __init__(self, *names: str) -> None:
        self._columns = {name: array("q") for name in names}

    def append(self, *values: int | None) -> None:
        """One row; None is kept as ABSENT."""
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(ABSENT if value is None else value)

    def read(self) -> dict[str, NDArray[np.int64]]:
        """A copy of all rows so far."""
        copies = {name: column[:] for name, column in self._columns.items()}  # array cannot grow under a view of it
        rows = min(len(copy) for copy in copies.values())
        return {name: np.frombuffer(copy, np.int64, rows) for name, copy in copies.items()}
