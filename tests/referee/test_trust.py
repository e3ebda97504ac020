"""What a submission cannot move, and cannot reach."""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from support import RIGHT_ANSWERS, SETUP_NOTHING, Finished


def test_patched_clocks_change_nothing_in_the_record(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        SETUP_NOTHING
        + RIGHT_ANSWERS
        + """
import time
real = time.monotonic
for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"):
    setattr(time, name, lambda *_: 0)
torch.cuda.Event = type("Event", (), {"elapsed_time": lambda *_: 0.0, "record": lambda *_: None})
torch.cuda.synchronize = lambda *_: None
import kit.protocol
kit.protocol.monotonic_ns = lambda: 0

def train(run, state):
    start = real()
    while real() - start < 0.4:
        pass
    run.evaluate(lambda images: answers())
"""
    )
    start = monotonic()
    record = kit_run(f"submission={submission(source)}", "loader=torch", "count_flops=false").record
    outside_s = monotonic() - start
    assert record["outcome"] == "reached"
    assert 0.4 < record["time"]["to_target_s"] < outside_s


LOOK = """
import gc, json, os, sys
import numpy as np
import torch

def setup(run):
    return None

def train(run, state):
    found = {"args": sys.argv, "environment": dict(os.environ), "arrays": [], "files": [], "strings": []}
    images, labels = run.arrays("test")
    found["labels"] = labels is not None
    for thing in gc.get_objects():
        found_array = isinstance(thing, (np.ndarray, torch.Tensor))
        if found_array and thing.ndim == 1 and len(thing) == 797:
            found["arrays"].append(np.asarray(thing).tolist())
    folder = run_data_descriptor()
    for name in sorted(os.listdir(folder)):
        array = np.load(os.path.join(folder, name))
        found["files"].append([name, list(array.shape)])
        if array.ndim == 1:
            found["arrays"].append(array.tolist())
    found["cmdline"] = open("/proc/self/cmdline").read()
    found["run"] = sorted(name for name in vars(run))
    print("FOUND" + json.dumps(found))

def run_data_descriptor():
    for number in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{number}"
        if os.path.isdir(path) and os.path.exists(path + "/train_images.npy"):
            return path
    raise AssertionError("no descriptor")
"""


def test_the_test_labels_are_not_in_the_trainers_memory_arguments_environment_or_folder(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], data_dir: Path
) -> None:
    from kit.data.sources.digits import load

    done = kit_run(f"submission={submission(LOOK)}", "loader=torch", "count_flops=false")
    line = next(line for line in (done.run_dir / "output.log").read_text().splitlines() if line.startswith("FOUND"))
    found = json.loads(line.removeprefix("FOUND"))
    assert found["labels"] is False
    assert found["files"] == [
        ["test_images.npy", [797, 1, 8, 8]],
        ["train_images.npy", [1000, 1, 8, 8]],
        ["train_labels.npy", [1000]],
    ]
    assert load().test_labels.tolist() not in found["arrays"]
    for place in ("args", "environment", "cmdline", "run"):
        assert str(data_dir) not in json.dumps(found[place])


def test_the_data_descriptor_leads_nowhere_else_where_the_record_says_so(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = (
        SETUP_NOTHING
        + """
import os

def train(run, state):
    folder = next(
        number for number in map(int, os.listdir("/proc/self/fd"))
        if os.path.exists(f"/proc/self/fd/{number}/train_images.npy")
    )
    print("UP", sorted(os.listdir(os.open("..", os.O_RDONLY, dir_fd=folder))))
    print("AROUND", os.path.exists(f"/proc/self/fd/{folder}/../private"))
    for attempt in (
        lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=folder),
        lambda: os.unlink("train_labels.npy", dir_fd=folder),
        lambda: os.chmod(f"/proc/self/fd/{folder}/train_labels.npy", 0o777),
    ):
        try:
            attempt()
            print("CHANGED")
        except OSError as error:
            print("REFUSED", error.strerror)
"""
    )
    done = kit_run(f"submission={submission(source)}", "loader=torch", "count_flops=false")
    log = (done.run_dir / "output.log").read_text()
    if "data_mounted_read_only" not in done.record["isolation"]["defences"]:
        pytest.skip("this kernel, or this user, may not make a detached mount")
    assert "UP ['test_images.npy', 'train_images.npy', 'train_labels.npy']" in log
    assert "AROUND False" in log
    assert "CHANGED" not in log
    assert log.count("REFUSED Read-only file system") == 3


def test_the_trainers_environment_is_made_from_nothing(
    submission: Callable[..., Path], kit_run: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "do-not-tell")
    source = SETUP_NOTHING + "import os\ndef train(run, state):\n    print(sorted(os.environ.items()))\n"
    done = kit_run(f"submission={submission(source)}", "loader=torch")
    assert "do-not-tell" not in (done.run_dir / "output.log").read_text()


def test_setup_gets_stand_ins_of_the_right_shape_and_no_data(
    submission: Callable[..., Path], kit_run: Callable[..., Finished]
) -> None:
    source = """
    def setup(run):
        images, labels = run.sample(7)
        assert images.shape == (7, 1, 8, 8) and str(images.dtype) == "torch.float32"
        assert labels.shape == (7,) and str(labels.dtype) == "torch.int64"
        assert 0 <= int(labels.min()) and int(labels.max()) < 10
        return "state"

    def train(run, state):
        assert state == "state"
        images, labels = run.arrays("train")
        assert images.shape == (1000, 1, 8, 8) and str(images.dtype) == "torch.uint8"
        assert labels.shape == (1000,)
        print("all well")
    """
    done = kit_run(f"submission={submission(source)}", "loader=torch")
    assert "all well" in (done.run_dir / "output.log").read_text(), done.record["reason"]
