"""The smoke run: setup, training and one evaluation on random data, in a trainer like that of a real run.

The first evaluation is answered with "reached", so that training returns. Nothing is measured and nothing is recorded.
"""

import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.data.stand_in import make_stand_in, shape_of
from kit.errors import KitError
from kit.hardware import machine
from kit.protocol import Job, Scored
from kit.referee import sandbox
from kit.referee.conversation import FINISH_S, Conversation, Listener, converse
from kit.referee.judge import Judge
from kit.referee.launch import Trainer
from kit.results.record import IsolationMode
from kit.submission.manifest import SOURCE_FILE, Manifest
from kit.submission.problem import Problem, error, flag
from kit.track import Model, Track

RUN_S = 120.0
"""To the first evaluation; a track's own limit holds where it is lower."""
SEED = 0
RETURN = "return from train as soon as a verdict says reached"


class SmokeRun(Model):
    """What was tried, and how far it came."""

    track: str
    device: str
    isolation: IsolationMode
    unsealed_because: str | None
    setup_s: float | None
    """None where setup did not end."""
    evaluated_after_s: float | None
    """From the start of training to the first predictions; None where there were none."""
    optimizer_steps: int
    """As far as they were seen."""


def smoke_run(
    folder: Path, manifest: Manifest, track: Track, data_dir: Path, *, sealed: bool
) -> tuple[SmokeRun, list[Problem]]:
    """Try a submission on a track.

    Args:
        folder: The submission.
        manifest: Its manifest.
        track: One that it enters.
        data_dir: Where prepared data lie, if any do: for their shape, and nothing else.
        sealed: Rather not at all than without a sandbox.

    Raises:
        KitError: Nobody knows the shape of the track's data, or there is no sandbox although there must be one.
    """
    shape = shape_of(track, data_dir)
    limits = track.limits.model_copy(update={"run_s": min(track.limits.run_s, RUN_S)})
    device = machine.choose_device("auto")
    isolation, because = _isolation()
    if sealed and because is not None:
        raise KitError(f"a pack may be anybody's code, and is run in a sandbox alone: {because}")
    talk = Conversation()
    with tempfile.TemporaryDirectory(prefix="kit-check-") as scratch:
        prepared = make_stand_in(track, shape, Path(scratch))
        judge = Judge(prepared.test_labels(), prepared.spec.classes, track.metric)

        def answer(predictions: NDArray[np.int32]) -> Scored:
            judge.score(predictions)  # raises where they could not be scored
            return Scored(value=track.target, reached=True)

        with Trainer(
            submission_dir=folder,
            limits=limits,
            gpus=machine.visible_gpus(1) if device == "cuda" else (),
            output=Path(scratch) / "output.log",
            isolation=isolation,
        ) as trainer:
            job = Job(
                submission_dir=trainer.submission_dir,
                config=manifest.config,
                track=track,
                dataset=prepared.spec,
                device="cuda:0" if device == "cuda" else "cpu",
                seed=SEED,
                loader="dali",
                counting=False,
            )
            converse(trainer, job, prepared.public_dir, limits, answer, Listener(), talk)
    run = SmokeRun(
        track=track.name,
        device=device,
        isolation=isolation,
        unsealed_because=because,
        setup_s=talk.setup_s,
        evaluated_after_s=None if talk.reached_ns is None else (talk.reached_ns - (talk.go_ns or 0)) / 1e9,
        optimizer_steps=_steps(talk),
    )
    return run, _problems(talk, limits.run_s, track.name)


def _isolation() -> tuple[IsolationMode, str | None]:
    """Sealed where that can be had, else the reason why not."""
    try:
        sandbox.require()
    except KitError as failure:
        return "process", str(failure)
    return "sandbox", None


def _steps(talk: Conversation) -> int:
    if talk.done is not None:
        return talk.done.steps.optimizer_steps
    return talk.progress[-1][0] if talk.progress else 0


def _problems(talk: Conversation, run_s: float, track: str) -> list[Problem]:
    where = _blamed(talk.traceback)
    reason = f"on {track}: {talk.reason}"
    if talk.fate == "timeout" and talk.setup_s is not None and talk.progress:
        steps = f"{_steps(talk)} optimizer step{'s' * (_steps(talk) > 1)}"
        what = f"on {track}: {steps} or more in {run_s:g} s, and no evaluation to try"
        return [flag(where, what, f"nothing need be wrong: kit run track={track} trains to the end")]
    if talk.fate == "timeout" and talk.setup_s is not None:
        what = f"on {track}: in {run_s:g} s neither a step of a torch optimizer nor an evaluation"
        return [error(where, what, "train and evaluate in train(run, state)")]
    if talk.fate == "timeout":
        return [error(where, reason, "do less in setup: it ends when train could begin")]
    if talk.fate == "out_of_memory":
        return [error(where, reason, "take smaller batches or a smaller model, or a machine with more memory")]
    if talk.fate == "invalid":
        return [error(where, reason, "predict returns finite scores (images, classes), and the kit sends them")]
    if talk.fate == "crashed":
        return [error(where, reason, f"run it by hand: kit run track={track}")]
    if not talk.verdicts:
        return [error(where, f"on {track}: train returned without an evaluation", "call run.evaluate(model) in train")]
    if talk.reason is not None:
        return [error(where, f"on {track}: train went on for {FINISH_S:g} s after the target was reached", RETURN)]
    problems = []
    if len(talk.verdicts) > 1:
        what = f"on {track}: {len(talk.verdicts) - 1} more evaluations after the target was reached"
        problems.append(flag(where, what, RETURN))
    if not _steps(talk):
        what = f"on {track}: no step of a torch optimizer was seen"
        problems.append(flag(where, what, "steps are counted at torch.optim.Optimizer.step; other updates go unseen"))
    return problems


def _blamed(traceback: str | None) -> str:
    lines = re.findall(rf'{re.escape(SOURCE_FILE)}", line (\d+)', traceback or "")
    return f"{SOURCE_FILE}:{lines[-1]}" if lines else SOURCE_FILE
