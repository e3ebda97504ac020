"""The record of a run: frozen models, units in the names, raw samples kept; statistics are derived on reading.

Absent is not zero: what could not be measured is None, and a field beside it says why.
"""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from kit.protocol import Phase
from kit.track import Limits, Metric, Model, Track

SCHEMA_VERSION = 1

Outcome = Literal["reached", "missed", "timeout", "crashed", "out_of_memory", "invalid", "partial", "cancelled"]
"""`partial` is a run that was to end after some steps, `cancelled` one that somebody ended from outside: neither is a
fault of the submission, nor a result."""
Seconds = Annotated[float, Field(ge=0, le=1e12)]
"""More than any run has, and little enough to be added and multiplied; as the other limits here."""
Joules = Annotated[float, Field(ge=0, le=1e18)]
Bytes = Annotated[int, Field(ge=0, le=10**18)]
Count = Annotated[int, Field(ge=0, le=10**30)]
Operations = Annotated[int, Field(ge=0, le=10**36)]
"""Of a run: what a trainer may say of each operator, times as many as it may name."""
PerCall = Annotated[float, Field(ge=0, le=1e36)]
Watts = Annotated[float, Field(ge=0, le=1e9)]
Celsius = Annotated[int, Field(ge=-300, le=10**6)]
Megahertz = Annotated[float, Field(ge=0, le=1e12)]
Devices = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0, le=1)]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time that there is not in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


_STRICT_JSON = json.JSONEncoder(allow_nan=False)


def _json(config: dict[str, Any]) -> dict[str, Any]:
    _STRICT_JSON.encode(config)  # raises ValueError for what JSON cannot hold
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
    target: Annotated[float, Field(gt=0, le=1)]
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
    value: Share
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


class Progress(Model):
    """When so many optimizer steps were done: taken after 1, 2, 4, 8 and so on."""

    optimizer_steps: Annotated[int, Field(ge=1)]
    elapsed_s: Seconds


EnergyFlag = Literal[
    "counter_backwards",
    "counter_stalled",
    "device_lost",
    "inconsistent",
    "aliased",
    "throttled",
    "foreign_process",
    "work_before_go",
    "work_after_stop",
]
"""What speaks against an energy. `inconsistent`: counter and sampled power disagree. `aliased`: training steps are as
long as the sensor's period, or a simple fraction of it, so that it sees the same part of each. `throttled`: clocks were
held down for more than 1 % of the time. The work flags: power beyond 1.3 times idle just outside the window."""


class Energy(Model):
    """Energy from `go` to the target, or to the end of a run that missed it."""

    device_j: Joules | None
    method: Literal["nvml_total_energy", "nvml_instant_power"] | None
    """By the GPU's counter, or by the integral of sampled power where the counter failed."""
    update_period_s: Seconds | None
    """Of the counter or the sensor, as observed in this run."""
    uncertainty_j: Joules | None
    """One standard deviation: the edges of the window, sampling, and the sensor's gain."""
    unavailable_because: str | None
    counter_unavailable_because: str | None = None
    """Why `device_j` is not the counter's."""
    sampled_j: Joules | None = None
    """The integral of sampled instant power over the same window."""
    sampled_unavailable_because: str | None = None
    power_scope: Literal["gpu", "module"] | None = None
    """What sampled power is of; a Grace Hopper module has a CPU too."""
    idle_w: Watts | None = None
    """Of the GPU, before the trainer was launched."""
    flags: tuple[EnergyFlag, ...] = ()
    host_j: Joules | None = None
    """All CPU packages, by RAPL: whoever used them."""
    host_unavailable_because: str | None = None


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
    flops_per_call: PerCall
    """Mean."""
    bytes_per_call: PerCall
    """Mean, of operands and results."""
    busy_s: Seconds | None = None
    """Inside the operators in the replay, in all; None on a GPU, where launches return before the work is done."""


class UncountedOperator(Model):
    """An operator that computes but has no rule."""

    operator: str
    calls: Count
    bytes: Bytes
    time_share: Annotated[float, Field(ge=0, le=1e30)] | None = None
    """Of the run's training time, what this operator took in the replay."""


class DeclaredOperator(Model):
    """An operator that is counted by a rule of the submission's own."""

    operator: str
    calls: Count
    flops_per_call: PerCall


PUBLIC_PAGE = r"^https?://[!-~]+$"
"""A web address: a price that nobody else can look up cannot be checked."""


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
    train_total: Operations | None = None
    """Forward, backward and optimizer, as executed."""
    evaluation_total: Operations | None = None
    recomputed_total: Operations = 0
    """Of both totals: what repeats a forward pass, for activation checkpoints and inside fused attention."""
    operators: tuple[OperatorFlops, ...] = ()
    uncounted: tuple[UncountedOperator, ...] = ()
    declared: tuple[DeclaredOperator, ...] = ()
    sampling: Sampling | None = None
    """None where every step was counted."""
    replay_steps: Steps | None = None
    replay_value: Share | None = None
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
    """Sum over the trainer's processes, as the referee saw it about once a second by NVML."""
    device_unavailable_because: str | None = None
    device_torch_peak_bytes: Bytes | None = None
    """Tensors alone, as torch reports it from inside the trainer."""
    host_peak_bytes: Bytes | None
    """Sum over the trainer's processes of each one's own peak resident memory (an upper bound)."""


class ForeignProcess(Model):
    """Somebody else's process on the GPU."""

    pid: Count
    first_seen_s: Annotated[float, Field(ge=-1e12, le=1e12)]
    """After `go`; below 0 is before."""
    last_seen_s: Annotated[float, Field(ge=-1e12, le=1e12)]
    peak_bytes: Bytes | None
    computes: bool
    """Or draws only."""


class Conditions(Model):
    """The GPU's state in the window."""

    temperature_start_c: Celsius | None
    temperature_end_c: Celsius | None
    clock_sm_start_mhz: Count | None
    clock_sm_mean_mhz: Megahertz | None
    clock_sm_end_mhz: Count | None
    clock_memory_mean_mhz: Megahertz | None
    throttled_power_s: Seconds | None
    """For how long the power limit held clocks down."""
    throttled_heat_s: Seconds | None
    foreign_processes: tuple[ForeignProcess, ...] = ()
    """From before the trainer's launch until three seconds after the window."""


class Trace(Model):
    """The columns beside the record."""

    file: str
    sha256: str
    rows: Count


class Device(Model):
    """What trained."""

    type: Literal["cpu", "cuda"]
    name: str
    count: Devices
    ranks: Devices = 1
    """Processes that trained together: on GPUs one each, on the CPU sharing it."""
    cores: Devices | None = None
    """That the run may use, on the CPU; however many threads the submission asked torch for."""
    threads: Count | None
    """Of torch, on the CPU, in all ranks."""
    uuid_hash: str | None
    """SHA-256 of the GPU's UUID, or of all with commas between: tells two cards apart without naming them."""
    driver: str | None
    power_limit_w: Watts | None
    """Of several GPUs the lowest."""


class Software(Model):
    """Versions."""

    python: str
    torch: str
    dali: str | None
    hydra: str | None
    cuda_driver: str | None


IsolationMode = Literal["process", "sandbox"]


class Isolation(Model):
    """How the trainer was kept apart."""

    mode: IsolationMode
    defences: tuple[str, ...]


class Cost(Model):
    """The price of what the run used: on demand, in US dollars before tax, as a public page showed it on a day."""

    usd_per_hour: Annotated[float, Field(ge=0, le=1e9)]
    """Of the whole machine, or of all machines: an instance of eight GPUs of which one trained costs eight."""
    price_source: Annotated[str, Field(pattern=PUBLIC_PAGE)]
    price_date: date
    """The day on which the source showed the price."""


Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Split = Literal["published", "resplit", "control"]
"""`published`: the track's own data. `resplit`: its training and test images pooled and split anew. `control`: its
training labels shuffled."""


class HiddenLabels(Model):
    """What is told of the labels that a run was scored by: enough to know what guessing would come to."""

    images: Annotated[int, Field(ge=1, le=10**12)]
    chance: Annotated[float, Field(gt=0, le=1)]
    """Score of the best guess that knows nothing of an image: the shares of the commonest classes."""
    groups: Annotated[int, Field(ge=1, le=100_000)]
    """Classes, as if all were of one size."""


class Official(Model):
    """That the run is one of an organizer's, made by `kit score`."""

    pack_sha256: Sha256 | None
    """Of the pack file; None where a folder was scored."""
    split: Split
    seed_index: Count
    """Which of the organizer's seeds, from 0."""
    seeds: Annotated[int, Field(ge=1)]
    """How many there were to be, fixed beforehand."""
    calibration: str | None
    """Id of the device profile that was measured before; None without one."""
    labels: HiddenLabels


class SchedulerJob(Model):
    """The job of a cluster that a run was made in."""

    scheduler: Literal["slurm"]
    id: Annotated[str, Field(pattern=r"^\d{1,20}(_\d{1,20})?$")]
    """12, or 12_3 in an array."""
    restarts: Count
    """How often the scheduler had started the job before: 0 unless it put it back into its queue."""


class Record(Model):
    """One run. Written when the timed run ends, and once more when its operations are counted; then never again."""

    schema_version: Literal[1] = 1
    id: str
    started_at: Moment
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
    progress: tuple[Progress, ...] = ()
    """How fast steps went: what re-runs on another device are compared by."""
    steps: Steps | None
    """None when the trainer ended without reporting."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Where a partial run was to end."""
    energy: Energy
    flops: Flops
    memory: Memory
    conditions: Conditions | None = None
    """None without a GPU."""
    trace: Trace | None = None
    """None without a GPU, and where it could not be written."""
    device: Device
    software: Software
    isolation: Isolation
    cost: Cost | None = None
    """None where no price was given: none is ever assumed."""
    official: Official | None = None
    """None for a run of anybody's own, which no board ranks."""
    job: SchedulerJob | None = None
    """None outside of a cluster's jobs."""

    @property
    def usd(self) -> float | None:
        """US dollars to the target; None without a price and for a run that did not reach it."""
        if self.cost is None or self.outcome != "reached" or self.time.to_target_s is None:
            return None
        return self.cost.usd_per_hour * self.time.to_target_s / 3600

    @property
    def cost_unranked_because(self) -> str | None:
        """Why this run may not be compared with others by its cost, or None."""
        if self.cost is None:
            return "no price with its source and date was given"
        if self.cost.usd_per_hour == 0:
            return "a price of 0, which is nobody's price on demand"
        if self.cost.price_date > latest_date(self.started_at):
            return f"the price is of {self.cost.price_date}, after the run"
        if self.usd is None:
            return "the target was not reached"
        return None

    @property
    def best_value(self) -> float | None:
        """The best score of the run."""
        return max((evaluation.value for evaluation in self.evaluations), default=None)

    @property
    def result(self) -> str:
        """What came of the run, in a few words."""
        if self.time.to_target_s is not None:
            return f"reached in {self.time.to_target_s:.3f} s"
        return self.outcome if self.reason is None else f"{self.outcome}: {self.reason}"


def latest_date(moment: datetime) -> date:
    """The calendar's day at a moment where days begin first (UTC+14): a later one is in the future everywhere."""
    try:
        return (moment.astimezone(UTC) + timedelta(hours=14)).date()
    except OverflowError:
        return date.max
