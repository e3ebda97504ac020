"""The fields of a record that boards are made of. They are a quarter of the work of a whole record."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from kit.results.record import (
    Cost,
    Device,
    Energy,
    Evaluation,
    Flops,
    Isolation,
    Moment,
    Official,
    Operations,
    Outcome,
    Record,
    Sampling,
    SubmissionInfo,
    Time,
    TrackInfo,
    UncountedOperator,
)


class _Columns(BaseModel):
    """Some fields of an object; others are skipped while it is parsed."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _FlopsColumns(_Columns):
    method: Literal["pending", "replay", "sampled", "absent"]
    train_total: Operations | None = None
    uncounted: tuple[UncountedOperator, ...] = ()
    sampling: Sampling | None = None
    trusted: bool = False
    untrusted_because: str | None = None


class _RecordColumns(_Columns):
    schema_version: Literal[1]
    id: str
    started_at: Moment
    track: TrackInfo
    submission: SubmissionInfo
    seed: int
    loader: Literal["dali", "torch"]
    outcome: Outcome
    reason: str | None
    time: Time
    evaluations: tuple[Evaluation, ...]
    max_steps: int | None = None
    energy: Energy
    flops: _FlopsColumns
    device: Device
    isolation: Isolation
    cost: Cost | None = None
    official: Official | None = None


_OTHERS, _OTHER_FLOPS = Record.model_construct(), Flops.model_construct()
"""Defaults of what is not looked at."""


def parse_columns(data: bytes) -> Record:
    """A record that lacks all fields which boards do not look at.

    Raises:
        ValidationError: One that they look at is not valid.
    """
    columns = _RecordColumns.model_validate_json(data)
    flops = _OTHER_FLOPS.model_copy(update=columns.flops.__dict__)
    return _OTHERS.model_copy(update=columns.__dict__ | {"flops": flops})
