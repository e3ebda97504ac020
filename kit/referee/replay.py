"""Counting: an untimed second training that takes the same steps, because it is given the same verdicts.

The replay's predictions are scored too. One that learned less than the run did, or took other steps, is not the same
program, and its count is marked untrusted.
"""

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.hardware.machine import visible_gpus
from kit.hardware.turn import CPU, turn
from kit.protocol import Counted, Done, Job, Scored
from kit.referee.conversation import Conversation, Listener, converse
from kit.referee.judge import InvalidPredictions, Judge
from kit.referee.launch import Trainer
from kit.results.events import CountStarted, Event, Waiting
from kit.results.record import DeclaredOperator, Flops, OperatorFlops, Record, Sampling, Steps, UncountedOperator
from kit.results.signing import SIGNATURE_FILE
from kit.results.source import source_sha256
from kit.results.store import SOURCE_DIR, read_record, write_record

SLOWDOWN = 20
"""A replay may take this many times the run: counting slows dispatch-bound steps 4 to 8 times, eager code more."""
STANDARD_ERRORS = 3
FULLY_BELOW_S = 600.0
"""Of shorter runs every step is counted."""


def count(
    path: Path, prepared: Prepared, tell: Callable[[Event], None], *, fully_below_s: float = FULLY_BELOW_S
) -> Record:
    """Replay the run of the record at `path`, and write the completed record in its place.

    Args:
        path: Of the record file.
        prepared: The data that the run was on.
        tell: Hears of the start.
        fully_below_s: Where training took longer, steps that are seen to do the same are counted once and multiplied.

    Raises:
        KitError: The operations are counted already, the run left no steps to repeat, the data or the source is not
            what ran, or the replay itself failed. The record stays as it is.
    """
    record = read_record(path)
    if record.flops.method in ("replay", "sampled"):
        raise KitError(f"{path}: operations are counted already; a complete record is never changed")
    if record.flops.method == "absent":
        raise KitError(f"{path}: the run ended as '{record.outcome}' without finishing, so there is nothing to repeat")
    if (path.parent / SIGNATURE_FILE).exists():
        raise KitError(f"{path}: the record is signed; kit score counts it, and signs it again")
    tell(CountStarted())
    # Drawn now: no submission can know which of its steps will be counted again.
    seed = secrets.randbits(53) if (record.time.total_s or 0.0) >= fully_below_s else None
    talk, values = replay(record, path, prepared, tell, output="replay.log", sampling_seed=seed)
    if talk.done is None or talk.done.counted is None:
        raise KitError(
            f"{path}: the replay ended as '{talk.fate}': {talk.reason}; count it again with kit count {path}"
        )
    flops = _flops(talk.done.counted, steps_of(talk.done), max(values, default=None), record, prepared.spec.test_count)
    completed = record.model_copy(update={"flops": flops})
    write_record(completed, path.parent)
    return completed


def replay(
    record: Record, path: Path, prepared: Prepared, tell: Callable[[Event], None], *, output: str, **how: Any
) -> tuple[Conversation, list[float]]:
    """Take the steps of a recorded run again, with its verdicts, when no other run has the device.

    Args:
        record: Of the run.
        path: Its file, beside its source.
        prepared: The data that the run was on.
        tell: Hears whom this waits for.
        output: Name of the file for what the trainer prints.
        how: The parts of the job that say how to count.

    Returns:
        What happened, and the scores that the replay really had.

    Raises:
        KitError: The source or the data is not what the run was on.
    """
    if source_sha256(path.parent / SOURCE_DIR) != record.submission.source_sha256:
        raise KitError(f"{path}: the source beside it is not what ran: it was changed")
    if prepared.fingerprint != record.track.dataset_fingerprint:
        raise KitError(f"{path}: the run was on other data than {prepared.root} holds")
    run_dir = path.parent
    judge = Judge(prepared.test_labels(), prepared.spec.classes, record.track.metric)
    recorded = iter(record.evaluations)
    values: list[float] = []

    def answer(predictions: NDArray[np.int32]) -> Scored:
        values.append(judge.score(predictions))
        verdict = next(recorded, None)
        if verdict is None:
            raise InvalidPredictions(f"the run evaluated {len(record.evaluations)} times, its replay once more")
        return Scored(value=verdict.value, reached=verdict.reached)

    limits = record.track.limits
    replay_limits = limits.model_copy(update={"run_s": max(60.0, SLOWDOWN * (record.time.total_s or 0.0))})
    ranks = record.device.ranks
    gpus = visible_gpus(ranks) if record.device.type == "cuda" else ()
    talk = Conversation()
    with ExitStack() as held:
        held.enter_context(turn(gpus or (CPU,), "wait", lambda message: tell(Waiting(message=message))))
        trainer = held.enter_context(
            Trainer(
                submission_dir=run_dir / SOURCE_DIR,
                limits=replay_limits,
                gpus=gpus,
                output=run_dir / output,
                isolation=record.isolation.mode,
                ranks=ranks,
            )
        )
        job = Job(
            submission_dir=trainer.submission_dir,
            config=record.submission.config,
            track=record.track.as_track(),
            dataset=prepared.spec,
            device="cuda:0" if record.device.type == "cuda" else "cpu",
            seed=record.seed,
            loader=record.loader,
            max_steps=record.max_steps,
            wait_s=SLOWDOWN * limits.rank_wait_s,
            counting=True,
            **how,
        )
        converse(trainer, job, prepared.public_dir, replay_limits, answer, Listener(), talk)
    return talk, values


def _flops(counted: Counted, steps: Steps, value: float | None, record: Record, test_count: int) -> Flops:
    because = doubt(steps, value, record, test_count)
    totals = {
        phase: sum(row.flops for row in counted.operators if row.phase == phase)
        for phase in ("training", "optimizer", "evaluation")
    }
    return Flops(
        method="replay" if counted.sampling is None else "sampled",
        train_total=totals["training"] + totals["optimizer"],
        evaluation_total=totals["evaluation"],
        recomputed_total=sum(row.recomputed_flops for row in counted.operators),
        operators=tuple(
            OperatorFlops(
                operator_class=row.operator_class,
                dtype=row.dtype,
                phase=row.phase,
                backward=row.backward,
                calls=row.calls,
                flops_per_call=row.flops / max(1, row.calls),
                bytes_per_call=row.bytes / max(1, row.calls),
                busy_s=row.busy_s,
            )
            for row in counted.operators
        ),
        uncounted=tuple(
            UncountedOperator(
                operator=row.operator,
                calls=row.calls,
                bytes=row.bytes,
                time_share=row.busy_s / record.time.total_s if record.time.total_s else None,
            )
            for row in counted.uncounted
        ),
        declared=tuple(
            DeclaredOperator(operator=row.operator, calls=row.calls, flops_per_call=row.flops / max(1, row.calls))
            for row in counted.declared
        ),
        sampling=None if counted.sampling is None else Sampling(**counted.sampling.model_dump()),
        replay_steps=steps,
        replay_value=value,
        trusted=because is None,
        untrusted_because=because,
    )


def steps_of(done: Done) -> Steps:
    """What a trainer says that it did."""
    return Steps(**done.steps.model_dump())


def doubt(steps: Steps, value: float | None, record: Record, test_count: int) -> str | None:
    """Why the count should not be believed, or None."""
    if steps != record.steps:
        return f"the replay took other steps than the run: {_words(steps)} against {_words(record.steps)}"
    if value is None:
        return None
    expected = record.best_value or 0.0
    # Two trainings of one recipe differ by chance, each score about sqrt(p (1 - p) / n) around its mean.
    spread = (2 * max(expected * (1 - expected), 1 / test_count) / test_count) ** 0.5
    if value < expected - STANDARD_ERRORS * spread:
        return f"the replay came to {value:.2%}, the run at {expected:.2%}: it did not learn the same"
    return None


def _words(steps: Steps | None) -> str:
    if steps is None:
        return "none"
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in steps.model_dump().items())
