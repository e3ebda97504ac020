"""A record to start from."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from kit.analysis.material import FoundRun
from kit.analysis.result import Result, result_of
from kit.results.record import (
    Device,
    Energy,
    Evaluation,
    Flops,
    GitState,
    HiddenLabels,
    Isolation,
    Memory,
    Official,
    OperatorFlops,
    Record,
    Software,
    Steps,
    SubmissionInfo,
    Time,
    TrackInfo,
    UncountedOperator,
)
from kit.results.signing import Verification
from kit.track import Limits


def make_record(**differently: Any) -> Record:
    """A valid record of a run that reached its target, but for what is given."""
    content: dict[str, Any] = {
        "id": "20261124T120000Z-made-made-s1-abcdef",
        "started_at": datetime(2026, 11, 24, 12, tzinfo=UTC),
        "kit_version": "0.1.0",
        "git": GitState(commit="0" * 40, dirty=False),
        "track": TrackInfo(
            name="made",
            version=1,
            title="Made, 90 %",
            dataset="made",
            dataset_fingerprint="f" * 64,
            metric="top1",
            target=0.9,
            direction="max",
            limits=Limits(run_s=10),
            baseline="baselines/made",
        ),
        "submission": SubmissionInfo(
            name="made", authors=("Ada",), date="2026-11-24", base=None, source_sha256="a" * 64, config={"lr": 0.1}
        ),
        "seed": 1,
        "loader": "torch",
        "outcome": "reached",
        "reason": None,
        "traceback": None,
        "time": Time(to_target_s=1.5, total_s=1.625, setup_s=0.25, evaluation_s=0.125),
        "evaluations": (
            Evaluation(elapsed_s=0.5, evaluation_s=0.0625, value=0.5, reached=False),
            Evaluation(elapsed_s=1.5, evaluation_s=0.0625, value=0.91, reached=True),
        ),
        "steps": Steps(optimizer_steps=10, loader_batches=10, evaluations=2),
        "energy": Energy(
            device_j=None, method=None, update_period_s=None, uncertainty_j=None, unavailable_because="no GPU"
        ),
        "flops": Flops(
            method="replay",
            train_total=2 * 10**12,
            evaluation_total=10**9,
            operators=(
                OperatorFlops(
                    operator_class="gemm",
                    dtype="float32",
                    phase="training",
                    calls=4,
                    flops_per_call=5e11,
                    bytes_per_call=1e6,
                ),
            ),
            uncounted=(UncountedOperator(operator="made.op", calls=1, bytes=8),),
        ),
        "memory": Memory(device_peak_bytes=None, host_peak_bytes=2**30),
        "device": Device(
            type="cpu", name="a processor", count=1, threads=2, uuid_hash=None, driver=None, power_limit_w=None
        ),
        "software": Software(python="3.11.7", torch="2.15.0", dali=None, hydra="1.3.2", cuda_driver=None),
        "isolation": Isolation(mode="process", defences=("descriptor",)),
    }
    return Record(**content | differently)


def make_official(index: int = 0, **differently: Any) -> Official:
    """The mark of an organizer's run, one of five."""
    content: dict[str, Any] = {
        "pack_sha256": None,
        "split": "published",
        "seed_index": index,
        "seeds": 5,
        "calibration": None,
        "labels": HiddenLabels(images=1000, chance=0.1, groups=10),
    }
    return Official(**content | differently)


def make_entry(
    *times_s: float | None,
    name: str = "made",
    official: dict[str, Any] | None = None,
    best: float = 0.5,
    evaluations: int = 1,
    **differently: Any,
) -> list[Record]:
    """The official runs of one submission, one for each time to the target; None is a run that missed it."""
    records = []
    source = hashlib.sha256(name.encode()).hexdigest()
    for index, time_s in enumerate(times_s):
        value = best if time_s is None else 0.95
        verdict = Evaluation(elapsed_s=time_s or 9.0, evaluation_s=0.0, value=value, reached=time_s is not None)
        content: dict[str, Any] = {
            "id": f"20261124T12000{index}Z-made-{name}-s{index}-{source[:6]}",
            "seed": 100 + index,
            "submission": make_record().submission.model_copy(update={"name": name, "source_sha256": source}),
            "outcome": "missed" if time_s is None else "reached",
            "reason": "fell short" if time_s is None else None,
            "time": Time(to_target_s=time_s, total_s=time_s or 10.0, setup_s=99.0, evaluation_s=0.0),
            "evaluations": (verdict,) * evaluations,
            "flops": Flops(method="replay", train_total=10**12, evaluation_total=0, trusted=True),
            "official": make_official(index, **{"seeds": len(times_s)} | (official or {})),
        }
        records.append(make_record(**content | differently))
    return records


def make_results(*times_s: float | None, **how: Any) -> list[Result]:
    """What the runs of such an entry come to."""
    return [result_of(record) for record in make_entry(*times_s, **how)]


def found(records: Iterable[Record], signature: Verification | None = None) -> list[FoundRun]:
    """Runs as they would lie in the results, each in a folder of its id; unsigned if nothing else is said."""
    return [FoundRun(record.id, result_of(record), signature or Verification(state="missing")) for record in records]
