"""One run from start to record."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic_ns
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kit.data.prepared import Prepared
from kit.hardware import machine
from kit.hardware.turn import CPU, WhenBusy, turn
from kit.meters.meters import Meters
from kit.protocol import Job, Scored
from kit.referee import sandbox
from kit.referee.conversation import Conversation, Listener, Stamped, converse
from kit.referee.judge import Judge
from kit.referee.launch import Trainer
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
    Waiting,
)
from kit.results.record import (
    Cost,
    Device,
    Evaluation,
    Flops,
    Isolation,
    IsolationMode,
    Official,
    Outcome,
    Progress,
    Record,
    Steps,
    SubmissionInfo,
    Time,
    TrackInfo,
)
from kit.results.store import EVENTS_FILE, OUTPUT_FILE, create_run_dir, refuse_links, snapshot_source, write_record
from kit.slurm.job import this_job
from kit.track import Track
from kit.version import __version__

MAX_LOGS, MAX_LOGGED_BYTES = 100_000, 100 << 20
"""Later ones are dropped: the event file cannot be made to fill the disk."""


BYTES_PER_NUMBER = 30


@dataclass(frozen=True)
class Plan:
    """Everything that decides a run."""

    track: Track
    submission: SubmissionInfo
    submission_dir: Path
    seed: int
    device: Literal["cpu", "cuda"]
    loader: Literal["dali", "torch"]
    isolation: IsolationMode
    count_flops: bool
    max_steps: int | None
    """End after so many optimizer steps, as a partial run."""
    allow_busy_device: bool
    """Run although somebody else computes on the GPU."""
    count_fully_below_s: float
    """Of longer runs only some steps are counted."""
    results_dir: Path
    cost: Cost | None
    official: Official | None = None
    """What `kit score` makes the run for."""
    ranks: int = 1
    """Processes that train together, on a GPU each or on the CPU."""
    when_busy: WhenBusy = "wait"
    """What to do while another run is timed on the device."""


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
        KitError: The submission holds links, the results cannot be written, somebody else computes on the device, or
            no sandbox can be had here; nothing has been run.
        KeyboardInterrupt: Somebody ended the run; the record is written.
    """
    refuse_links(plan.submission_dir)
    if plan.isolation == "sandbox":
        sandbox.require()
    gpus = machine.visible_gpus(plan.ranks) if plan.device == "cuda" else ()
    device = machine.describe(plan.device, ranks=plan.ranks)
    with ExitStack() as held:
        if not plan.allow_busy_device:
            held.enter_context(turn(gpus or (CPU,), plan.when_busy, partial(_say_waiting, observers)))
        meters = meters or Meters.of(gpus, allow_busy=plan.allow_busy_device)
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
                    official=plan.official,
                    job=this_job(),
                )
            )
            referee = _Referee(plan, prepared, tell, meters)
            interrupted: KeyboardInterrupt | None = None
            try:
                referee.time(source, run_dir / OUTPUT_FILE, gpus)
            except KeyboardInterrupt as error:
                interrupted = error
            record = referee.record(run_dir, started_at, device, cancelled=_why_interrupted(interrupted))
            path = write_record(record, run_dir)
            held.close()  # for the next run: a count waits for its own turn
            tell(Ended(outcome=record.outcome, reason=record.reason, elapsed_s=record.time.total_s))
            if interrupted is None and plan.count_flops and record.steps is not None:
                record = count(path, prepared, tell, fully_below_s=plan.count_fully_below_s)
            tell(Completed(record=record, path=path))
            if interrupted is not None:
                raise interrupted
    return record, path


def _say_waiting(observers: Sequence[Observer], message: str) -> None:
    for observer in observers:
        observer.on_event(Waiting(message=message))


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
        self._logs = self._logged_bytes = 0

    def time(self, source: Path, output: Path, gpus: Sequence[str]) -> None:
        plan, limits = self._plan, self._plan.track.limits
        try:
            self._meters.start()
            with Trainer(
                submission_dir=source,
                limits=limits,
                gpus=gpus,
                output=output,
                isolation=plan.isolation,
                ranks=plan.ranks,
            ) as trainer:
                job = Job(
                    submission_dir=trainer.submission_dir,
                    config=plan.submission.config,
                    track=plan.track,
                    dataset=self._prepared.spec,
                    device="cuda:0" if plan.device == "cuda" else "cpu",
                    seed=plan.seed,
                    loader=plan.loader,
                    max_steps=plan.max_steps,
                    wait_s=limits.rank_wait_s,
                    counting=False,
                )
                converse(trainer, job, self._prepared.public_dir, limits, self._answer, self, self._talk)
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
        self._logged_bytes += sum(len(name) + BYTES_PER_NUMBER for name in scalars)
        if self._logs <= MAX_LOGS and self._logged_bytes <= MAX_LOGGED_BYTES:
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

    def record(self, run_dir: Path, started_at: datetime, device: Device, *, cancelled: str | None) -> Record:
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
            git=machine.git_state(plan.submission_dir, trusted=plan.isolation == "process"),
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
            isolation=Isolation(mode=plan.isolation, defences=talk.defences),
            cost=plan.cost,
            official=plan.official,
            job=this_job(),
        )

    def _step_s(self, evaluation_s: float) -> float | None:
        """Mean length of a training step."""
        done, total_s = self._talk.done, _seconds(self._talk.go_ns, self._talk.end_ns)
        if done is None or total_s is None or not done.steps.optimizer_steps:
            return None
        return (total_s - evaluation_s) / done.steps.optimizer_steps


def _outcome(
    talk: Conversation, target: float, max_steps: int | None, *, cancelled: str | None
) -> tuple[Outcome, str | None]:
    if talk.reached_ns is not None:
        return "reached", talk.reason
    if cancelled is not None:
        return "cancelled", cancelled
    if talk.fate != "done":
        return talk.fate, talk.reason
    if talk.done is not None and talk.done.steps.optimizer_steps == max_steps:
        return "partial", f"ended after {max_steps} optimizer steps, as asked"
    best = max((verdict.value for verdict in talk.verdicts), default=None)
    if best is None:
        return "missed", "training returned without an evaluation"
    return "missed", f"training returned at best {best:.3%}, short of {target:.3%}"


def _why_interrupted(interrupted: KeyboardInterrupt | None) -> str | None:
    return None if interrupted is None else str(interrupted) or "ended from outside"


def _seconds(start_ns: int | None, stop_ns: int | None) -> float | None:
    return None if start_ns is None or stop_ns is None else (stop_ns - start_ns) / 1e9
