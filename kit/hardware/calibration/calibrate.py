"""`kit calibrate`: this machine as it is set, measured within a budget and judged, as a device profile."""

import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Literal

import psutil
import torch

from kit.errors import KitError
from kit.hardware.calibration import gpu
from kit.hardware.calibration.kernels import Series
from kit.hardware.calibration.measure import MeasuredKernel, MeasuredWorkload, Measurement, measure
from kit.hardware.calibration.quiet import Use, Watch, cpu_reader
from kit.hardware.calibration.settings import Setting, dtypes_of, found_settings
from kit.hardware.calibration.suite import SUITE
from kit.hardware.calibration.timing import ENOUGH_SLOTS, quantile
from kit.hardware.calibration.workloads import Workload, reference_workloads
from kit.hardware.machine import describe, software
from kit.hardware.profile import Curve, LeftOut, Noise, Point, Profile, State, WorkloadTime
from kit.version import __version__

BUDGET_S = 90.0
"""With loading torch and the first calls, two cores need less than two minutes in all."""
MAX_DISTURBED = 0.2
MAX_UNCLEAN = 0.05
MAX_REFUSED = 0.05
MAX_MEDIAN_SPREAD = 0.15
"""Above these a profile is noisy: shares of stretches disturbed, of points never clean and of points refused; and the
spread of the median point."""


def calibrate(
    device_type: Literal["cpu", "cuda"],
    *,
    suite: Sequence[Series] = SUITE,
    workloads: Sequence[Workload] | None = None,
    budget_s: float = BUDGET_S,
    tell: Callable[[float], None] = lambda _: None,
) -> Profile:
    """Measure the profile of this machine, as torch is set in this process.

    Args:
        device_type: What to measure.
        suite: Kernels to time.
        workloads: Training steps to time; default `reference_workloads`.
        budget_s: Seconds to spend.
        tell: Is told the seconds that are gone.

    Raises:
        KitError: torch cannot use such a device.
    """
    if device_type == "cuda" and not torch.cuda.is_available():
        raise KitError(
            "NVML lists a GPU but torch finds none: see nvidia-smi, and whether this torch was built for CUDA"
        )
    begun_s = perf_counter()
    device = torch.device(device_type)
    watch = Watch(cpu_reader(_gpu_processes(device)))
    settings = [Setting(dtype) for dtype in dtypes_of(device)]
    chosen = reference_workloads(device) if workloads is None else workloads
    measurement = measure(device, settings, suite, chosen, watch=watch, budget_s=budget_s, tell=tell)
    return profile_of(measurement, settings, device, took_s=perf_counter() - begun_s)


def profile_of(
    measurement: Measurement, settings: Sequence[Setting], device: torch.device, *, took_s: float
) -> Profile:
    """The profile of some of the settings of a measurement: those that differ in their dtype alone.

    Raises:
        KitError: The machine was so disturbed that nothing is left.
    """
    measured_at = datetime.now(UTC)
    kernels = [item for item in measurement.kernels if item.setting in settings]
    workloads = [item for item in measurement.workloads if item.setting in settings]
    believed = [item for item in kernels if item.refused_because is None]
    if not believed:
        raise KitError(
            f"of {len(kernels)} timings none could be believed: others leave this machine too little time to be "
            "calibrated; calibrate when it is left alone"
        )
    launches = [item.timings.seconds for item in believed if item.kernel.series == "add: add"]
    with settings[0].applied():
        found = found_settings()
    described = describe(device.type, found.threads if device.type == "cpu" else None)  # type: ignore[arg-type]
    return Profile(
        id=_profile_id(measured_at, described.name),
        measured_at=measured_at,
        took_s=took_s,
        kit_version=__version__,
        device=described,
        software=software(),
        settings=found,
        state=_state(device, measurement.uses),
        launch_overhead_s=min(launches or (item.timings.seconds for item in believed)),
        curves=_curves(believed),
        workloads=tuple(_workload_time(item) for item in workloads),
        left_out=measurement.left_out,
        noise=judge(kernels, workloads, measurement.uses, measurement.rounds),
    )


def judge(
    kernels: Sequence[MeasuredKernel], workloads: Sequence[MeasuredWorkload], uses: Sequence[Use], rounds: int
) -> Noise:
    """How noisy a measurement was, and whether too noisy."""
    timings = [*(item.timings for item in kernels), *(item.timings for item in workloads)]
    spreads = [item.spread for item in timings]
    refused = tuple(
        LeftOut(what=f"{item.setting.dtype} {item.kernel.series}", because=item.refused_because)
        for item in kernels
        if item.refused_because is not None
    )
    unclean = sum(not item.clean for item in timings)
    disturbed = sum(use.disturbing for use in uses) / len(uses)
    median = quantile(spreads, 0.5)
    cores = _others_cores(uses)
    reasons = {
        f"others used {cores:.2g} cores on average, in {disturbed:.0%} of the time": disturbed > MAX_DISTURBED,
        f"{unclean} of {len(timings)} points were never measured undisturbed": unclean > MAX_UNCLEAN * len(timings),
        f"{len(refused)} of {len(kernels)} points made no sense": len(refused) > MAX_REFUSED * len(kernels),
        f"there was time for {rounds} rounds": rounds < ENOUGH_SLOTS,
        f"repetitions of the median point differ by {median:.0%}": median > MAX_MEDIAN_SPREAD,
    }
    because = "; ".join(reason for reason, applies in reasons.items() if applies) or None
    return Noise(
        median_spread=median,
        p90_spread=quantile(spreads, 0.9),
        rounds=rounds,
        disturbed=disturbed,
        unclean=unclean,
        refused=refused,
        noisy=because is not None,
        because=because,
    )


def _curves(kernels: Sequence[MeasuredKernel]) -> tuple[Curve, ...]:
    points = defaultdict(list)
    for item in kernels:
        isolated = item.kernel.isolated
        points[isolated.operator_class, isolated.dtype, isolated.backward].append(
            Point(
                series=item.kernel.series,
                flops_per_call=isolated.flops,
                bytes_per_call=isolated.size_bytes,
                seconds=item.timings.seconds,
                spread=item.timings.spread,
            )
        )
    return tuple(
        Curve(
            operator_class=operator_class,  # type: ignore[arg-type]
            dtype=dtype,  # type: ignore[arg-type]
            backward=backward,
            points=tuple(sorted(members, key=lambda point: (point.flops_per_call, point.bytes_per_call))),
        )
        for (operator_class, dtype, backward), members in points.items()
    )


def _workload_time(item: MeasuredWorkload) -> WorkloadTime:
    return WorkloadTime(
        name=item.name,
        dtype=item.setting.dtype,
        compiled=item.compiled,
        step_s=item.timings.seconds,
        spread=item.timings.spread,
        operators=item.operators,
    )


def _others_cores(uses: Sequence[Use]) -> float:
    return sum(use.foreign_s for use in uses) / sum(use.wall_s for use in uses)


def _state(device: torch.device, uses: Sequence[Use]) -> State:
    on_gpu = device.type == "cuda"
    return State(
        clock_mhz=gpu.clock_mhz() if on_gpu else _cpu_clock_mhz(),
        power_limit_w=describe("cuda").power_limit_w if on_gpu else None,
        temperature_c=gpu.temperature_c() if on_gpu else None,
        throttled_because=gpu.throttled_because() if on_gpu else None,
        other_cores=_others_cores(uses),
        other_gpu_processes=max(use.gpu_processes for use in uses),
    )


def _cpu_clock_mhz() -> float | None:
    frequency = psutil.cpu_freq()
    return frequency.current if frequency is not None and frequency.current > 0 else None


def _gpu_processes(device: torch.device) -> Callable[[], int]:
    """Counts the processes of others on the GPU: those that are there besides the one that torch's context adds."""
    if device.type == "cpu":
        return lambda: 0
    before = gpu.running_processes()
    torch.cuda.synchronize()
    return gpu.foreign_processes(ours=gpu.running_processes() - before)


def _profile_id(measured_at: datetime, device: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")[:60]
    return f"{measured_at:%Y%m%dT%H%M%SZ}-{name}-{secrets.token_hex(3)}"
