"""What is raced: tracks, their limits and the shape of their data. Pure data, no torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Metric = Literal["top1", "top5"]

TOP_K: dict[Metric, int] = {"top1": 1, "top5": 5}
"""Guesses per image that a metric looks at."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=64)]


class Model(BaseModel):
    """Base of everything that is read from a file or a message: frozen, finite, and a stranger's key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Limits(Model):
    """What one run may use before the referee ends it."""

    setup_s: float = Field(gt=0, default=300)
    """From the start of the trainer to its `ready`."""
    run_s: float = Field(gt=0)
    """From `go` to the end of training."""
    evaluations: int = Field(gt=0, default=1000)
    message_bytes: int = Field(gt=0, default=64 << 20)
    """Largest message that the referee reads."""
    memory_bytes: int = Field(gt=0, default=64 << 30)
    """Of all processes of a sealed run; never more than nine tenths of the machine's."""
    processes: int = Field(gt=0, default=4096)
    """Of a sealed run, threads included."""
    scratch_bytes: int = Field(gt=0, default=16 << 30)
    """What a sealed run can write to its scratch folder, and once more to shared memory; both lie in memory."""
    rank_stopped_s: float = Field(gt=0, default=5)
    """Of several ranks, one that is stopped (SIGSTOP) for so long ends the run."""
    rank_wait_s: float = Field(gt=0, default=60)
    """So long one rank waits for another in a collective, at an evaluation and at the end; then the run has failed."""


class Track(Model):
    """A race: everything that two entries must share to be compared."""

    name: Name
    version: int = Field(ge=1)
    title: str
    dataset: Name
    """The folder of prepared data, and the source that it comes from where `source` names no other."""
    source: Name | None = None
    dataset_fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 that prepared data must have; `null` accepts any, and the record says which it was."""
    rehearsal: bool = False
    """Accept data in the published format that is not the published data: to try the path, not to compete."""
    metric: Metric
    target: float = Field(gt=0, le=1)
    """Fraction of test images to get right, at or above which the clock stops."""
    direction: Literal["max"] = "max"
    limits: Limits
    rules: tuple[str, ...] = ()
    """What people check, beside what the referee enforces."""
    baseline: str
    """The submission that gains on this track are measured against."""


class DatasetSpec(Model):
    """Shape and statistics of a dataset: all that is known of it before the clock runs."""

    name: Name
    format: Literal["arrays", "jpeg"] = "arrays"
    """Images of one size in memory, or encoded images of any size in files."""
    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    """Of every image; of encoded ones the size that they are brought to unless asked otherwise."""
    width: int = Field(gt=0)
    classes: int = Field(gt=1)
    train_count: int = Field(gt=0)
    test_count: int = Field(gt=0)
    mean: tuple[float, ...]
    """Per channel, of pixels scaled to 0..1: over the training images, or ImageNet's for encoded ones."""
    std: tuple[float, ...]
