"""What boards need of a record: a hundred thousand results fit into memory, a hundred thousand records do not."""

import json
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from kit.results.record import Device, Energy, EnergyFlag, IsolationMode, Official, Outcome, Record
from kit.track import Metric, Model

Value = TypeVar("Value", bound=Hashable)


class DeviceKind(Model):
    """What a board does not mix."""

    type: Literal["cpu", "cuda"]
    name: str
    count: int
    cores: int | None
    power_limit_w: float | None


class EntryKey(NamedTuple):
    """What all runs of an entry share."""

    track: str
    version: int
    dataset_fingerprint: str
    metric: Metric
    target: float
    device: DeviceKind
    isolation: IsolationMode
    loader: Literal["dali", "torch"]
    source_sha256: str
    config: str

    def on_any_data(self) -> "EntryKey":
        """The same, whichever split of the data the runs were on."""
        return self._replace(dataset_fingerprint="")


@dataclass(frozen=True, slots=True)
class Result:
    """One run, as far as it is scored."""

    id: str
    started_at: datetime
    entry: EntryKey
    title: str
    """Of the track."""
    baseline: str
    """Of the track: a submission's folder."""
    rehearsal: bool
    submission: str
    authors: tuple[str, ...]
    date: str
    base: str | None
    seed: int
    device: Device
    official: Official | None
    outcome: Outcome
    reason: str | None
    max_steps: int | None
    to_target_s: float | None
    total_s: float | None
    evaluations: int
    best_value: float | None
    device_j: float | None
    no_energy_because: str | None
    energy_flags: tuple[EnergyFlag, ...]
    train_flops: int | None
    no_flops_because: str | None
    usd: float | None
    no_cost_because: str | None


def _no_energy_because(energy: Energy) -> str:
    if energy.device_j is not None:
        return "the meter read 0 J"
    return energy.unavailable_because or "not measured"


class Shared:
    """Gives one object for all that are equal: what runs have in common is held once, and sent once."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, value: Value) -> Value:
        """The first that was equal."""
        known: Value = self._known.setdefault(value, value)
        return known


_SORTED_JSON = json.JSONEncoder(sort_keys=True)


def result_of(record: Record, share: Shared | None = None) -> Result:
    """What a record comes to.

    Args:
        record: The record.
        share: For the parts that many results have in common.
    """
    share = share or Shared()
    track, submission, device = record.track, record.submission, record.device
    energy, flops = record.energy, record.flops
    kind = DeviceKind(
        type=device.type, name=device.name, count=device.count, cores=device.cores, power_limit_w=device.power_limit_w
    )
    return Result(
        id=record.id,
        started_at=record.started_at,
        entry=share(
            EntryKey(
                track.name,
                track.version,
                track.dataset_fingerprint,
                track.metric,
                track.target,
                share(kind),
                record.isolation.mode,
                record.loader,
                submission.source_sha256,
                _SORTED_JSON.encode(submission.config),
            )
        ),
        title=share(track.title),
        baseline=share(track.baseline),
        rehearsal=track.rehearsal,
        submission=share(submission.name),
        authors=share(submission.authors),
        date=share(submission.date),
        base=share(submission.base),
        seed=record.seed,
        device=share(device),
        official=record.official,
        outcome=record.outcome,
        reason=record.reason,
        max_steps=record.max_steps,
        to_target_s=record.time.to_target_s,
        total_s=record.time.total_s,
        evaluations=len(record.evaluations),
        best_value=record.best_value,
        device_j=energy.device_j or None,
        no_energy_because=None if energy.device_j else _no_energy_because(energy),
        energy_flags=energy.flags,
        train_flops=flops.train_total,
        no_flops_because=flops.not_rated_because or (None if flops.train_total else "the count is 0"),
        usd=record.usd,
        no_cost_because=record.cost_unranked_because,
    )
