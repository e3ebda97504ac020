"""Numbers beside the pages, as CSV and JSON."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic_core import to_json

from kit.analysis.decomposition import Factor
from kit.results.record import Record
from kit.track import Model


def json_bytes(content: Model | Sequence[Model | dict[str, Any]]) -> bytes:
    """JSON, one line for each value."""
    return to_json(content, indent=1, inf_nan_mode="null") + b"\n"


RUN_COLUMNS = (
    "run",
    "seed_index",
    "seed",
    "outcome",
    "reason",
    "time_to_target_s",
    "training_s",
    "setup_s",
    "evaluation_s",
    "best_value",
    "evaluations",
    "optimizer_steps",
    "device_energy_j",
    "device_energy_uncertainty_j",
    "train_flops",
    "evaluation_flops",
    "device_peak_bytes",
    "host_peak_bytes",
    "usd",
)


def run_rows(records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
    """One row per run, as `RUN_COLUMNS` says."""
    for record in records:
        yield (
            record.id,
            None if record.official is None else record.official.seed_index,
            record.seed,
            record.outcome,
            record.reason,
            record.time.to_target_s,
            record.time.total_s,
            record.time.setup_s,
            record.time.evaluation_s,
            record.best_value,
            len(record.evaluations),
            None if record.steps is None else record.steps.optimizer_steps,
            record.energy.device_j,
            record.energy.uncertainty_j,
            record.flops.train_total,
            record.flops.evaluation_total,
            record.memory.device_peak_bytes,
            record.memory.host_peak_bytes,
            record.usd,
        )


VERDICT_COLUMNS = ("run", "seed_index", "elapsed_s", "evaluation_s", "value", "reached")


def verdict_rows(records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
    """Every verdict of every run, as `VERDICT_COLUMNS` says."""
    for record in records:
        index = None if record.official is None else record.official.seed_index
        for verdict in record.evaluations:
            yield record.id, index, verdict.elapsed_s, verdict.evaluation_s, verdict.value, verdict.reached


OPERATOR_COLUMNS = (
    "run", "operator_class", "dtype", "phase", "backward", "calls", "flops_per_call", "bytes_per_call", "busy_s",
)  # fmt: skip


def operator_rows(records: Iterable[Record]) -> Iterator[tuple[Any, ...]]:
    """Every operator row of every run, as `OPERATOR_COLUMNS` says."""
    for record in records:
        for row in record.flops.operators:
            yield (
                record.id,
                row.operator_class,
                row.dtype,
                row.phase,
                row.backward,
                row.calls,
                row.flops_per_call,
                row.bytes_per_call,
                row.busy_s,
            )


FACTOR_COLUMNS = ("factor", "part_of", "ratio", "low", "high", "exact", "separable", "basis")


def factor_rows(factors: Iterable[Factor], part_of: str | None = None) -> Iterator[tuple[Any, ...]]:
    """Every factor, and the factors of each, as `FACTOR_COLUMNS` says."""
    for factor in factors:
        yield factor.name, part_of, factor.ratio, factor.low, factor.high, factor.exact, factor.separable, factor.basis
        yield from factor_rows(factor.split, factor.name)
