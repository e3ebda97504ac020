"""Energy of the GPU from NVML's total-energy counter, read by the referee.

The counter moves in steps (about 100 ms on data-centre GPUs). A plain difference of two readings is therefore short by
about half a step of (load - idle) power; here a thread notes when each step happens, and the energy between the first
and the last step inside the window is scaled to the window. No GPU has confirmed this code yet; it is tested with
counters of known energy.
"""

import threading
from collections.abc import Callable
from itertools import pairwise
from time import monotonic_ns

from kit.results.record import Energy

POLL_S = 0.004
MIN_STEPS = 3
"""Steps of the counter that a window must hold."""
STALL_STEPS = 3
"""A counter that does not move for so many of its steps stands still."""
SENSOR_GAIN = 0.05
"""Error of the power sensor itself, as a fraction: a few percent per card (Yang et al., SC'24)."""


class CounterError(Exception):
    """The counter cannot be read; the message says why."""


class EnergyMeter:
    """Follows one counter.

    Args:
        read_mj: Millijoules since some start, by the counter. Raises CounterError.
    """

    def __init__(self, read_mj: Callable[[], int]) -> None:
        self._read_mj = read_mj
        self._steps: list[tuple[int, int]] = []
        self._failure: str | None = None
        self._stop = threading.Event()
        self._stepped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="energy", daemon=True)

    def start(self) -> None:
        """Begin to follow, and return just after a step of the counter (or when it cannot be had)."""
        self._thread.start()
        self._stepped.wait(1.0)

    def stop(self) -> None:
        """Stop following. Safe to call twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def since_j(self, start_ns: int) -> float | None:
        """Joules since `start_ns` as read at the last step: for a display."""
        steps = [value for at, value in self._steps if at >= start_ns]
        return (steps[-1] - steps[0]) / 1000 if steps and self._failure is None else None

    def energy(self, start_ns: int, stop_ns: int) -> Energy:
        """Energy of a window on CLOCK_MONOTONIC."""
        if self._failure is not None:
            return absent(self._failure)
        inside = [(at, value) for at, value in self._steps if start_ns <= at <= stop_ns]
        if any(after < before for (_, before), (_, after) in pairwise(inside)):
            return absent("the energy counter ran backwards")
        if len(inside) < MIN_STEPS:
            return absent(f"the energy counter moved {len(inside)} times in the window; {MIN_STEPS} are needed")
        (first_ns, first_mj), (last_ns, last_mj) = inside[0], inside[-1]
        joules = (last_mj - first_mj) / 1000 * (stop_ns - start_ns) / (last_ns - first_ns)
        period_s = (last_ns - first_ns) / 1e9 / (len(inside) - 1)
        if max(first_ns - start_ns, stop_ns - last_ns) > STALL_STEPS * period_s * 1e9:
            return absent("the energy counter stood still at an edge of the window")
        # Each edge lies within one step of a noted one; power there may be anything up to the mean.
        edges = joules * period_s * 1e9 / (stop_ns - start_ns)
        return Energy(
            device_j=joules,
            method="nvml_total_energy",
            update_period_s=period_s,
            uncertainty_j=(edges**2 + (SENSOR_GAIN * joules) ** 2) ** 0.5,
            unavailable_because=None,
        )

    def _follow(self) -> None:
        last: int | None = None
        while not self._stop.is_set():
            try:
                value = self._read_mj()
            except CounterError as error:
                self._failure = str(error)
                self._stepped.set()
                return
            if last is not None and value != last:
                self._steps.append((monotonic_ns(), value))
                self._stepped.set()
            last = value
            self._stop.wait(POLL_S)


def absent(reason: str) -> Energy:
    """No energy, and why: never zero."""
    return Energy(device_j=None, method=None, update_period_s=None, uncertainty_j=None, unavailable_because=reason)


def nvml_counter() -> Callable[[], int]:
    """The total-energy counter of the run's GPU.

    Raises:
        CounterError: There is no GPU, or it has no such counter (before Volta, MIG, some virtual GPUs).
    """
    import pynvml

    from kit.hardware.machine import gpu_handle

    try:
        pynvml.nvmlInit()
        handle = gpu_handle(pynvml)
    except pynvml.NVMLError as error:
        raise CounterError(f"NVML: {error}") from error

    def read_mj() -> int:
        try:
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        except pynvml.NVMLError as error:
            raise CounterError(f"NVML: {error}") from error

    read_mj()
    return read_mj
