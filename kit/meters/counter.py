"""Follows an energy counter that moves in steps, and notes between which two readings each step fell."""

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from kit.meters.nvml import Unavailable
from kit.meters.poll import Columns, Poller
from kit.meters.readings import Failure, Ticks

POLL_S = 0.004
EARLY_S = 0.016
"""So long before the next step is due reading begins again."""
KNOWN_GAPS = 5
PATIENCE_S = 1.0
"""A counter that has not moved for so long is not waited for."""


class CounterFollower:
    """Follows one counter in a thread.

    Args:
        read_mj: Millijoules since some start. Raises Unavailable.
    """

    def __init__(self, read_mj: Callable[[], int]) -> None:
        self._read_mj = read_mj
        self._ticks = Columns("since_ns", "seen_ns", "mj")
        self._mj: int | None = None
        self._begun_ns = self._seen_ns = 0
        self._gaps_s: deque[float] = deque(maxlen=KNOWN_GAPS)
        self._failed: tuple[int, Unavailable] | None = None
        self._moved = threading.Event()
        self._poller = Poller("counter", self._look)

    def start(self) -> None:
        """Begin to follow."""
        self._poller.start()

    def stop(self) -> None:
        """Stop following. Safe to call twice."""
        self._poller.stop()

    def await_tick(self) -> None:
        """Return just after the counter moved, or when it cannot be had."""
        if self._failed is None:
            self._moved.clear()
            self._moved.wait(PATIENCE_S)

    def since_j(self, start_ns: int) -> float | None:
        """Joules since `start_ns` as read at the last step: for a display."""
        ticks = self._ticks.read()
        inside = ticks["mj"][ticks["seen_ns"] >= start_ns]
        if self._failed is not None or not len(inside) or inside[-1] < inside[0]:
            return None
        return float(inside[-1] - inside[0]) / 1000

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """All steps."""
        return self._ticks.read()

    def ticks(self, zero_ns: int) -> Ticks:
        """What was seen, on a clock that is 0 at `zero_ns`."""
        columns = self._ticks.read()
        failed = None
        if self._failed is not None:
            at_ns, error = self._failed
            failed = Failure(at_s=(at_ns - zero_ns) / 1e9, reason=str(error), lost=error.lost)
        return Ticks(
            since_s=(columns["since_ns"] - zero_ns) / 1e9,
            seen_s=(columns["seen_ns"] - zero_ns) / 1e9,
            mj=columns["mj"],
            read_until_s=(self._begun_ns - zero_ns) / 1e9,
            failed=failed,
        )

    def _look(self) -> float | None:
        begun_ns = monotonic_ns()
        try:
            mj = self._read_mj()
        except Unavailable as error:
            self._failed = monotonic_ns(), error
            self._moved.set()
            return None
        pause_s = POLL_S
        if self._mj is not None and mj != self._mj:
            seen_ns = monotonic_ns()
            self._gaps_s.append((seen_ns - self._seen_ns) / 1e9)
            self._ticks.append(self._begun_ns, seen_ns, mj)
            self._seen_ns = seen_ns
            self._moved.set()
            pause_s = max(POLL_S, self._shortest_gap_s() - EARLY_S)
        self._mj, self._begun_ns = mj, begun_ns
        return pause_s

    def _shortest_gap_s(self) -> float:
        """Of the latest; 0 while there are few."""
        return min(self._gaps_s) if len(self._gaps_s) == KNOWN_GAPS else 0.0
