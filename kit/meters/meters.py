"""All meters of a run: what the referee opens before it, and reads after it."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.meters.counter import CounterFollower
from kit.meters.energy import absent, aliased, mean_power_w, measure
from kit.meters.memory import MemoryMeter
from kit.meters.nvml import Gpu, Unavailable
from kit.meters.poll import ABSENT
from kit.meters.processes import ProcessWatch, in_words, own_tree
from kit.meters.rapl import RaplMeter
from kit.meters.readings import Samples, Ticks
from kit.meters.sampler import Sampler
from kit.meters.several import conditions_of_all, energy_of_all
from kit.meters.trace import write_trace
from kit.results.record import Conditions, Energy, EnergyFlag, Memory, Trace

Numbers = NDArray[Any]

IDLE_S = 2.0
"""Before the trainer's launch the GPU's idle power is measured for so long."""
REST_S = 1.0
"""Between the end of setup and `go`: the GPU comes to rest, and who does not rest is seen."""
TAIL_S = 3.0
"""The meters go on for so long after the window."""
LAG_S = 0.2
"""What the sensor may still show of an end of work."""
WORKING = 1.3
"""Times idle power."""
THROTTLED = 0.01
"""Of the window's time."""


@dataclass(frozen=True)
class Readings:
    """What the meters have for a record."""

    energy: Energy
    memory: Memory
    conditions: Conditions | None
    trace: Trace | None


class Meters:
    """The meters of one run. Call, in this order: `start`, `settle`, `align`, `look`, `finish`, `read`.

    Args:
        gpus: Open GPUs, closed by `finish`; none where there is none to measure.
        no_gpu: Why not.
        rapl: Of the host.
    """

    def __init__(self, gpus: Sequence[Gpu], no_gpu: str, rapl: RaplMeter) -> None:
        self._no_gpu = no_gpu
        self._rapl = rapl
        self._gpus = [_GpuMeters(gpu) for gpu in gpus]
        self._memory: MemoryMeter | None = None
        self._finished = False

    @classmethod
    def of(cls, uuids: Sequence[str], *, allow_busy: bool) -> "Meters":
        """For a run on the GPUs of these UUIDs, or without any on the CPU.

        Raises:
            KitError: Somebody else computes on one of them, and that is not allowed.
        """
        if not uuids:
            return cls([], "no GPU: the run was on the CPU", RaplMeter())
        with ExitStack() as opened:
            gpus = []
            for uuid in uuids:
                try:
                    gpus.append(Gpu(uuid))
                except Unavailable as error:
                    return cls([], str(error), RaplMeter())
                opened.callback(gpus[-1].close)
                if not allow_busy:
                    _require_free(gpus[-1], uuid)
            opened.pop_all()
        return cls(gpus, "", RaplMeter())

    def start(self) -> None:
        """Begin, and measure idle power; then launch the trainer."""
        self._rapl.start()
        for gpu in self._gpus:
            gpu.start()
        if self._gpus:
            time.sleep(IDLE_S)
        for gpu in self._gpus:
            gpu.launch()

    def settle(self, pid: int) -> None:
        """Setup is over: let the GPU come to rest.

        Args:
            pid: The trainer's supervisor.
        """
        self._memory = MemoryMeter(pid)
        self._memory.start()
        for gpu in self._gpus:
            gpu.come_to_rest()
        if self._gpus:
            time.sleep(REST_S)
        for gpu in self._gpus:
            gpu.settle()

    def align(self) -> None:
        """Return just after a step of the (first) energy counter: send `go` now."""
        if self._gpus:
            self._gpus[0].counter.await_tick()

    def since_j(self, go_ns: int) -> float | None:
        """Joules of the GPUs so far, for a display."""
        joules = [gpu.counter.since_j(go_ns) for gpu in self._gpus]
        return None if not joules or None in joules else sum(filter(None, joules))

    def look(self) -> None:
        """Look at the trainer's processes while they are still there."""
        if self._memory is not None:
            self._memory.sample()
        for gpu in self._gpus:
            gpu.processes.look()

    def finish(self, stop_ns: int | None) -> None:
        """The run is over. Safe to call twice.

        Args:
            stop_ns: End of the window, which the meters outlast; None where nobody will ask.
        """
        if self._finished:
            return
        try:
            if self._gpus and stop_ns is not None:
                time.sleep(max(0.0, TAIL_S - (monotonic_ns() - stop_ns) / 1e9))
        finally:
            self._finished = True
            self._rapl.stop()
            if self._memory is not None:
                self._memory.stop()
            for gpu in self._gpus:
                gpu.stop()

    def read(
        self,
        run_dir: Path,
        go_ns: int | None,
        stop_ns: int,
        *,
        step_s: float | None,
        torch_peak_bytes: int | None,
    ) -> Readings:
        """What was measured between `go` and stop; also writes the trace.

        Args:
            run_dir: Where to.
            go_ns: Start of the window; None where the clock never started.
            stop_ns: End of the window.
            step_s: Length of a training step, where it is known.
            torch_peak_bytes: What the trainer said about its memory.
        """
        host_peak_bytes = None if self._memory is None else self._memory.stop()
        peak_bytes, no_peak = self._peak_bytes()
        memory = Memory(
            device_peak_bytes=peak_bytes,
            device_unavailable_because=no_peak,
            device_torch_peak_bytes=torch_peak_bytes,
            host_peak_bytes=host_peak_bytes,
        )
        if go_ns is None:
            why = "the clock never started"
            energy = absent(why).model_copy(update={"host_unavailable_because": why})
            return Readings(energy, memory, None, None)
        host_j, no_host = self._rapl.energy_j(go_ns, stop_ns)
        host = {"host_j": host_j, "host_unavailable_because": no_host}
        if not self._gpus:
            return Readings(absent(self._no_gpu).model_copy(update=host), memory, None, None)
        parts = [gpu.read(go_ns, (stop_ns - go_ns) / 1e9, step_s) for gpu in self._gpus]
        energy = energy_of_all([energy for energy, _ in parts])
        columns = [(gpu.sampler.columns(), gpu.counter.columns()) for gpu in self._gpus]
        trace = write_trace(run_dir, columns, zero_ns=go_ns)
        return Readings(
            energy.model_copy(update=host), memory, conditions_of_all([conditions for _, conditions in parts]), trace
        )

    def _peak_bytes(self) -> tuple[int | None, str | None]:
        """The sum of the GPUs' own peaks, or why it is not known."""
        peaks = [gpu.processes.peak_bytes() for gpu in self._gpus]
        if not peaks:
            return None, self._no_gpu
        unknown = next((because for peak, because in peaks if peak is None), None)
        return (None, unknown) if unknown is not None else (sum(peak or 0 for peak, _ in peaks), None)


class _GpuMeters:
    """The meters of one GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.counter = CounterFollower(gpu.counter_mj)
        self.sampler = Sampler(gpu)
        self.processes = ProcessWatch(gpu)
        self._start_ns = self._launch_ns = self._ready_ns = 0

    def start(self) -> None:
        self._start_ns = monotonic_ns()
        for meter in (self.counter, self.sampler, self.processes):
            meter.start()

    def launch(self) -> None:
        self._launch_ns = monotonic_ns()
        self.processes.setting_up = True

    def come_to_rest(self) -> None:
        self._ready_ns = monotonic_ns()

    def settle(self) -> None:
        self.processes.look()
        self.processes.setting_up = False

    def stop(self) -> None:
        for meter in (self.counter, self.sampler, self.processes):
            meter.stop()
        self._gpu.close()

    def read(self, go_ns: int, stop_s: float, step_s: float | None) -> tuple[Energy, Conditions]:
        ticks, samples = self.counter.ticks(go_ns), self.sampler.samples(go_ns)
        energy = measure(ticks, samples, stop_s)
        conditions = self._conditions(go_ns, stop_s)
        idle_w = mean_power_w(ticks, samples, *((at - go_ns) / 1e9 for at in (self._start_ns, self._launch_ns)))
        flags: list[EnergyFlag] = [*energy.flags, *self._work_outside(ticks, samples, go_ns, stop_s, idle_w)]
        inside = (ticks.at_s >= 0) & (ticks.at_s <= stop_s)
        if step_s is not None and aliased(ticks.at_s[inside], step_s):
            flags.append("aliased")
        throttled_s = (conditions.throttled_power_s or 0) + (conditions.throttled_heat_s or 0)
        if throttled_s > THROTTLED * stop_s:
            flags.append("throttled")
        if any(
            other.computes and other.first_seen_s <= stop_s and other.last_seen_s >= 0
            for other in conditions.foreign_processes
        ):
            flags.append("foreign_process")
        update = {"flags": tuple(flags), "idle_w": idle_w, "power_scope": self._gpu.power_scope}
        return energy.model_copy(update=update), conditions

    def _work_outside(
        self, ticks: Ticks, samples: Samples, go_ns: int, stop_s: float, idle_w: float | None
    ) -> list[EnergyFlag]:
        """Between setup and `go` nobody has work to do, and nobody has after the window."""
        ready_s = max((self._ready_ns - go_ns) / 1e9, -TAIL_S)
        stretches: tuple[tuple[EnergyFlag, float, float], ...] = (
            ("work_before_go", ready_s + LAG_S, 0.0),
            ("work_after_stop", stop_s + LAG_S, stop_s + TAIL_S),
        )
        flags = []
        for flag, start_s, end_s in stretches:
            watts = mean_power_w(ticks, samples, start_s, end_s)
            if watts is not None and idle_w is not None and watts > WORKING * idle_w:
                flags.append(flag)
        return flags

    def _conditions(self, go_ns: int, stop_s: float) -> Conditions:
        columns = self.sampler.columns()
        at_s = (columns["at_ns"] - go_ns) / 1e9

        def known(name: str) -> tuple[Numbers, Numbers]:
            rows = columns[name] != ABSENT
            return at_s[rows], columns[name][rows]

        def within(name: str) -> Numbers:
            seen_s, values = known(name)
            return values[(seen_s >= 0) & (seen_s <= stop_s)]

        def grown_s(name: str) -> float | None:
            seen_s, values = known(name)
            if not len(values) or seen_s[-1] < stop_s:
                return None
            return float(np.diff(np.interp([0.0, stop_s], seen_s, values))[0]) / 1e9

        temperature, sm, memory = (within(name) for name in ("temperature_c", "clock_sm_mhz", "clock_memory_mhz"))
        return Conditions(
            temperature_start_c=_at(temperature, 0),
            temperature_end_c=_at(temperature, -1),
            clock_sm_start_mhz=_at(sm, 0),
            clock_sm_mean_mhz=float(sm.mean()) if len(sm) else None,
            clock_sm_end_mhz=_at(sm, -1),
            clock_memory_mean_mhz=float(memory.mean()) if len(memory) else None,
            throttled_power_s=grown_s("throttled_power_ns"),
            throttled_heat_s=grown_s("throttled_heat_ns"),
            foreign_processes=self.processes.foreign(go_ns),
        )


def _at(values: Numbers, index: int) -> int | None:
    return int(values[index]) if len(values) else None


def _require_free(gpu: Gpu, uuid: str) -> None:
    try:
        processes = gpu.processes()
    except Unavailable:
        return
    ours = own_tree()
    others = [process for process in processes if process.computes and process.pid not in ours]
    if others:
        raise KitError(
            f"{uuid} is in use by {', '.join(map(in_words, others))}: "
            "end that or wait for it; allow_busy_device=true runs anyway, and the record says so"
        )
