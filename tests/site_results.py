"""Folders of results for the site's tests."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from records import make_entry, make_record
from support import ROOT

from kit.hardware.profile import Profile, write_profile
from kit.meters.trace import write_trace
from kit.protocol import Phase
from kit.results.record import (
    Device,
    Energy,
    Evaluation,
    Flops,
    OperatorFlops,
    Record,
    SubmissionInfo,
)
from kit.results.source import digest
from kit.results.store import write_record

MIX: tuple[tuple[str, str, Phase, float], ...] = (
    ("conv", "bfloat16", "training", 0.8),
    ("gemm", "bfloat16", "training", 0.15),
    ("gemm", "float32", "training", 0.05),
    ("conv", "bfloat16", "evaluation", 0.1),
)
"""Shares of an entry's operations."""
EXAMPLE = ROOT / "docs/example/results"
GPU = Device(
    type="cuda",
    name="NVIDIA H100 80GB HBM3",
    count=1,
    threads=None,
    uuid_hash="e" * 64,
    driver="580.1",
    power_limit_w=700.0,
)


def write_results(folder: Path, records: Iterable[Record], source: dict[str, bytes] | None = None) -> Path:
    """One folder for each record, with a source that is another for each name, and that its record agrees with."""
    for number, record in enumerate(records):
        run_dir = folder / f"run-{number:04}"
        files = source or {"submission.py": f"NAME = {record.submission.name!a}\n".encode()}
        for name, content in files.items():
            path = run_dir / "submission" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        submission = record.submission.model_copy(update={"source_sha256": digest(files)})
        write_record(record.model_copy(update={"submission": submission}), run_dir)
    return folder


def add_trace(run_dir: Path, record: Record, seconds: float) -> Record:
    """The same record with samples of a power that goes up and down; nothing is written to the record's file."""
    at_ns = np.arange(-int(0.5e9), int(seconds * 1e9), int(2e7))
    count = len(at_ns)
    watts = np.where(at_ns < 0, 80, 420 + 60 * np.sin(at_ns / 2e8))
    absent = np.full(count, -1)
    samples = {
        "at_ns": at_ns,
        "power_mw": (watts * 1000).astype(np.int64),
        "clock_sm_mhz": absent,
        "clock_memory_mhz": absent,
        "temperature_c": absent,
        "throttled_power_ns": absent,
        "throttled_heat_ns": absent,
    }
    ticks = {"since_ns": at_ns[:0], "seen_ns": at_ns[:0], "mj": at_ns[:0]}
    run_dir.mkdir(parents=True, exist_ok=True)
    return record.model_copy(update={"trace": write_trace(run_dir, [(samples, ticks)], zero_ns=0)})


def gpu_entry(name: str, *times_s: float | None, watts: float, flops: float, **differently: Any) -> list[Record]:
    """An entry with energies, verdicts on the way and operators, on a GPU."""
    records = make_entry(*times_s, name=name, device=GPU, **differently)
    made = []
    for record in records:
        time_s = record.time.to_target_s or 10.0
        reached = record.time.to_target_s is not None
        steps = range(1, 9)
        verdicts = tuple(
            Evaluation(
                elapsed_s=time_s * step / 8,
                evaluation_s=0.01,
                value=(0.9 if reached else 0.85) * (1 - 0.6**step) / (1 - 0.6**8)
                + (0.002 if step == 8 and reached else 0),
                reached=reached and step == 8,
            )
            for step in steps
        )
        operators = tuple(
            OperatorFlops(
                operator_class=kind,
                dtype=dtype,
                phase=phase,
                calls=1000,
                flops_per_call=share * flops / 1000,
                bytes_per_call=1e6,
            )
            for kind, dtype, phase, share in MIX
        )
        made.append(
            record.model_copy(
                update={
                    "evaluations": verdicts,
                    "energy": Energy(
                        device_j=watts * time_s,
                        method="nvml_total_energy",
                        update_period_s=0.1,
                        uncertainty_j=0.03 * watts * time_s,
                        unavailable_because=None,
                        idle_w=80.0,
                    ),
                    "flops": Flops(
                        method="replay",
                        train_total=int(flops),
                        evaluation_total=int(flops / 10),
                        operators=operators,
                        trusted=True,
                    ),
                }
            )
        )
    return made


def write_showcase(folder: Path, profiles: Iterable[Profile] = ()) -> Path:
    """Several entries on a GPU, one of them the track's baseline, one with a trace, and one run that missed."""
    records = [
        *gpu_entry("made", 9.0, 9.6, 10.4, watts=400, flops=4e15),
        *gpu_entry("wide", 4.1, 4.4, 4.9, watts=640, flops=3e15),
        *gpu_entry("frugal", 6.0, 6.2, 7.0, watts=300, flops=1.2e15),
        *gpu_entry("hasty", 3.6, 3.9, None, watts=690, flops=2.2e15),
        *gpu_entry("hopeless", None, None, None, watts=200, flops=1e15),
    ]
    write_results(folder, records)
    records[3] = add_trace(folder / "run-0003", records[3], 4.4)
    records[4] = add_trace(folder / "run-0004", records[4], 4.7)
    records[5] = add_trace(folder / "run-0005", records[5], 5.2)
    write_results(folder, records)
    for profile in profiles:
        write_profile(profile, folder / "calibration" / f"{profile.id}.json")
    return folder


def hostile_submission(text: str) -> SubmissionInfo:
    """Somebody's words in every field that takes words."""
    info = make_record().submission
    return info.model_copy(
        update={"name": text, "authors": (text, text), "date": text, "base": text, "config": {text: text}}
    )
