"""One run from start to record."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic_ns
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kit.data.prepared import Prepared
from kit.hardware import machine
from kit.meters.meters import Meters
from kit.protocol import Job, Scored
from kit.referee.conversation import Conversation, Listener, Stamped, converse
from kit.referee.judge import Judge
from kit.referee.launch import DEFENCES, Trainer
from kit.referee.replay import count
from kit.results.events import (
    ClockStarted,
    Completed,
    Ended,
    Evaluated,
    Event,
    EventFile,
    Logged,
    Observer,
    Started,
)
from kit.results.record import (
    Cost,
    Device,
    Evaluation,
    Flops,
    Isolation,
    Outcome,
    Progress,
    Record,
    Steps,
    SubmissionInfo,
    Time,
    TrackInfo,
)
from kit.results.store import EVENTS_FILE, OUTPUT_FILE, create_run_dir, snapshot_source, write_record
from kit.track import Track
from kit.version import __version__

MAX_LOGS = 100_000
"""Later ones are dropped: the event file cannot be made to fill the disk."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run."""

    track: Track
    submission: SubmissionInfo
    submission_dir: Path
    seed: int
    device: Literal["cpu", "cuda"]
    loader: Literal["dali", "torch"]
    count_flops: bool
    max_steps: int | None
    """End after so many optimizer steps, as a partial run."""
    allow_busy_device: bool
    """Run although somebody else computes on the GPU."""
    count_fully_below_s: float
    """Of longer runs only some steps are counted."""
    results_dir: Path
    cost: Cost | None


def run(
    plan: Plan, prepared: Prepared, observers: Sequence[Observer] = (), meters: Meters | None = None
) -> tuple[Record, Path]:
    """Train the submission under the clock, write its record, then count its operations in a replay.

    Args:
        plan: What to run.
        prepared: The data of the plan's track.
        observers: Told of what happens.
        meters: Other ones than those of the plan's device.

    Returns:
        The record and its file. Every outcome leaves one, also an interrupted run (`cancelled`).

    Raises:
        KitError: The results cannot be written, or somebody else computes on the GPU; nothing has been run.
        KeyboardInterrupt: Somebody ended the run; the record is written.
    """
    gpu = machine.visible_gpu() if plan.device == "cuda" else None
    device = machine.describe(plan.device)
    meters = meters or Meters.of(gpu, allow_busy=plan.allow_busy_device)
    started_at = datetime.now(UTC)
    run_dir = create_run_dir(
        plan.results_dir,
        started_at=started_at,
        track=plan.track.name,
        submission=plan.submission.name,
        seed=plan.seed,
    )
    source = snapshot_source(plan.submission_dir, run_dir)
    with _telling(observers, run_dir) as tell:
        tell(
            Started(
                run_id=run_dir.name,
                submission=plan.submission.name,
                seed=plan.seed,
                track=plan.track,
                device=plan.device,
            )
        )
        referee = _Referee(plan, prepared, tell, meters)
        interrupted: BaseException | None = None
        try:
            referee.time(source, run_dir / OUTPUT_FILE, gpu)
        except KeyboardInterrupt as error:
            interrupted = error
        record = referee.record(run_dir, started_at, device, cancelled=interrupted is not None)
        path = write_record(record, run_dir)
        tell(Ended(outcome=record.outcome, reason=record.reason, elapsed_s=record.time.total_s))
        if interrupted is None and plan.count_flops and record.steps is not None:
            record = count(path, prepared, tell, fully_below_s=plan.count_fully_below_s)
        tell(Completed(record=record, path=path))
        if interrupted is not None:
            raise interrupted
    return record, path


@contextmanager
def _telling(observers: Sequence[Observer], run_dir: Path) -> Iterator[Callable[[Event], None]]:
    file = EventFile(run_dir / EVENTS_FILE)

    def tell(event: Event) -> None:
        for observer in (file, *observers):
            observer.on_event(event)

    try:
        yield tell
    finally:
        file.close()


class _Referee(Listener):
    """The timed run: answers from the hidden labels, meters around the window."""

    def __init__(self, plan: Plan, prepared: Prepared, tell: Callable[[Event], None], meters: Meters) -> None:
        self._plan = plan
        self._prepared = prepared
        self._tell = tell
        self._meters = meters
        self._judge = Judge(prepared.test_labels(), prepared.spec.classes, plan.track.metric)
        self._talk = Conversation()
        self._logs = 0

    def time(self, source: Path, output: Path, gpu: str | None) -> None:
        plan = self._plan
        job = Job(
            submission_dir=str(source.resolve()),
            config=plan.submission.config,
            track=plan.track,
            dataset=self._prepared.spec,
            device="cuda:0" if plan.device == "cuda" else "cpu",
            seed=plan.seed,
            loader=plan.loader,
            max_steps=plan.max_steps,
            counting=False,
        )
        try:
            self._meters.start()
            with Trainer(max_payload_bytes=plan.track.limits.message_bytes, gpu=gpu, output=output) as trainer:
                converse(trainer, job, self._prepared.public_dir, plan.track.limits, self._answer, self, self._talk)
            self._meters.finish(self._talk.stop_ns if self._talk.go_ns is not None else None)
        finally:
            self._meters.finish(None)

    def _answer(self, predictions: NDArray[np.int32]) -> Scored:
        value = self._judge.score(predictions)
        return Scored(value=value, reached=value >= self._plan.track.target)

    # ---- Listener

    def on_go(self, trainer: Trainer, setup_s: float) -> None:
        self._meters.settle(trainer.pid)
        self._tell(ClockStarted(setup_s=setup_s))
        self._meters.align()

    def on_log(self, elapsed_s: float, scalars: dict[str, float | None]) -> None:
        self._logs += 1
        if self._logs <= MAX_LOGS:
            self._tell(Logged(elapsed_s=elapsed_s, scalars=scalars))

    def on_verdict(self, verdict: Stamped) -> None:
        go_ns = self._talk.go_ns or 0
        self._tell(
            Evaluated(
                elapsed_s=(verdict.arrived_ns - go_ns) / 1e9,
                value=verdict.value,
                reached=verdict.reached,
                device_j=self._meters.since_j(go_ns),
            )
        )

    def on_end(self, trainer: Trainer) -> None:
        self._meters.look()

    # ---- the record

    def record(self, run_dir: Path, started_at: datetime, device: Device, *, cancelled: bool) -> Record:
        plan, talk, track = self._plan, self._talk, self._plan.track
        outcome, reason = _outcome(talk, track.target, plan.max_steps, cancelled=cancelled)
        go_ns, end_ns, reached_ns = talk.go_ns, talk.end_ns or monotonic_ns(), talk.reached_ns
        evaluation_s = sum((v.arrived_ns - v.begun_ns) / 1e9 for v in talk.verdicts)
        readings = self._meters.read(
            run_dir,
            go_ns,
            talk.stop_ns or end_ns,
            step_s=self._step_s(evaluation_s),
            torch_peak_bytes=talk.done.device_peak_bytes if talk.done is not None else None,
        )
        return Record(
            id=run_dir.name,
            started_at=started_at,
            kit_version=__version__,
            git=machine.git_state(plan.submission_dir),
            track=TrackInfo(**track.model_dump() | {"dataset_fingerprint": self._prepared.fingerprint}),
            submission=plan.submission,
            seed=plan.seed,
            loader=plan.loader,
            outcome=outcome,
            reason=reason,
            traceback=talk.traceback,
            time=Time(
                to_target_s=_seconds(go_ns, reached_ns),
                total_s=_seconds(go_ns, end_ns),
                setup_s=talk.setup_s,
                evaluation_s=evaluation_s,
            ),
            evaluations=tuple(
                Evaluation(
                    elapsed_s=(v.arrived_ns - (go_ns or 0)) / 1e9,
                    evaluation_s=(v.arrived_ns - v.begun_ns) / 1e9,
                    value=v.value,
                    reached=v.reached,
                )
                for v in talk.verdicts
            ),
            progress=tuple(
                Progress(optimizer_steps=steps, elapsed_s=(at_ns - (go_ns or 0)) / 1e9)
                for steps, at_ns in talk.progress
            ),
            steps=None if talk.done is None else Steps(**talk.done.steps.model_dump()),
            max_steps=plan.max_steps,
            energy=readings.energy,
            flops=Flops(method="absent" if talk.done is None else "pending"),
            memory=readings.memory,
            conditions=readings.conditions,
            trace=readings.trace,
            device=device.model_copy(update={"threads": talk.threads if plan.device == "cpu" else None}),
            software=machine.software(),
            isolation=Isolation(mode="process", defences=DEFENCES + ("data_mounted_read_only",) * talk.data_mounted),
            cost=plan.cost,
        )

    def _step_s(self, evaluation_s: float) -> float | None:
        """Mean length of a training step."""
        done, total_s = self._talk.done, _seconds(self._talk.go_ns, self._talk.end_ns)
        if done is None or total_s is None or not done.steps.optimizer_steps:
            return None
        return (total_s - evaluation_s) / done.steps.optimizer_steps


def _outcome(
    talk: Conversation, target: float, max_steps: int | None, *, cancelled: bool
) -> tuple[Outcome, str | None]:
    if talk.reached_ns is not None:
        return "reached", talk.reason
    if cancelled:
        return "cancelled", "ended from outside"
    if talk.fate != "done":
        return talk.fate, talk.reason
    if talk.done is not None and talk.done.steps.optimizer_steps == max_steps:
        return "partial", f"ended after {max_steps} optimizer steps, as asked"
    best = max((verdict.value for verdict in talk.verdicts), default=None)
    if best is None:
        return "missed", "training returned without an evaluation"
    return "missed", f"training returned at best {best:.3%}, short of {target:.3%}"


def _seconds(start_ns: int | None, stop_ns: int | None) -> float | None:
    return None if start_ns is None or stop_ns is None else (stop_ns - start_ns) / 1e9
