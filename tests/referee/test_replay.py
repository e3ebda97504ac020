"""The replay takes the steps of the run, or says that it did not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support import ROOT, SETUP_NOTHING, Finished

LINEAR = """
import time, torch
from torch import nn

def setup(run):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
"""


def kit_count(run_dir: Path, data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kit.cli", "count", str(run_dir), "--data-dir", str(data_dir), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_that_is_never_twice_the_same_is_replayed_in_as_many_steps(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        LINEAR
        + """
def train(run, model):
    noise = torch.Generator().manual_seed(time.time_ns())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(60):
        for images, labels in run.loader("train", 50):
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for parameter in model.parameters():
                parameter.data += 1e-3 * torch.randn(parameter.shape, generator=noise)
        if run.evaluate(model).reached:
            return
"""
    )
    done = kit_run(f"submission={submission(source)}", "track.target=0.955")
    record = done.record
    assert record["outcome"] == "reached", record["reason"]
    assert record["flops"]["replay_steps"] == record["steps"]
    assert record["steps"]["optimizer_steps"] == 20 * record["steps"]["evaluations"]
    assert record["flops"]["trusted"], record["flops"]["untrusted_because"]


def test_counted_operations_of_a_linear_network_are_exact(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        LINEAR
        + """
def train(run, model):
    for images, labels in run.loader("train", 100):
        nn.functional.cross_entropy(model(images), labels).backward()
    run.evaluate(model)
"""
    )
    flops = kit_run(f"submission={submission(source)}").record["flops"]
    forward = 2 * (64 * 64 + 64 * 10)
    first_layer = 2 * 64 * 64
    assert flops["train_total"] == 1000 * (3 * forward - first_layer)
    assert flops["evaluation_total"] == 797 * forward
    assert flops["uncounted"] == []


def test_a_replay_that_does_less_than_the_run_is_not_trusted(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        LINEAR
        + """
def train(run, model):
    import sys
    steps = 5 if "kit.trainer.counting" in sys.modules else 40
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        images, labels = next(iter(run.loader("train", 100)))
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    run.evaluate(model)
"""
    )
    flops = kit_run(f"submission={submission(source)}").record["flops"]
    assert flops["trusted"] is False
    assert "other steps" in flops["untrusted_because"]


def test_a_replay_that_learns_less_than_the_run_is_not_trusted(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        LINEAR
        + """
def train(run, model):
    import sys
    rate = 0.0 if "kit.trainer.counting" in sys.modules else 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for images, labels in run.loader("train", 20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    run.evaluate(model)
"""
    )
    flops = kit_run(f"submission={submission(source)}").record["flops"]
    assert flops["trusted"] is False
    assert "did not learn the same" in flops["untrusted_because"]


def test_a_compiled_program_is_counted_as_the_eager_one_it_stands_for(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = """
import torch
from torch import nn

def setup(run):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return torch.compile(model, fullgraph=True, backend="aot_eager")

def train(run, model):
    for images, labels in run.loader("train", 100):
        nn.functional.cross_entropy(model(images), labels).backward()
"""
    flops = kit_run(f"submission={submission(source)}").record["flops"]
    assert flops["train_total"] == 1000 * 2 * (2 * 64 * 10)


def test_a_record_without_operations_is_completed_by_kit_count_and_then_never_changed(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    source = LINEAR + "def train(run, model):\n    run.evaluate(model)\n"
    done = kit_run(f"submission={submission(source)}", "count_flops=false")
    before = done.record
    assert before["flops"]["method"] == "pending"
    first = kit_count(done.run_dir, data_dir)
    assert first.returncode == 0, first.stderr
    after = done.record
    assert after["flops"]["method"] == "replay"
    assert after["flops"]["evaluation_total"] > 0
    assert {key: value for key, value in after.items() if key != "flops"} == {
        key: value for key, value in before.items() if key != "flops"
    }
    second = kit_count(done.run_dir, data_dir)
    assert second.returncode == 2
    assert "counted already" in second.stderr
    assert json.loads((done.run_dir / "record.json").read_text()) == after


def test_a_long_run_is_sampled_and_its_operations_are_those_of_a_full_count(
    kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run("submission=submissions/template", "config.epochs=5", "count_flops=false", "loader=torch")
    twin = done.run_dir.with_name(".twin")
    shutil.copytree(done.run_dir, twin)
    counted = kit_count(done.run_dir, data_dir, "--fully-below-s", "0")
    assert counted.returncode == 0, counted.stderr
    assert "steps counted" in counted.stdout
    sampled = done.record["flops"]
    assert kit_count(twin, data_dir).returncode == 0
    full = json.loads((twin / "record.json").read_text())["flops"]
    assert (sampled["method"], full["method"], full["sampling"]) == ("sampled", "replay", None)
    assert sampled["sampling"]["mismatches"] == sampled["sampling"]["estimated"] == 0
    assert 0 < sampled["sampling"]["recounted"] < sampled["sampling"]["counted"] < sampled["sampling"]["steps"]
    differing = {"operators", "method", "sampling", "replay_value"}
    assert {key: sampled[key] for key in sampled.keys() - differing} == {
        key: full[key] for key in full.keys() - differing
    }
    for rows in (sampled["operators"], full["operators"]):
        for row in rows:
            del row["busy_s"]
        rows.sort(key=str)
    assert sampled["operators"] == full["operators"]


def test_nothing_to_count_is_one_clear_line(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(SETUP_NOTHING + 'def train(run, state):' + chr(10) + '    1 / 0')}")
    counted = kit_count(done.run_dir, data_dir)
    assert counted.returncode == 2
    assert counted.stderr.count("\n") == 1
    assert "nothing to repeat" in counted.stderr


def test_a_source_that_was_changed_after_the_run_is_not_counted(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    source = LINEAR + "\ndef train(run, model):\n    run.evaluate(model)\n"
    done = kit_run(f"submission={submission(source)}", "count_flops=false")
    (done.run_dir / "submission" / "submission.py").write_text(source + "\n# less\n")
    counted = kit_count(done.run_dir, data_dir)
    assert counted.returncode == 2
    assert "the source beside it is not what ran" in counted.stderr
    assert done.record["flops"]["method"] == "pending"
