"""How good is the normalization? Training steps that no calibration saw, predicted from one device to another.

The devices are settings of this machine: one thread and all of them, float32 and bfloat16, with oneDNN and without;
where there is a GPU, that GPU in its dtypes too. All settings of a device are calibrated and all steps timed in turn,
within seconds of each other, so that what drifts, drifts for all. Every held-out step is then predicted for every
ordered pair of devices, by the kit and by simpler rules, and compared with what it really takes.

    python benchmarks/normalization.py [--minutes 15] [--save FILE.json] [--load FILE.json] [--plot FILE.png]
"""

import argparse
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from heldout import HELD_OUT

from kit.errors import KitError
from kit.hardware.calibration.calibrate import profile_of
from kit.hardware.calibration.measure import measure
from kit.hardware.calibration.quiet import Watch, cpu_reader
from kit.hardware.calibration.settings import Setting, dtypes_of
from kit.hardware.calibration.suite import SUITE
from kit.hardware.calibration.timing import LOW, quantile
from kit.hardware.calibration.workloads import SMALL
from kit.hardware.prediction import Prediction, predict
from kit.hardware.profile import DtypeName, Profile
from kit.hardware.specs import spec_named
from kit.results.record import OperatorFlops
from kit.track import Model

REFERENCE = "cnn"
"""What the rule of a single reference workload goes by."""
CORE_TFLOPS = {"float32": 0.1, "bfloat16": 0.2}
"""Nominal, per thread: 32 multiply-adds a cycle at some 1.6 GHz; AVX-512 does twice as many bfloat16 ones."""


class Step(Model):
    """One held-out step on one device."""

    name: str
    step_s: float
    slots_s: tuple[float, ...]
    """Round by round."""
    operators: tuple[OperatorFlops, ...]


class Device(Model):
    """One setting, with its calibration and the truth."""

    name: str
    dtype: DtypeName
    threads: int
    profile: Profile
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """A held-out step by name."""
        return next(step for step in self.steps if step.name == name)


class Study(Model):
    """What was measured."""

    devices: tuple[Device, ...]


def cpu_machines() -> list[list[Setting]]:
    """Each with the dtypes that programs run in there. Without oneDNN, bfloat16 has no kernels worth timing."""
    return [
        [Setting(dtype, count, onednn) for dtype in (("float32", "bfloat16") if onednn else ("float32",))]
        for count in sorted({1, torch.get_num_threads()})
        for onednn in (True, False)
    ]


def run_study(minutes: float) -> Study:
    """Calibrate and time everything, in turn."""
    devices = list(measured(torch.device("cpu"), cpu_machines(), minutes))
    if torch.cuda.is_available():
        gpu = torch.device("cuda")
        devices += measured(gpu, [[Setting(dtype) for dtype in dtypes_of(gpu)]], minutes)
    return Study(devices=tuple(devices))


def measured(device: torch.device, machines: Sequence[Sequence[Setting]], minutes: float) -> Iterator[Device]:
    """The settings of one device, with their calibrations and the truth."""
    measurement = measure(
        device,
        [setting for machine in machines for setting in machine],
        SUITE,
        [*SMALL, *HELD_OUT],
        watch=Watch(cpu_reader(lambda: 0)),
        compiled=(),
        budget_s=60 * minutes,
        tell=lambda gone_s: print(f"\r{gone_s:6.0f} s", end="", flush=True),
    )
    print(f"\r{device}: {measurement.rounds} rounds, {len(measurement.kernels)} kernels")
    held_out = {workload.name for workload in HELD_OUT}
    for machine in machines:
        profile = profile_of(measurement, machine, device, took_s=60 * minutes)
        known = tuple(workload for workload in profile.workloads if workload.name not in held_out)
        for setting in machine:
            yield Device(
                name=_name(device, setting),
                dtype=setting.dtype,
                threads=setting.threads or 1,
                profile=profile.model_copy(update={"workloads": known}),
                steps=tuple(
                    Step(
                        name=item.name,
                        step_s=item.timings.seconds,
                        slots_s=tuple(item.timings.slots),
                        operators=item.operators,
                    )
                    for item in measurement.workloads
                    if item.setting == setting and item.name in held_out
                ),
            )


def _name(device: torch.device, setting: Setting) -> str:
    if device.type == "cuda":
        return f"GPU, {setting.dtype}"
    threads = f"{setting.threads} thread{'s' if setting.threads != 1 else ''}"
    return f"{threads}, {setting.dtype}{'' if setting.onednn else ', no oneDNN'}"


# ---- rules


Rule = Callable[[Device, Device, str], float]
"""Predicts the time of a held-out step on the second device."""


def _times(device: Device) -> dict[str, float]:
    return {
        workload.name: workload.step_s
        for workload in device.profile.workloads
        if workload.dtype == device.dtype and not workload.compiled
    }


def peak_ratio(a: Device, b: Device, name: str) -> float:
    """By nominal peaks."""
    return a.step(name).step_s * _nominal_peak(a) / _nominal_peak(b)


def _nominal_peak(device: Device) -> float:
    """TFLOP/s: of a GPU by the table of specifications, of this kit's processors by their vector units."""
    name = device.profile.device.name
    if device.profile.device.type == "cpu":
        return device.threads * CORE_TFLOPS[device.dtype]
    spec = spec_named(name)
    peak = None if spec is None else spec.peak_tflops(device.dtype)
    return math.nan if peak is None else peak


def measured_peak_ratio(a: Device, b: Device, name: str) -> float:
    """By the best rate of any matrix product."""
    peaks = [
        max(p.flops_per_call / p.seconds for p in device.profile.curve("gemm", device.dtype).points)
        for device in (a, b)
    ]
    return a.step(name).step_s * peaks[0] / peaks[1]


def bandwidth_ratio(a: Device, b: Device, name: str) -> float:
    """By the bandwidth of the largest additions."""
    rates = []
    for device in (a, b):
        points = [p for p in device.profile.curve("elementwise", "float32").points if p.series == "add: add"]
        largest = max(points, key=lambda point: point.bytes_per_call)
        rates.append(largest.bytes_per_call / largest.seconds)
    return a.step(name).step_s * rates[0] / rates[1]


def one_reference(a: Device, b: Device, name: str) -> float:
    """By one reference workload."""
    return a.step(name).step_s * _times(b)[REFERENCE] / _times(a)[REFERENCE]


def mean_reference(a: Device, b: Device, name: str) -> float:
    """By the geometric mean of all reference workloads."""
    on_a, on_b = _times(a), _times(b)
    return a.step(name).step_s * math.exp(np.mean([math.log(on_b[each] / on_a[each]) for each in on_a]))


def roofline(a: Device, b: Device, name: str) -> float:
    """By a sum of rooflines: every class at its best rate and bandwidth."""
    return a.step(name).step_s * _roofline_s(b, name) / _roofline_s(a, name)


def _roofline_s(device: Device, name: str) -> float:
    best: dict[tuple[str, str, bool], tuple[float, float]] = {}
    total = 0.0
    for row in device.step(name).operators:
        key = row.operator_class, row.dtype, row.backward
        if key not in best:
            kind = "elementwise" if row.operator_class == "other" else row.operator_class
            points = device.profile.curve(kind, row.dtype, backward=row.backward).points
            best[key] = (
                max(point.flops_per_call / point.seconds for point in points),
                max(point.bytes_per_call / point.seconds for point in points),
            )
        flops_rate, byte_rate = best[key]
        compute_s = row.flops_per_call / flops_rate if flops_rate else 0.0
        total += row.calls * (device.profile.launch_overhead_s + max(compute_s, row.bytes_per_call / byte_rate))
    return total


def prediction(a: Device, b: Device, name: str) -> Prediction:
    """By the kit."""
    return predict(a.step(name).operators, a.profile, b.profile, b.step(name).operators)


SIMPLE: dict[str, Rule] = {
    "ratio of nominal peaks": peak_ratio,
    "ratio of measured GEMM peaks": measured_peak_ratio,
    "ratio of bandwidths": bandwidth_ratio,
    "one reference workload": one_reference,
    "mean of the reference workloads": mean_reference,
    "sum of rooflines": roofline,
}
KIT = "the kit's prediction"


# ---- errors


@dataclass(frozen=True)
class Trial:
    """One held-out step, one ordered pair of devices."""

    a: Device
    b: Device
    name: str
    predicted_s: dict[str, float]
    prediction: Prediction

    @property
    def true_s(self) -> float:
        """What it takes."""
        return self.b.step(self.name).step_s

    def error(self, rule: str) -> float:
        """Relative."""
        return abs(self.predicted_s[rule] / self.true_s - 1)

    @property
    def covered(self) -> bool:
        """Whether the stated interval holds the truth."""
        ratio = self.true_s / self.a.step(self.name).step_s
        return self.prediction.low <= ratio <= self.prediction.high

    @property
    def half_width(self) -> float:
        """Of the stated interval, per predicted time."""
        return (self.prediction.high - self.prediction.low) / (2 * self.prediction.ratio)

    @property
    def upper_half(self) -> float:
        """What the interval goes up by, per predicted time."""
        return self.prediction.high / self.prediction.ratio - 1


def trials(study: Study) -> Iterator[Trial]:
    """Every held-out step over every ordered pair of devices."""
    for a, b in itertools.permutations(study.devices, 2):
        for step in a.steps:
            try:
                by_kit = prediction(a, b, step.name)
            except KitError as error:
                print(f"{a.name} -> {b.name}, {step.name}: {error}")
                continue
            predicted_s = {rule: simple(a, b, step.name) for rule, simple in SIMPLE.items()}
            yield Trial(a, b, step.name, predicted_s | {KIT: step.step_s * by_kit.ratio}, by_kit)


def report(study: Study, found: Sequence[Trial]) -> str:
    """The tables, in Markdown."""
    accepted = [trial for trial in found if trial.prediction.refused_because is None]
    pairs = len({(trial.a.name, trial.b.name) for trial in found})
    refused = pairs - len({(trial.a.name, trial.b.name) for trial in accepted})
    repeats = [
        abs(math.log(quantile(step.slots_s[::2], LOW) / quantile(step.slots_s[1::2], LOW)))
        for device in study.devices
        for step in device.steps
        if len(step.slots_s) > 1
    ]
    lines = [
        f"{len(found)} predictions: {len(HELD_OUT)} held-out steps over {pairs} ordered pairs of {len(study.devices)} "
        f"devices; {refused} pairs refused by their leave-one-out errors.",
        f"The same step on the same device, even rounds against odd ones, differs by {np.median(repeats):.1%} (median) "
        f"and {np.quantile(repeats, 0.9):.1%} (90th percentile).",
        "",
        "| rule | median error | mean | 90th percentile | pairs not refused: median | mean |",
        "|---|---|---|---|---|---|",
    ]
    for rule in [*SIMPLE, KIT]:
        every = [trial.error(rule) for trial in found]
        not_refused = [trial.error(rule) for trial in accepted]
        lines.append(
            f"| {rule} | {np.median(every):.1%} | {np.mean(every):.1%} | {np.quantile(every, 0.9):.1%} "
            f"| {np.median(not_refused):.1%} | {np.mean(not_refused):.1%} |"
        )
    covered = np.mean([trial.covered for trial in accepted])
    width, upper = (np.median([getattr(trial, name) for trial in accepted]) for name in ("half_width", "upper_half"))
    lines += [
        "",
        f"Stated 95 % intervals of pairs not refused held the truth in {covered:.1%} of {len(accepted)} cases; their "
        f"median half-width is {width:.1%} (upwards {upper:.1%}).",
        "",
        "| held-out step | median error | mean | covered |",
        "|---|---|---|---|",
    ]
    for workload in HELD_OUT:
        mine = [trial for trial in accepted if trial.name == workload.name]
        lines.append(f"| {workload.name} | {_errors(mine)} |")
    lines += ["", "| what differs | pairs | refused | median error | mean | covered |", "|---|---|---|---|---|---|"]
    for kind in dict.fromkeys(_difference(trial) for trial in found):
        mine = [trial for trial in found if _difference(trial) == kind]
        kept = [trial for trial in mine if trial.prediction.refused_because is None]
        count = len({(trial.a.name, trial.b.name) for trial in mine})
        gone = count - len({(trial.a.name, trial.b.name) for trial in kept})
        lines.append(f"| {kind} | {count} | {gone} | {_errors(kept)} |")
    return "\n".join(lines)


def _errors(trials: Sequence[Trial]) -> str:
    """Median, mean, and how often the interval held the truth."""
    if not trials:
        return "- | - | -"
    errors = [trial.error(KIT) for trial in trials]
    covered = float(np.mean([trial.covered for trial in trials]))
    return f"{np.median(errors):.1%} | {np.mean(errors):.1%} | {covered:.0%}"


def _difference(trial: Trial) -> str:
    """What changes from one device to the other."""
    changes = {
        "threads": trial.a.threads != trial.b.threads,
        "device": trial.a.profile.device.type != trial.b.profile.device.type,
        "dtype": trial.a.dtype != trial.b.dtype,
        "library": trial.a.profile.settings.onednn != trial.b.profile.settings.onednn,
    }
    return " and ".join(name for name, changed in changes.items() if changed)


def plot(found: Sequence[Trial], path: Path) -> None:
    """Errors of all rules: each share of predictions against the error that it stays below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for rule in [*SIMPLE, KIT]:
        errors = np.sort([trial.error(rule) for trial in found])
        share = np.arange(1, len(errors) + 1) / len(errors)
        style = {"color": "black", "linewidth": 2.5} if rule == KIT else {"linewidth": 1.2}
        axes.plot(np.maximum(errors, 1e-3), share, label=rule, **style)
    axes.set_xscale("log")
    axes.set_xlim(0.005, 5)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("relative error of the predicted time")
    axes.set_ylabel("predictions with at most this error")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, or load what was measured, and report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--save", type=Path, help="keep what was measured")
    parser.add_argument("--load", type=Path, help="report on what was measured before")
    parser.add_argument("--plot", type=Path, help="draw the errors")
    arguments = parser.parse_args()
    if arguments.load is not None:
        study = Study.model_validate(json.loads(arguments.load.read_text()))
    else:
        study = run_study(arguments.minutes)
    if arguments.save is not None:
        arguments.save.write_text(study.model_dump_json())
    found = list(trials(study))
    print(f"torch {torch.__version__}, {study.devices[0].profile.device.name}\n")
    print(report(study, found))
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
