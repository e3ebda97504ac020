"""The referee with a GPU's meters: the trainer runs on the CPU, the fake GPU draws what a script says."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FakeNvml
from scenario import UUID
from support import ROOT, SETUP_NOTHING

from kit.results.store import read_record

IDLE = "device\npower 0 constant 70"
REFEREE = """
import sys
from pathlib import Path
from kit.catalog import load_track
from kit.data.preparation import prepare
from kit.data.sources import Request
from kit.meters.meters import Meters
from kit.referee.run import Plan, run
from kit.results.record import SubmissionInfo
from kit.results.source import source_sha256
from kit.submission import manifest

folder, results, data = map(Path, sys.argv[1:4])
track = load_track("digits")
submission = SubmissionInfo(
    name="made", authors=("a test",), date="2026-11-24", base=None,
    source_sha256=source_sha256(folder), config={},
)
plan = Plan(
    track=track, submission=submission, submission_dir=folder, seed=0, device="cpu", loader="torch",
    isolation="process", count_flops=False, count_fully_below_s=0, max_steps=None,
    allow_busy_device=False, results_dir=results, cost=None,
)
_, path = run(plan, prepare(track, data, Request()), meters=Meters.of([sys.argv[4]], allow_busy=False))
print(path)
"""
WORK = SETUP_NOTHING + (
    """
def train(run, nothing):
    import time
    end = time.monotonic() + {seconds}
    steps = 0
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while time.monotonic() < end:
        time.sleep(0.01)
        optimizer.step()
    run.evaluate(lambda images: torch.zeros(len(images), 10))
"""
)

Refereed = Callable[[str, str], tuple[Path, Any]]


@pytest.fixture
def refereed(
    fake_nvml: Callable[[str], FakeNvml], submission: Callable[..., Path], tmp_path: Path, data_dir: Path
) -> Refereed:
    def run(script: str, source: str) -> tuple[Path, Any]:
        folder = submission(source)
        command = [sys.executable, "-c", REFEREE, str(folder), str(tmp_path / "results"), str(data_dir), UUID]
        done = subprocess.run(
            command, cwd=ROOT, env=fake_nvml(script).environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        path = Path(done.stdout.strip())
        return path, read_record(path)

    return run


def test_a_run_records_energy_conditions_and_a_trace(refereed: Refereed) -> None:
    path, record = refereed(f"{IDLE}\npower 1 constant 250", WORK.format(seconds=1.5))
    assert record.energy.method == "nvml_total_energy"
    assert record.energy.device_j == pytest.approx(250 * record.time.total_s, rel=0.03)
    assert record.energy.sampled_j == pytest.approx(250 * record.time.total_s, rel=0.03)
    assert record.conditions.temperature_start_c == 45
    assert record.memory.device_peak_bytes is None
    assert record.memory.device_unavailable_because == "NVML listed none of the trainer's processes"
    assert record.memory.host_peak_bytes > 1 << 20
    assert record.trace.file == "trace.parquet"
    assert (path.parent / record.trace.file).is_file()
    events = [json.loads(line) for line in (path.parent / "events.jsonl").read_text().splitlines()]
    (verdict,) = [event for event in events if event["type"] == "evaluated"]
    assert 0 < verdict["device_j"] <= record.energy.device_j


def test_a_device_lost_in_the_run_leaves_the_record_of_its_time(refereed: Refereed) -> None:
    # Idle power takes 2 s, launching a trainer no less than one, and then the GPU rests for 1 s: it is lost in the run.
    source = WORK.format(seconds=12)
    _, record = refereed(f"{IDLE}\nlost 14", source)
    assert record.outcome == "missed"
    assert record.time.total_s > 12
    assert record.energy.device_j is None
    assert "the GPU is lost" in record.energy.unavailable_because
    assert "device_lost" in record.energy.flags


def test_a_setup_that_fails_leaves_no_energy_and_the_reason(refereed: Refereed) -> None:
    source = "def setup(run): raise ValueError('no')\ndef train(run, nothing): pass"
    _, record = refereed(IDLE, source)
    assert record.outcome == "crashed"
    assert record.energy.unavailable_because == "the clock never started"
    assert record.trace is None


def test_a_busy_gpu_is_refused_before_anything_is_written(
    fake_nvml: Callable[[str], FakeNvml], kit_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    fake = fake_nvml(f"{IDLE}\nprocess 4194305 2000000000")
    done = subprocess.run(
        kit_command("device=cuda"), cwd=ROOT, env=fake.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"kit: {UUID} is in use by 4194305 (name not known, 2,000 MB)" in done.stderr
    assert not (tmp_path / "results").exists()


def test_the_trainer_is_given_the_uuid_and_a_busy_gpu_where_that_is_allowed(
    fake_nvml: Callable[[str], FakeNvml],
    kit_command: Callable[..., list[str]],
    submission: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder = submission(
        "import os\ndef setup(run): raise ValueError(os.environ['CUDA_VISIBLE_DEVICES'])\ndef train(run, model): pass"
    )
    fake = fake_nvml(f"{IDLE}\nprocess 4194305 2000000000\ndevice\nuuid GPU-second\nbus 00000000:00:00.0")
    environment = fake.environment | {"CUDA_VISIBLE_DEVICES": "1"}
    command = kit_command("device=cuda", f"submission={folder}", "allow_busy_device=true")
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    (path,) = (tmp_path / "results").glob("2*/record.json")
    record = read_record(path)
    assert record.outcome == "crashed"
    assert UUID in (record.reason or "")
    assert record.device.name == "NVIDIA FAKE-100"
    assert record.energy.unavailable_because == "the clock never started"
