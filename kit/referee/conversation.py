"""One conversation with one trainer, from launch to end: the timed run and the replay differ only in who answers."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kit.protocol import (
    ConnectionLost,
    Done,
    Evaluating,
    Failed,
    Go,
    Job,
    Log,
    Predictions,
    Progress,
    ProtocolError,
    Ready,
    Scored,
    printable,
)
from kit.referee.descriptor import public_folder
from kit.referee.judge import InvalidPredictions
from kit.referee.launch import Trainer
from kit.track import Limits

TOLD_LAST_S = 1.0
ENDED_WITH_ITS_JOB = {128 + signal.SIGTERM, 128 + signal.SIGUSR2}
"""A scheduler that ends a job signals all of its processes, one after another; the referee may come last."""
FINISH_S = 10.0
"""After the target is reached a trainer has this long to return."""
OOM_KILLS = Path("/proc/vmstat")

Fate = Literal["done", "timeout", "crashed", "out_of_memory", "invalid"]
Arbiter = Callable[[NDArray[np.int32]], Scored]
"""Answers predictions; raises InvalidPredictions for what cannot be scored."""


class Listener:
    """What a conversation tells while it goes on; the defaults do nothing."""

    def on_go(self, trainer: Trainer, setup_s: float) -> None:
        """Setup is done; the clock starts when this returns."""

    def on_log(self, elapsed_s: float, scalars: dict[str, float | None]) -> None:
        """The submission logged numbers."""

    def on_verdict(self, verdict: "Stamped") -> None:
        """The trainer has its answer already."""

    def on_end(self, trainer: Trainer) -> None:
        """The conversation is over; the trainer's processes are still there."""


@dataclass(frozen=True)
class Stamped:
    """A verdict with its times, in nanoseconds of CLOCK_MONOTONIC."""

    begun_ns: int
    """When the trainer announced the evaluation, or when its predictions had arrived."""
    arrived_ns: int
    value: float
    reached: bool


@dataclass
class Conversation:
    """What happened; complete also when it ended badly or was interrupted."""

    fate: Fate = "crashed"
    reason: str | None = None
    traceback: str | None = None
    setup_s: float | None = None
    threads: int | None = None
    defences: tuple[str, ...] = ()
    """Whether the data's descriptor was a read-only mount of its own."""
    go_ns: int | None = None
    end_ns: int | None = None
    verdicts: list[Stamped] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    """Optimizer steps, and when they were done: after 1, 2, 4, 8 and so on."""
    done: Done | None = None

    @property
    def stop_ns(self) -> int | None:
        """When the target was reached, or else training ended."""
        return self.reached_ns or self.end_ns

    @property
    def reached_ns(self) -> int | None:
        """When the predictions that reached the target had arrived."""
        return next((verdict.arrived_ns for verdict in self.verdicts if verdict.reached), None)


def converse(
    trainer: Trainer,
    job: Job,
    public_dir: Path,
    limits: Limits,
    arbiter: Arbiter,
    listener: Listener,
    into: Conversation,
) -> None:
    """Run one trainer to its end, writing down what happens in `into` as it happens."""
    oom_kills = _oom_kills()
    into.defences = trainer.defences
    try:
        _setup(trainer, job, limits, listener, into)
        _timed(trainer, public_dir, limits, arbiter, listener, into)
    except _Ended as ended:
        into.fate, into.reason, into.traceback = ended.fate, ended.reason, ended.traceback
    except ConnectionLost:
        into.fate = "crashed"
    except ProtocolError as error:
        into.fate, into.reason = "invalid", f"the trainer broke the protocol: {error}"
    except InvalidPredictions as error:
        into.fate, into.reason = "invalid", str(error)
    finally:
        into.end_ns = into.end_ns or monotonic_ns()
        listener.on_end(trainer)
    if into.reason is None and into.fate == "crashed":
        _blame_exit(trainer, oom_kills, into)
    into.reason, into.traceback = _shown(into.reason), _shown(into.traceback)


def _shown(text: str | None) -> str | None:
    return None if text is None else printable(text)


class _Ended(Exception):  # noqa: N818 - not an error of ours
    def __init__(self, fate: Fate, reason: str | None = None, traceback: str | None = None) -> None:
        self.fate, self.reason, self.traceback = fate, reason, traceback


def _setup(trainer: Trainer, job: Job, limits: Limits, listener: Listener, into: Conversation) -> None:
    start_ns = monotonic_ns()
    trainer.channel.send(job)
    try:
        received = trainer.channel.receive(start_ns + int(limits.setup_s * 1e9))
    except TimeoutError:
        raise _Ended("timeout", f"setup took longer than {limits.setup_s:g} s") from None
    if received is None:
        raise _Ended("crashed")
    match received.message:
        case Ready(threads=threads):
            into.threads = threads
        case Failed(kind=kind, reason=reason, traceback=traceback):
            raise _Ended(kind, f"in setup: {reason}", traceback)
        case other:
            raise ProtocolError(f"'{other.type}' before 'ready'")
    into.setup_s = (received.at_ns - start_ns) / 1e9
    listener.on_go(trainer, into.setup_s)
    if trainer.channel.something_came():
        raise ProtocolError("a message between 'ready' and 'go'")


def _timed(
    trainer: Trainer,
    public_dir: Path,
    limits: Limits,
    arbiter: Arbiter,
    listener: Listener,
    into: Conversation,
) -> None:
    with public_folder(public_dir, sealed=trainer.isolation == "sandbox") as (descriptor, mounted):
        into.defences += ("data_mounted_read_only",) * mounted
        into.go_ns = monotonic_ns()
        trainer.channel.send(Go(), descriptor=descriptor)
    go_ns = into.go_ns
    run_deadline_ns = go_ns + int(limits.run_s * 1e9)
    begun_ns: int | None = None
    while True:
        reached_ns = into.reached_ns
        deadline_ns = run_deadline_ns if reached_ns is None else reached_ns + int(FINISH_S * 1e9)
        try:
            received = trainer.channel.receive(deadline_ns)
        except TimeoutError:
            if reached_ns is not None:
                raise _Ended("done", f"the trainer did not return within {FINISH_S:g} s of the target") from None
            raise _Ended("timeout", f"the run took longer than {limits.run_s:g} s") from None
        if received is None:
            raise _Ended("crashed")
        match received.message:
            case Predictions():
                assert received.predictions is not None
                if len(into.verdicts) >= limits.evaluations:
                    raise _Ended("invalid", f"more than {limits.evaluations} evaluations")
                if received.at_ns > run_deadline_ns:
                    raise _Ended("timeout", f"the run took longer than {limits.run_s:g} s")
                scored = arbiter(received.predictions)
                trainer.channel.send(scored)
                verdict = Stamped(begun_ns or received.at_ns, received.at_ns, scored.value, scored.reached)
                into.verdicts.append(verdict)
                begun_ns = None
                listener.on_verdict(verdict)
            case Evaluating():
                begun_ns = received.at_ns
            case Log(scalars=scalars):
                listener.on_log((received.at_ns - go_ns) / 1e9, scalars)
            case Progress(optimizer_steps=steps):
                if steps != 2 ** len(into.progress):
                    raise ProtocolError(f"progress after {steps} steps where {2 ** len(into.progress)} come next")
                into.progress.append((steps, received.at_ns))
            case Done() as done:
                into.done, into.end_ns = done, received.at_ns
                raise _Ended("done")
            case Failed(kind=kind, reason=reason, traceback=traceback):
                into.end_ns = received.at_ns
                raise _Ended(kind, reason, traceback)
            case Ready():
                raise ProtocolError("'ready' twice")


def _blame_exit(trainer: Trainer, oom_kills_before: int, into: Conversation) -> None:
    """The trainer went without a word: its exit status has to say why."""
    into.fate = "crashed"
    status = trainer.wait()
    if status in ENDED_WITH_ITS_JOB:  # if so, the referee is interrupted here, and the run is nobody's fault
        time.sleep(TOLD_LAST_S)
    if trainer.overuse is not None:
        into.fate, into.reason = trainer.overuse.fate, trainer.overuse.reason
    elif status == 128 + 9 and _oom_kills() > oom_kills_before:
        into.fate, into.reason = (
            "out_of_memory",
            "the kernel ended the trainer: the machine ran out of memory",
        )
    elif (words := trainer.last_words) is not None:
        into.reason = words
    elif status is None:
        into.reason = "the trainer closed its connection"
    elif status > 128:
        into.reason = f"the trainer was killed by signal {status - 128}"
    else:
        into.reason = f"the trainer exited with status {status} before training returned"


def _oom_kills() -> int:
    try:
        for line in OOM_KILLS.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
