"""`kit audit`: an honest count agrees, a hidden product does not, and the record stays as it was."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from records import make_record
from support import ROOT, Finished

from kit.referee.audit import TICKS, above_peak, choose
from kit.results.audit import Audit
from kit.results.record import Steps

PROGRAM = """
import threading, torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

def hidden():
    pass

def setup(run):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

def train(run, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(3):
        for images, labels in run.loader("train", 100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            hidden()
            optimizer.step()
        run.evaluate(model)
"""
HIDING = {
    "another thread": """
def hidden():
    thread = threading.Thread(target=lambda: torch.randn(64, 64) @ torch.randn(64, 64))
    thread.start()
    thread.join()
""",
    "a custom operator": """
@torch.library.custom_op("hidden::product", mutates_args=())
def product(x: torch.Tensor) -> torch.Tensor:
    return x @ x

def hidden():
    product(torch.randn(64, 64))
""",
}


def kit_audit(run_dir: Path, data_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kit.cli", "audit", str(run_dir), "--data-dir", str(data_dir), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def program(hiding: str = "") -> str:
    return PROGRAM.replace("def hidden():\n    pass\n", hiding or "def hidden():\n    pass\n")


def warming_up(source: str) -> str:
    """More steps in setup than there are in training."""
    return f"""{source}
build = setup

def setup(run):
    model = build(run)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        model(torch.randn(200, 64)).sum().backward()
        optimizer.step()
    return model
"""


def test_an_honest_count_agrees_and_the_audit_stands_beside_the_record(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(program())}", "loader=torch")
    before = (done.run_dir / "record.json").read_bytes()
    audited = kit_audit(done.run_dir, data_dir)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "agrees" in audited.stdout
    assert (done.run_dir / "record.json").read_bytes() == before
    audit = Audit.model_validate_json((done.run_dir / "audit.json").read_text())
    assert len(audit.windows) == 3
    for window in audit.windows:
        assert window.counted == window.profiled
        assert window.elsewhere_calls == 0
        assert window.busy_s > 0
    again = kit_audit(done.run_dir, data_dir, "--json", "--windows", "1")
    assert json.loads(again.stdout) == json.loads((done.run_dir / "audit.json").read_text())


@pytest.mark.parametrize("hiding", HIDING.values(), ids=HIDING.keys())
def test_a_hidden_product_makes_the_audit_disagree(
    hiding: str, submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(program(hiding))}", "loader=torch", "count_fully_below_s=0")
    assert done.record["flops"]["method"] == "sampled"
    audited = kit_audit(done.run_dir, data_dir)
    assert audited.returncode == 1, audited.stdout + audited.stderr
    assert "disagrees because" in audited.stdout
    assert "the profiler saw" in audited.stdout


def test_steps_in_setup_are_no_part_of_what_is_audited(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(warming_up(program()))}", "loader=torch")
    audited = kit_audit(done.run_dir, data_dir, "--windows", "100")
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_steps_in_setup_hide_nothing_from_the_audit(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    hiding = program(HIDING["another thread"])
    done = kit_run(f"submission={submission(warming_up(hiding))}", "loader=torch", "count_fully_below_s=0")
    audited = kit_audit(done.run_dir, data_dir)
    assert audited.returncode == 1, audited.stdout + audited.stderr
    assert "the profiler saw" in audited.stdout


def test_a_record_whose_operations_were_changed_is_found(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(program())}", "loader=torch")
    record = done.record
    record["flops"]["train_total"] //= 2
    (done.run_dir / "record.json").write_text(json.dumps(record))
    audited = kit_audit(done.run_dir, data_dir)
    assert audited.returncode == 1
    assert "this replay came to" in audited.stdout


def test_without_a_count_there_is_nothing_to_audit(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    done = kit_run(f"submission={submission(program())}", "loader=torch", "count_flops=false")
    audited = kit_audit(done.run_dir, data_dir)
    assert audited.returncode == 2
    assert audited.stderr.count("\n") == 1
    assert "kit count" in audited.stderr
    assert not (done.run_dir / "audit.json").exists()


@pytest.mark.parametrize("total", [0, 1, TICKS, 3 * TICKS + 1, 10_000])
def test_windows_are_apart_inside_the_run_and_other_ones_each_time(total: int) -> None:
    steps = Steps(optimizer_steps=total, loader_batches=0, evaluations=0)
    windows = choose(steps, 3)
    assert 1 <= len(windows) <= 3
    assert all(window.first <= max(0, total - 1) for window in windows)
    assert all(one.first + one.ticks <= other.first for one, other in itertools.pairwise(windows))
    if total > 1000:
        assert len({tuple(window.first for window in choose(steps, 3)) for _ in range(10)}) > 1


@pytest.mark.parametrize(("tflops", "believed"), [(30.2, True), (30.4, False)])
def test_more_operations_than_a_device_can_do_are_found(tflops: float, believed: bool) -> None:
    """An L4 does 30.3 TFLOP/s in float32."""
    record = make_record()
    (row,) = record.flops.operators
    assert record.time.total_s is not None
    rows = (row.model_copy(update={"calls": 1, "flops_per_call": tflops * 1e12 * record.time.total_s}),)
    on_l4 = record.model_copy(
        update={
            "device": record.device.model_copy(update={"name": "NVIDIA L4"}),
            "flops": record.flops.model_copy(update={"operators": rows}),
        }
    )
    reasons = list(above_peak(on_l4))
    assert len(reasons) == (0 if believed else 1)
    assert all("float32 are more than the device can do" in reason for reason in reasons)
    assert not list(above_peak(record))
