"""What do the baselines do on a GPU? Times, energy, operations and utilization, on synthetic data, in one JSON file.

Calibrates the machine, draws data in the published formats, trains each baseline through `kit run` (those of ImageNet
for some steps) and sets the counted operations per second beside the calibrated rate of matrix products.

    python benchmarks/gpu_baselines.py [-o gpu_baselines.json] [--rehearse] [--only NAME ...]

--rehearse does the same on whatever machine there is, on little data with tiny networks, and calibrates nothing: to see
that it works before a GPU is paid for.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kit.errors import KitError
from kit.hardware.profile import Profile, read_profile
from kit.results.record import Record
from kit.track import Model

LONGEST_S = 300
"""One command; what takes longer is ended, and the rest goes on."""


@dataclass(frozen=True)
class Case:
    """One baseline."""

    name: str
    track: str
    overrides: tuple[str, ...]
    tiny: tuple[str, ...]
    """Instead, in a rehearsal."""
    optimizers: int = 1
    """Whose steps make one step of the training."""


IMAGENET = ("config.classes=100", "max_steps=64")
TINY_IMAGENET = ("config.classes=2", "config.batch_size=4", "max_steps=2")
CASES = (
    Case(
        "glyphs_cnn",
        "glyphs",
        (),
        ("config.width=4", "max_steps=2"),
    ),
    Case(
        "cifar10_speed",
        "cifar10",
        (),
        ("config.width=8", "config.batch_size=25", "config.epochs=1"),
        optimizers=2,
    ),
    Case(
        "cifar10_resnet9",
        "cifar10",
        (),
        (
            "config.width=4",
            "config.batch_size=50",
            "config.ghost_batch=25",
            "config.epochs=1",
            "config.first_evaluation=1",
        ),
    ),
    Case(
        "cifar10_resnet18", "cifar10", ("config.epochs=1",), ("config.width=8", "config.batch_size=50", "max_steps=2")
    ),
    Case("imagenet_alexnet", "imagenet_alexnet", IMAGENET, (*TINY_IMAGENET, "config.size=64")),
    Case(
        "imagenet_resnet50",
        "imagenet",
        IMAGENET,
        (*TINY_IMAGENET, "config.small_size=32", "config.large_size=32"),
    ),
    Case("imagenet_efficientnet_b0", "imagenet_alexnet", IMAGENET, (*TINY_IMAGENET, "config.sizes=[32]")),
)


class Result(Model):
    """One baseline on this machine; None is what could not be measured, and `because` says why."""

    name: str
    outcome: str
    because: str | None
    device: str | None = None
    setup_s: float | None = None
    to_target_s: float | None = None
    training_s: float | None = None
    """From `go` to the end, without evaluations."""
    step_s: float | None = None
    """Of the later half of the steps up to the last power of two: everything is warm then."""
    epoch_s: float | None = None
    """By `step_s`."""
    device_energy_j: float | None = None
    energy_unavailable_because: str | None = None
    training_flops: int | None = None
    evaluation_flops: int | None = None
    flops_per_s: float | None = None
    """While training."""
    dtype: str | None = None
    """Of most operations."""
    gemm_flops_per_s: float | None = None
    """The calibrated best of matrix products in that dtype."""
    utilization: float | None = None
    """What training reached of that."""


class Report(Model):
    """All of it."""

    rehearsal: bool
    took_s: float
    profile: Profile | None
    results: tuple[Result, ...]


def gemm_rate(profile: Profile, dtype: str) -> float | None:
    """Operations per second of the best matrix product that was calibrated in a dtype."""
    rates = [
        point.flops_per_call / point.seconds
        for curve in profile.curves
        if (curve.operator_class, curve.dtype) == ("gemm", dtype)
        for point in curve.points
    ]
    return max(rates, default=None)


def step_s(record: Record, optimizers: int) -> float | None:
    """Seconds per training step between the last two times that the referee noted."""
    if len(record.progress) < 2:
        return None
    earlier, later = record.progress[-2:]
    return (later.elapsed_s - earlier.elapsed_s) / (later.optimizer_steps - earlier.optimizer_steps) * optimizers


def result_of(case: Case, record: Record, images: int, profile: Profile | None) -> Result:
    """What a record says of a case; `images` are those of an epoch."""
    flops, time_ = record.flops, record.time
    training_s = None if time_.total_s is None else time_.total_s - time_.evaluation_s
    per_s = flops.train_total / training_s if flops.train_total and training_s else None
    weights: Counter[str] = Counter()
    for row in flops.operators:
        weights[row.dtype] += round(row.calls * row.flops_per_call)
    dtype = weights.most_common(1)[0][0] if weights else None
    rate = gemm_rate(profile, dtype) if profile is not None and dtype is not None else None
    step = step_s(record, case.optimizers)
    return Result(
        name=case.name,
        outcome=record.outcome,
        because=record.reason,
        device=record.device.name,
        setup_s=time_.setup_s,
        to_target_s=time_.to_target_s,
        training_s=training_s,
        step_s=step,
        epoch_s=None if step is None else step * (images // record.submission.config["batch_size"]),
        device_energy_j=record.energy.device_j,
        energy_unavailable_because=record.energy.unavailable_because,
        training_flops=flops.train_total,
        evaluation_flops=flops.evaluation_total,
        flops_per_s=per_s,
        dtype=dtype,
        gemm_flops_per_s=rate,
        utilization=per_s / rate if per_s is not None and rate is not None else None,
    )


def kit(*arguments: object) -> None:
    """A `kit` command.

    Raises:
        KitError: It failed, or took too long.
    """
    command = [sys.executable, "-m", "kit.cli", *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        raise KitError(f"kit {arguments[0]}: more than {LONGEST_S} s") from None
    if done.returncode not in (0, 1):  # 1: trained, and missed
        raise KitError(f"kit {arguments[0]}: {(done.stderr or done.stdout).strip()[-500:]}")


def draw(folder: Path, kind: str, *amounts: object) -> None:
    """Prepared data, drawn."""
    kit("data", "synthesize", kind, folder / kind, *amounts)
    kit("data", "prepare", kind, "--source", folder / kind, "--data-dir", folder / "data", "--rehearsal")


def amounts(kind: str, *, tiny: bool) -> dict[str, int]:
    """Of images drawn, and of classes."""
    if kind == "cifar10":
        return {"train": 100, "test": 20} if tiny else {"train": 50_000, "test": 10_000}
    return {"classes": 2, "train": 8, "test": 4} if tiny else {"classes": 100, "train": 4000, "test": 500}


def raced(case: Case, folder: Path, profile: Profile | None, *, tiny: bool) -> Result:
    """Train one baseline."""
    kind = case.track.partition("_")[0]
    data = folder / "data"
    places = [f"results_dir={folder / 'results' / case.name}", f"data_dir={data}"]
    rehearsal = [] if kind == "glyphs" else ["track.rehearsal=true"]
    try:
        if kind != "glyphs" and not (data / kind).exists():
            draw(folder, kind, *(part for name, n in amounts(kind, tiny=tiny).items() for part in (f"--{name}", n)))
        chosen = case.tiny if tiny else case.overrides
        kit("run", f"submission=baselines/{case.name}", f"track={case.track}", *rehearsal, *places, *chosen)
        (path,) = (folder / "results" / case.name).glob("*/record.json")
    except (KitError, ValueError) as failure:
        return Result(name=case.name, outcome="not run", because=str(failure))
    images = 50_000 if kind == "glyphs" else amounts(kind, tiny=tiny)["train"]
    return result_of(case, Record.model_validate_json(path.read_text()), images, profile)


def show(result: Result) -> str:
    """One line."""

    def number(value: float | None, unit: str, scale: float = 1) -> str:
        return "-" if value is None else f"{value / scale:.4g} {unit}"

    return " | ".join(
        (
            result.name,
            result.outcome,
            f"step {number(result.step_s, 'ms', 1e-3)}",
            f"epoch {number(result.epoch_s, 's')}",
            f"training {number(result.training_s, 's')}",
            number(result.device_energy_j, "J"),
            number(result.training_flops, "TFLOP", 1e12),
            f"utilization {number(result.utilization, '%', 0.01)}",
            result.because or "",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_baselines.json"))
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], default=[])
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    profile, results = None, []
    with tempfile.TemporaryDirectory(prefix="gpu-baselines-") as scratch:
        if not arguments.rehearse:
            kit("calibrate", "-o", Path(scratch) / "profile.json")
            profile = read_profile(Path(scratch) / "profile.json")
        for case in CASES:
            if case.name in arguments.only or not arguments.only:
                results.append(raced(case, Path(scratch), profile, tiny=arguments.rehearse))
                print(show(results[-1]), flush=True)
                report = Report(
                    rehearsal=arguments.rehearse,
                    took_s=time.monotonic() - begun_s,
                    profile=profile,
                    results=tuple(results),
                )
                # After each: whoever ends this early keeps what is there.
                arguments.output.write_text(json.dumps(report.model_dump(mode="json"), indent=2) + "\n")


if __name__ == "__main__":
    main()
