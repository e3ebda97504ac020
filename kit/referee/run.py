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
from kit.meters.energy import CounterError, EnergyMeter, absent, nvml_counter
from kit.meters.memory import MemoryMeter
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
    Energy,
    Evaluation,
    Flops,
    Isolation,
    Memory,
    Outcome,
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
    count_fully_below_s: float
    """Of longer runs only some steps are counted."""
    results_dir: Path


def run(plan: Plan, prepared: Prepared, observers: Sequence[Observer] = ()) -> tuple[Record, Path]:
    """Train the submission under the clock, write its record, then count its operations in a replay.

    Args:
        plan: What to run.
        prepared: The data of the plan's track.
        observers: Told of what happens.

    Returns:
        The record and its file. Every outcome leaves one, also an interrupted run (`cancelled`).

    Raises:
        KitError: The results cannot be written; nothing has been run.
        KeyboardInterrupt: Somebody ended the run; the record is written.
    """
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
        referee = _Referee(plan, prepared, tell)
        interrupted: BaseException | None = None
        try:
            referee.time(source, run_dir / OUTPUT_FILE)
        except KeyboardInterrupt as error:
            interrupted = error
        record = referee.record(run_dir.name, started_at, cancelled=interrupted is not None)
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

    def __init__(self, plan: Plan, prepared: Prepared, tell: Callable[[Event], None]) -> None:
        self._plan = plan
        self._prepared = prepared
        self._tell = tell
        self._judge = Judge(prepared.test_labels(), prepared.spec.classes, plan.track.metric)
        self._talk = Conversation()
        self._memory: MemoryMeter | None = None
        self._host_peak_bytes: int | None = None
        self._logs = 0
        self._meter: EnergyMeter | None = None
        self._no_energy = "no GPU: the run was on the CPU, whose energy is not measured yet"
        if plan.device == "cuda":
            try:
                self._meter = EnergyMeter(nvml_counter())
            except CounterError as error:
                self._no_energy = str(error)

    def time(self, source: Path, output: Path) -> None:
        plan = self._plan
        job = Job(
            submission_dir=str(source.resolve()),
            config=plan.submission.config,
            track=plan.track,
            dataset=self._prepared.spec,
            device="cuda:0" if plan.device == "cuda" else "cpu",
            seed=plan.seed,
            loader=plan.loader,
            counting=False,
        )
        gpu = machine.visible_gpu() if plan.device == "cuda" else None
        try:
            with Trainer(max_payload_bytes=plan.track.limits.message_bytes, gpu=gpu, output=output) as trainer:
                converse(trainer, job, self._prepared.public_dir, plan.track.limits, self._answer, self, self._talk)
        finally:
            if self._meter is not None:
                self._meter.stop()

    def _answer(self, predictions: NDArray[np.int32]) -> Scored:
        value = self._judge.score(predictions)
        return Scored(value=value, reached=value >= self._plan.track.target)

    # ---- Listener

    def on_go(self, trainer: Trainer, setup_s: float) -> None:
        self._memory = MemoryMeter(trainer.pid)
        self._memory.start()
        if self._meter is not None:
            self._meter.start()
        self._tell(ClockStarted(setup_s=setup_s))

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
                device_j=self._meter.since_j(go_ns) if self._meter is not None else None,
            )
        )

    def on_end(self, trainer: Trainer) -> None:
        if self._memory is not None:
            self._memory.sample()
            self._host_peak_bytes = self._memory.stop()

    # ---- the record

    def record(self, run_id: str, started_at: datetime, *, cancelled: bool) -> Record:
        plan, talk, track = self._plan, self._talk, self._plan.track
        outcome, reason = _outcome(talk, track.target, cancelled=cancelled)
        go_ns, end_ns, reached_ns = talk.go_ns, talk.end_ns or monotonic_ns(), talk.reached_ns
        return Record(
            id=run_id,
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
                evaluation_s=sum((v.arrived_ns - v.begun_ns) / 1e9 for v in talk.verdicts),
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
            steps=None if talk.done is None else Steps(**talk.done.steps.model_dump()),
            energy=self._energy(go_ns, reached_ns or end_ns),
            flops=Flops(method="absent" if talk.done is None else "pending"),
            memory=Memory(
                device_peak_bytes=talk.done.device_peak_bytes if talk.done is not None else None,
                host_peak_bytes=self._host_peak_bytes,
            ),
            device=machine.describe(plan.device, talk.threads),
            software=machine.software(),
            isolation=Isolation(mode="process", defences=DEFENCES + ("data_mounted_read_only",) * talk.data_mounted),
        )

    def _energy(self, go_ns: int | None, stop_ns: int) -> Energy:
        if self._meter is None:
            return absent(self._no_energy)
        if go_ns is None:
            return absent("the clock never started")
        return self._meter.energy(go_ns, stop_ns)


def _outcome(talk: Conversation, target: float, *, cancelled: bool) -> tuple[Outcome, str | None]:
    if talk.reached_ns is not None:
        return "reached", talk.reason
    if cancelled:
        return "cancelled", "ended from outside"
    if talk.fate != "done":
        return talk.fate, talk.reason
    best = max((verdict.value for verdict in talk.verdicts), default=None)
    if best is None:
        return "missed", "training returned without an evaluation"
    return "missed", f"training returned at best {best:.3%}, short of {target:.3%}"


def _seconds(start_ns: int | None, stop_ns: int | None) -> float | None:
    return None if start_ns is None or stop_ns is None else (stop_ns - start_ns) / 1e9
