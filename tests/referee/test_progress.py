"""Steps are timed by the referee as they pass, and a run may end after some of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import SETUP_NOTHING, Finished

TRAINING = """
import torch
from torch import nn

def setup(run):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def train(run, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        for images, labels in run.loader("train", 100, drop_last=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        run.evaluate(model)
"""


def test_the_first_step_and_every_doubling_of_steps_is_timed(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    record = kit_run(f"submission={submission(TRAINING)}", "loader=torch", "count_flops=false").record
    assert record["steps"]["optimizer_steps"] == 20
    assert [mark["optimizer_steps"] for mark in record["progress"]] == [1, 2, 4, 8, 16]
    times = [mark["elapsed_s"] for mark in record["progress"]]
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < record["time"]["total_s"]


def test_a_run_ends_after_the_steps_asked_for_and_is_replayed_as_far(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    done = kit_run(f"submission={submission(TRAINING)}", "loader=torch", "max_steps=12")
    assert done.returncode == 0, done.stderr
    record = done.record
    assert record["outcome"] == "partial"
    assert record["reason"] == "ended after 12 optimizer steps, as asked"
    assert record["max_steps"] == record["steps"]["optimizer_steps"] == 12
    assert record["flops"]["replay_steps"] == record["steps"]
    # Per image: forward and the weight gradient; the first layer needs no input gradient.
    assert record["flops"]["train_total"] == 12 * 100 * 2 * 2 * 64 * 10


def test_a_run_shorter_than_the_steps_asked_for_is_an_ordinary_one(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    record = kit_run(f"submission={submission(TRAINING)}", "loader=torch", "max_steps=21", "count_flops=false").record
    assert record["outcome"] == "missed"


@pytest.mark.parametrize("steps", ["0", "-3", "some", "1.5"])
def test_steps_must_be_a_positive_number(steps: str, kit_run: Callable[..., Finished]) -> None:
    done = kit_run(f"max_steps={steps}")
    assert done.returncode == 2
    assert "max_steps" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("steps", [0, 2, 3])
def test_progress_out_of_turn_is_refused(
    steps: int, submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = SETUP_NOTHING + (
        "from kit.protocol import Progress\n"
        "def train(run, state):\n"
        f"    run._link._referee.send(Progress(optimizer_steps={steps}))\n"
        "    run._link._referee.receive()\n"
    )
    record = kit_run(f"submission={submission(source)}", "count_flops=false").record
    assert record["outcome"] == "invalid"
    assert f"progress after {steps} steps where 1 come next" in record["reason"]
