"""What happens in a run, as it happens: for the event file, the display and wandb."""

import json
from pathlib import Path
from typing import Literal, Protocol

from kit.results.record import Official, Record, SchedulerJob
from kit.track import Model, Track


class Waiting(Model):
    """The device is another run's; what follows comes when it is free."""

    type: Literal["waiting"] = "waiting"
    message: str


class Started(Model):
    """The trainer was launched."""

    type: Literal["started"] = "started"
    run_id: str
    submission: str
    seed: int
    track: Track
    device: str
    official: Official | None = None
    job: SchedulerJob | None = None


class ClockStarted(Model):
    """Setup is done and `go` was sent."""

    type: Literal["clock_started"] = "clock_started"
    setup_s: float


class Logged(Model):
    """The submission logged numbers."""

    type: Literal["logged"] = "logged"
    elapsed_s: float
    scalars: dict[str, float | None]


class Evaluated(Model):
    """The referee gave a verdict."""

    type: Literal["evaluated"] = "evaluated"
    elapsed_s: float
    value: float
    reached: bool
    device_j: float | None
    """Since `go`, as read at that moment; None without a meter."""


class Ended(Model):
    """The timed run is over."""

    type: Literal["ended"] = "ended"
    outcome: str
    reason: str | None
    elapsed_s: float | None


class CountStarted(Model):
    """The replay that counts operations was launched."""

    type: Literal["count_started"] = "count_started"


class Completed(Model):
    """The record is on disk as it stays."""

    type: Literal["completed"] = "completed"
    record: Record
    path: Path


Event = Waiting | Started | ClockStarted | Logged | Evaluated | Ended | CountStarted | Completed


class Observer(Protocol):
    """Something that is told what happens. It must return at once: the referee waits for it."""

    def on_event(self, event: Event) -> None:
        """Take note."""
        ...


class EventFile:
    """Writes events as JSON lines; the record itself stands beside and is not repeated."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def on_event(self, event: Event) -> None:
        """Append one line."""
        if not isinstance(event, Completed):
            self._file.write(json.dumps(event.model_dump(mode="json")) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
