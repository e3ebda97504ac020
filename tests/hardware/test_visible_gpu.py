"""Which GPU a run gets, by what CUDA_VISIBLE_DEVICES says."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from fake_nvml import FakeNvml

ALIKE = (
    "device\nuuid GPU-bbbb0000-1\nbus 00000000:81:00.0\n"
    "device\nuuid GPU-aaaa0000-2\nbus 00000000:07:00.0\nmig MIG-11\nmig MIG-22\n"
    "device\nuuid GPU-aabb0000-3\nbus 00000000:41:00.0"
)
MIXED = ALIKE + "\nname NVIDIA OTHER-50"
LOOK = """
import sys
from kit.errors import KitError
from kit.hardware.machine import choose_device, describe, visible_gpu, visible_gpus
count = int(sys.argv[1])
try:
    if count == 1: print(choose_device("auto"), visible_gpu())
    else: print(*visible_gpus(count)); print(describe("cuda", ranks=count).model_dump_json())
except KitError as error: print("KitError:", error)
"""

Choose = Callable[..., str]


@pytest.fixture
def choose(fake_nvml: Callable[[str], FakeNvml]) -> Choose:
    def chosen(script: str, visible: str | None, order: str | None = None, count: int = 1) -> str:
        environment = fake_nvml(script).environment
        for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(count)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return chosen


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [
        (None, "GPU-aaaa0000-2"),
        ("0", "GPU-aaaa0000-2"),
        ("2", "GPU-bbbb0000-1"),
        ("1,0", "GPU-aabb0000-3"),
        (" 1 , 0", "GPU-aabb0000-3"),
        ("GPU-bbbb0000-1", "GPU-bbbb0000-1"),
        ("GPU-b", "GPU-bbbb0000-1"),
        ("GPU-aab,GPU-aaa", "GPU-aabb0000-3"),
        ("MIG-22", "MIG-22"),
    ],
)
def test_the_first_visible_gpu_is_named_by_uuid(choose: Choose, visible: str | None, uuid: str) -> None:
    assert choose(ALIKE, visible) == f"cuda {uuid}"


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_hidden_gpus_are_not_used(choose: Choose, visible: str) -> None:
    assert choose(ALIKE, visible) == "cpu None"


def test_gpus_that_differ_are_counted_by_bus_where_cuda_does(choose: Choose) -> None:
    assert choose(MIXED, "2", "PCI_BUS_ID") == "cuda GPU-bbbb0000-1"
    assert choose(MIXED, None, "PCI_BUS_ID") == "cuda GPU-aaaa0000-2"
    assert choose(MIXED, "GPU-bbbb") == "cuda GPU-bbbb0000-1"


@pytest.mark.parametrize("visible", [None, "1"])
def test_an_index_that_could_mean_two_gpus_is_refused(choose: Choose, visible: str | None) -> None:
    said = choose(MIXED, visible)
    assert said.startswith("KitError: this machine has different GPUs (NVIDIA FAKE-100, NVIDIA OTHER-50)")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in said


@pytest.mark.parametrize(
    ("visible", "problem"),
    [
        ("3", "CUDA_VISIBLE_DEVICES=3: this machine has 3 GPUs"),
        ("GPU-a", "CUDA_VISIBLE_DEVICES=GPU-a means 2 of this machine's GPUs"),
        ("GPU-c", "CUDA_VISIBLE_DEVICES=GPU-c means 0 of this machine's GPUs"),
        ("MIG-33", "CUDA_VISIBLE_DEVICES=MIG-33: there is no such MIG instance"),
    ],
)
def test_a_name_that_is_not_there_is_refused(choose: Choose, visible: str, problem: str) -> None:
    assert problem in choose(ALIKE, visible)


def test_a_driver_without_gpus_means_the_cpu(choose: Choose) -> None:
    assert choose("driver 1", None) == "cpu None"


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, "GPU-aaaa0000-2 GPU-aabb0000-3"),
        ("2,0,1", "GPU-bbbb0000-1 GPU-aaaa0000-2"),
        ("GPU-bbbb,1", "GPU-bbbb0000-1 GPU-aabb0000-3"),
    ],
)
def test_ranks_get_a_gpu_each(choose: Choose, visible: str | None, uuids: str) -> None:
    found, described = choose(ALIKE, visible, count=2).splitlines()
    assert found == uuids
    device = json.loads(described)
    assert (device["count"], device["ranks"]) == (2, 2)
    assert device["uuid_hash"] == hashlib.sha256(uuids.replace(" ", ",").encode()).hexdigest()


@pytest.mark.parametrize(("visible", "found"), [("0", 1), ("0,-1,1", 1), ("", 0)])
def test_more_ranks_than_gpus_are_refused(choose: Choose, visible: str, found: int) -> None:
    said = choose(ALIKE, visible, count=2)
    assert said == f"KitError: device.count=2: expected as many visible GPUs, found {found}; give a smaller count"


def test_ranks_on_gpus_that_differ_are_refused(choose: Choose) -> None:
    said = choose(MIXED, "GPU-bbbb,GPU-aabb", count=2)
    assert "expected GPUs that are alike, got NVIDIA FAKE-100 and NVIDIA OTHER-50" in said
