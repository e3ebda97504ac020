"""The record of a run: frozen models, units in the names, raw samples kept; statistics are derived on reading.

Absent is not zero: what could not be measured is None, and a field beside it says why.
"""

import json
from datetime import UTC
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from kit.protocol import Phase
from kit.track import Limits, Metric, Model, Track

SCHEMA_VERSION = 1

Outcome = Literal["reached", "missed", "timeout", "crashed", "out_of_memory", "invalid", "cancelled"]
"""`cancelled` is a run that somebody ended from outside: no fault of the submission, and no result either."""
Seconds = Annotated[float, Field(ge=0)]
Joules = Annotated[float, Field(ge=0)]
Bytes = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


def _json(config: dict[str, Any]) -> dict[str, Any]:
    json.dumps(config, allow_nan=False)  # raises ValueError for what JSON cannot hold
    return config


class GitState(Model):
    """The code that the kit ran from."""

    commit: str
    dirty: bool


class TrackInfo(Model):
    """What was raced: the track as it was, and the data as it was."""

    name: str
    version: int
    title: str
    dataset: str
    source: str | None = None
    dataset_fingerprint: str
    """Of the data that was there, also where the track accepts any."""
    rehearsal: bool = False
    """Whether other data in the published format was accepted: then this record is no entry."""
    metric: Metric
    target: float
    direction: Literal["max"]
    limits: Limits
    rules: tuple[str, ...] = ()
    baseline: str

    def as_track(self) -> Track:
        """The track, for a replay."""
        return Track(**self.model_dump())


class SubmissionInfo(Model):
    """What raced."""

    name: str
    authors: tuple[str, ...]
    date: str
    base: str | None
    source_sha256: str
    """Over names and contents of all files of the submission's folder."""
    config: Annotated[dict[str, Any], AfterValidator(_json)]


class Evaluation(Model):
    """One verdict."""

    elapsed_s: Seconds
    """From `go` to the full arrival of the predictions."""
    evaluation_s: Seconds
    """Of that, since the trainer announced the evaluation; 0 where it did not."""
    value: float
    reached: bool


class Time(Model):
    """Durations by the referee's CLOCK_MONOTONIC."""

    to_target_s: Seconds | None
    """None when the target was not reached."""
    total_s: Seconds | None
    """From `go` to the end of training; None when the clock never started."""
    setup_s: Seconds | None
    evaluation_s: Seconds


class Steps(Model):
    """What training did, by the trainer's own count."""

    optimizer_steps: Count
    loader_batches: Count
    evaluations: Count


class Energy(Model):
    """Energy from `go` to the target, or to the end of a run that missed it."""

    device_j: Joules | None
    method: Literal["nvml_total_energy"] | None
    update_period_s: Seconds | None
    """Of the counter, as observed in this run."""
    uncertainty_j: Joules | None
    unavailable_because: str | None


class OperatorFlops(Model):
    """Calls of one operator class, dtype, phase and direction, of like size. A multiply-add is two operations.

    Operations per call of all these calls lie between one power of two and the next, and so do their bytes.
    """

    operator_class: str
    dtype: str
    phase: Phase
    backward: bool = False
    """Of a kind that only backward passes call; a product is a product in either pass."""
    calls: Count
    flops_per_call: float
    """Mean."""
    bytes_per_call: float
    """Mean, of operands and results."""
    busy_s: Seconds | None = None
    """Inside the operators in the replay, in all; None on a GPU, where launches return before the work is done."""


class UncountedOperator(Model):
    """An operator that computes but has no rule."""

    operator: str
    calls: Count
    bytes: Bytes
    time_share: Annotated[float, Field(ge=0)] | None = None
    """Of the run's training time, what this operator took in the replay."""


class DeclaredOperator(Model):
    """An operator that is counted by a rule of the submission's own."""

    operator: str
    calls: Count
    flops_per_call: float


class Sampling(Model):
    """How a long run was counted: kinds of steps, told apart by what they are seen to do, times their numbers.

    A step lies between two of: a batch fetched, an optimizer's step begun or ended, an evaluation begun or ended.
    """

    steps: Count
    signatures: Count
    """Kinds of steps that can be told apart."""
    counted: Count
    """Steps that were counted one by one."""
    recounted: Count
    """Of these, to check a kind that had been counted before."""
    mismatches: Count
    """Recounts that came to something else; such a kind is counted at every step from then on."""
    estimated: Count
    """Steps whose operations are not known exactly: of a kind with mismatches, or of one that was never counted."""


MAX_ESTIMATED_STEPS = 0.01
"""Share of the steps that may be estimates before a count says little."""
MAX_UNCOUNTED_TIME = 0.02
"""Share of the time that operators without a rule may take before a count says little."""


class Flops(Model):
    """The arithmetic of the run, counted in a replay."""

    method: Literal["pending", "replay", "sampled", "absent"]
    """`pending` until the replay, in which every step is counted, or of a long run only some (`sampled`); `absent` when
    training did not return, so that there is nothing to repeat."""
    train_total: Count | None = None
    """Forward, backward and optimizer, as executed."""
    evaluation_total: Count | None = None
    recomputed_total: Count = 0
    """Of both totals: what repeats a forward pass, for activation checkpoints and inside fused attention."""
    operators: tuple[OperatorFlops, ...] = ()
    uncounted: tuple[UncountedOperator, ...] = ()
    declared: tuple[DeclaredOperator, ...] = ()
    sampling: Sampling | None = None
    """None where every step was counted."""
    replay_steps: Steps | None = None
    replay_value: float | None = None
    """The replay's best score: a replay that learned less is not the same program."""
    trusted: bool = False
    untrusted_because: str | None = None

    @property
    def not_rated_because(self) -> str | None:
        """Why these totals may not be compared with others, or None."""
        if self.method in ("pending", "absent"):
            return "not counted"
        share = sum(row.time_share or 0 for row in self.uncounted)
        if share > MAX_UNCOUNTED_TIME:
            return f"{share:.0%} of the time went to operators without a rule"
        if self.sampling is not None and self.sampling.estimated > MAX_ESTIMATED_STEPS * self.sampling.steps:
            return f"{self.sampling.estimated:,} of {self.sampling.steps:,} steps are estimates"
        return self.untrusted_because


class Memory(Model):
    """Peaks."""

    device_peak_bytes: Bytes | None
    """As torch reports it from inside the trainer; None without a GPU."""
    host_peak_bytes: Bytes | None
    """Sum over the trainer's processes of each one's own peak resident memory (an upper bound)."""


class Device(Model):
    """What trained."""

    type: Literal["cpu", "cuda"]
    name: str
    count: Annotated[int, Field(ge=1)]
    threads: Count | None
    """Of torch, on the CPU."""
    uuid_hash: str | None
    """SHA-256 of the GPU's UUID: tells two cards apart without naming them."""
    driver: str | None
    power_limit_w: float | None


class Software(Model):
    """Versions."""

    python: str
    torch: str
    dali: str | None
    hydra: str | None
    cuda_driver: str | None


class Isolation(Model):
    """How the trainer was kept apart."""

    mode: Literal["process"]
    defences: tuple[str, ...]


class Record(Model):
    """One run. Written when the timed run ends, and once more when its operations are counted; then never again."""

    schema_version: Literal[1] = 1
    id: str
    started_at: Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
    kit_version: str
    git: GitState | None
    track: TrackInfo
    submission: SubmissionInfo
    seed: int
    loader: Literal["dali", "torch"]
    outcome: Outcome
    reason: str | None
    """Why, in one line, for every outcome but `reached`."""
    traceback: str | None
    """The submission's own, when it raised."""
    time: Time
    evaluations: tuple[Evaluation, ...]
    steps: Steps | None
    """None when the trainer ended without reporting."""
    energy: Energy
    flops: Flops
    memory: Memory
    device: Device
    software: Software
    isolation: Isolation

    @property
    def best_value(self) -> float | None:
        """The best score of the run."""
        return max((evaluation.value for evaluation in self.evaluations), default=None)
