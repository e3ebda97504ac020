"""Which GPU a run gets, by what CUDA_VISIBLE_DEVICES says."""

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
from kit.errors import KitError
from kit.hardware.machine import choose_device, visible_gpu
try: print(choose_device("auto"), visible_gpu())
except KitError as error: print("KitError:", error)
"""

Choose = Callable[..., str]


@pytest.fixture
def choose(fake_nvml: Callable[[str], FakeNvml]) -> Choose:
    def chosen(script: str, visible: str | None, order: str | None = None) -> str:
        environment = fake_nvml(script).environment
        for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        done = subprocess.run(
            [sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=False
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
