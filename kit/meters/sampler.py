"""Samples the state of a GPU: instant power, clocks, temperature, and the time in which it was throttled."""

from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from kit.meters.nvml import Gpu, Unavailable
from kit.meters.poll import ABSENT, Columns, Poller
from kit.meters.readings import Failure, Samples

SAMPLE_S = 0.03
STATE_EVERY = 10
"""Samples. Clocks, temperature and throttling change slowly, and asking for all of them costs more than power does."""
State = tuple[int | None, int | None, int | None, int | None, int | None]
NOTHING: State = (None, None, None, None, None)


class Sampler:
    """Samples one GPU in a thread.

    Args:
        gpu: An open GPU.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._rows = Columns(
            "at_ns",
            "power_mw",
            "clock_sm_mhz",
            "clock_memory_mhz",
            "temperature_c",
            "throttled_power_ns",
            "throttled_heat_ns",
        )
        self._looks = 0
        self._failed: tuple[int, Unavailable] | None = None
        self._poller = Poller("sampler", self._look)

    def start(self) -> None:
        """Begin to sample."""
        self._poller.start()

    def stop(self) -> None:
        """Stop. Safe to call twice."""
        self._poller.stop()

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """All that was sampled; ABSENT where something could not be read."""
        return self._rows.read()

    def samples(self, zero_ns: int) -> Samples:
        """Power, on a clock that is 0 at `zero_ns`."""
        columns = self._rows.read()
        known = columns["power_mw"] != ABSENT
        failed = None
        if self._failed is not None:
            at_ns, error = self._failed
            failed = Failure(at_s=(at_ns - zero_ns) / 1e9, reason=str(error), lost=error.lost)
        return Samples(
            at_s=(columns["at_ns"][known] - zero_ns) / 1e9, watts=columns["power_mw"][known] / 1000, failed=failed
        )

    def _look(self) -> float | None:
        begun_ns = monotonic_ns()
        power_mw = self._power_mw()
        at_ns = (begun_ns + monotonic_ns()) // 2
        if self._failed is not None and self._failed[1].lost:
            return None
        state = self._state() if self._looks % STATE_EVERY == 0 else NOTHING
        self._looks += 1
        self._rows.append(at_ns, power_mw, *state)
        return SAMPLE_S

    def _state(self) -> State:
        gpu = self._gpu
        return (*gpu.clocks_mhz(), gpu.temperature_c(), *gpu.throttled_ns())

    def _power_mw(self) -> int | None:
        """None from the first failure on: a trace with holes would be integrated over them."""
        if self._failed is None:
            try:
                return self._gpu.power_mw()
            except Unavailable as error:
                self._failed = monotonic_ns(), error
        return None
