"""The fake NVML does what its script says, seen through the real binding in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from fake_nvml import FakeNvml

Make = Callable[[str], FakeNvml]

LOOK = """
import json, pynvml as n
n.nvmlInit()
def ask(function, *arguments):
    try:
        return function(*arguments)
    except n.NVMLError as error:
        return f"error {error.value}"
devices = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
"""


def seen(fake: FakeNvml, expression: str) -> Any:
    """What an expression over `devices` comes to in a process that has the fake."""
    source = f"{LOOK}\nprint(json.dumps({expression}))"
    done = subprocess.run(
        [sys.executable, "-c", source], env=fake.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counters(fake: FakeNvml, *times: float) -> list[float]:
    """Joules on the counter of device 0 at times of a virtual clock."""
    text = fake.text
    joules = []
    for time in times:
        fake.rewrite(f"now {time}\n{text}")
        joules.append(seen(fake, "ask(n.nvmlDeviceGetTotalEnergyConsumption, devices[0])") / 1e3)
    return joules


@pytest.mark.parametrize(
    ("curve", "joules"),
    [
        ("constant 250", 2500),
        ("square 100 300 0.5", 2000),
        ("square 100 300 0.5 0.25", 1500),
        ("ramp 0 100 5", 250 + 500),
    ],
)
def test_the_counter_integrates_the_power_of_the_script(fake_nvml: Make, curve: str, joules: float) -> None:
    fake = fake_nvml(f"device\ncounter_start 0\npower 0 {curve}")
    assert counters(fake, 10.05) == [pytest.approx(joules, abs=0.002)]
    assert fake.true_j(0, 10) == pytest.approx(joules, abs=1e-6)


def test_noise_has_the_mean_and_the_spread_of_the_script(fake_nvml: Make) -> None:
    fake = fake_nvml("device\npower 0 noise 200 60 0.01 3")
    powers = [fake.true_j(i / 100, (i + 1) / 100) * 100 for i in range(2000)]
    assert all(140 <= power <= 260 for power in powers)
    assert sum(powers) / 2000 == pytest.approx(200, abs=5 * 60 / (3 * 2000) ** 0.5)
    assert (sum((power - 200) ** 2 for power in powers) / 2000) ** 0.5 == pytest.approx(60 / 3**0.5, rel=0.1)
    assert counters(fake, 20) == [pytest.approx(5e6 + fake.true_j(0, 20), abs=0.01)]


def test_power_changes_where_the_script_says(fake_nvml: Make) -> None:
    fake = fake_nvml("device\npower 0 constant 50")
    fake.add("power 2 constant 300", "power 5 constant 50")
    assert fake.true_j(0, 10) == pytest.approx(2 * 50 + 3 * 300 + 5 * 50)


def test_the_counter_moves_only_at_its_updates(fake_nvml: Make) -> None:
    fake = fake_nvml("device\ncounter_start 0\ncounter_period 0.1\ncounter_phase 0.03\npower 0 constant 100")
    assert counters(fake, 1.029, 1.031, 1.129) == pytest.approx([93, 103, 103])


def test_a_counter_can_lie_stand_still_and_start_again(fake_nvml: Make) -> None:
    power = "device\ncounter_start 0\npower 0 constant 100"
    assert counters(fake_nvml(f"{power}\ncounter_gain 1.1"), 2.001) == pytest.approx([220])
    assert counters(fake_nvml(f"{power}\ncounter_gain 1.1 1"), 2.001) == pytest.approx([210])
    assert counters(fake_nvml(f"{power}\ncounter_stall 1 2"), 1.5, 2.5) == pytest.approx([100, 250])
    assert counters(fake_nvml(f"{power}\ncounter_stall 1 2 lost"), 1.5, 2.5) == pytest.approx([100, 150])
    assert counters(fake_nvml(f"{power}\ncounter_reset 1"), 0.95, 1.5) == pytest.approx([90, 50])


def test_a_counter_that_looks_at_a_part_of_each_period_can_miss_what_happens_in_the_rest(fake_nvml: Make) -> None:
    wave = "device\ncounter_start 0\npower 0 square 0 200 0.1"
    assert counters(fake_nvml(f"{wave}\ncounter_window 0.025"), 10.05)[0] == pytest.approx(0, abs=0.01)
    assert counters(fake_nvml(wave), 10.05) == pytest.approx([1000])


def test_instant_and_average_power_differ_in_what_they_average(fake_nvml: Make) -> None:
    fake = fake_nvml("now 10.15\ndevice\npower 0 constant 100\npower 10 constant 300")
    look = "[n.nvmlDeviceGetFieldValues(devices[0], [(f, 0)])[0].value.uiVal for f in (186, 185)]"
    assert seen(fake, f"{look} + [n.nvmlDeviceGetPowerUsage(devices[0])]") == [300_000, 120_000, 120_000]


@pytest.mark.parametrize(("scope", "statuses"), [("gpu", [0, 3]), ("module", [3, 0]), ("none", [3, 3])])
def test_the_field_for_instant_power_has_one_scope(fake_nvml: Make, scope: str, statuses: list[int]) -> None:
    fake = fake_nvml(f"device\ninstant {scope}\npower 0 constant 100")
    look = "[n.nvmlDeviceGetFieldValues(devices[0], [(186, scope)])[0].nvmlReturn for scope in (0, 1)]"
    assert seen(fake, look) == statuses


def test_devices_come_in_the_order_of_the_script_and_are_found_by_uuid(fake_nvml: Make) -> None:
    fake = fake_nvml(
        "arch 8\ndevice\nuuid GPU-b\nbus 00000000:81:00.0\nname Second Card\ndevice\nuuid GPU-a\nbus 00000000:07:00.0"
    )
    look = "[[n.nvmlDeviceGetUUID(d), n.nvmlDeviceGetName(d), n.nvmlDeviceGetPciInfo(d).bus] for d in devices]"
    assert seen(fake, look) == [["GPU-b", "Second Card", 0x81], ["GPU-a", "NVIDIA FAKE-100", 0x07]]
    assert seen(fake, "n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID('GPU-a'))") == 1
    assert seen(fake, "ask(n.nvmlDeviceGetHandleByUUID, 'GPU-c')") == "error 6"


ENERGY = "ask(n.nvmlDeviceGetTotalEnergyConsumption, devices[0])"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("device\narch 4", 3),
        ("device\nvirtual 1", 3),
        ("device\nfail nvmlDeviceGetTotalEnergyConsumption 4", 4),
        ("device\nlost 0", 15),
    ],
)
def test_a_counter_can_be_refused(fake_nvml: Make, script: str, error: int) -> None:
    assert seen(fake_nvml(f"{script}\npower 0 constant 100"), ENERGY) == f"error {error}"


def test_a_failure_can_end(fake_nvml: Make) -> None:
    script = "device\nfail nvmlDeviceGetTotalEnergyConsumption 999 1 2\npower 0 constant 100"
    fake = fake_nvml(f"now 1.5\n{script}")
    assert seen(fake, ENERGY) == "error 999"
    fake.rewrite(f"now 2.5\n{script}")
    assert seen(fake, ENERGY) == 5_000_250_000


def test_mig_instances_have_no_energy_of_their_own(fake_nvml: Make) -> None:
    fake = fake_nvml("device\nmig MIG-1\nmig MIG-2\npower 0 constant 100")
    assert seen(fake, "n.nvmlDeviceGetMigMode(devices[0])") == [1, 1]
    instance = "n.nvmlDeviceGetHandleByUUID('MIG-2')"
    assert seen(fake, f"ask(n.nvmlDeviceGetTotalEnergyConsumption, {instance})") == "error 3"
    parent = f"n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle({instance})"
    assert seen(fake, f"n.nvmlDeviceGetUUID({parent})") == "GPU-fa4e0000-0000-4000-8000-000000000000"


def test_processes_memory_and_throttling_follow_the_script(fake_nvml: Make) -> None:
    fake = fake_nvml(
        "now 3\ndevice\nprocess 11 1000\nprocess 12 - 2\nprocess 13 5 4\ngraphics 14 7\nmemory 100 40\n"
        "throttle thermal 1 2.5\nthrottle power 2.5\ntemperature 40\ntemperature 60 2"
    )
    processes = "[[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(devices[0])]"
    assert seen(fake, processes) == [[11, 1000], [12, None]]
    assert seen(fake, "[p.pid for p in n.nvmlDeviceGetGraphicsRunningProcesses(devices[0])]") == [14]
    assert seen(fake, "n.nvmlDeviceGetMemoryInfo(devices[0]).free") == 60
    violations = "[n.nvmlDeviceGetViolationStatus(devices[0], policy).violationTime for policy in (0, 1)]"
    assert seen(fake, violations) == [500_000_000, 1_500_000_000]
    assert seen(fake, "n.nvmlDeviceGetCurrentClocksEventReasons(devices[0])") == 4
    assert seen(fake, "n.nvmlDeviceGetTemperatureV(devices[0], 0)") == 60


def test_without_a_script_there_is_no_driver(fake_nvml: Make) -> None:
    environment = fake_nvml("").environment
    del environment["FAKE_NVML"]
    source = "import pynvml\ntry: pynvml.nvmlInit()\nexcept pynvml.NVMLError as error: print(error.value)"
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["9"]


def test_a_script_that_makes_no_sense_is_refused(fake_nvml: Make) -> None:
    fake = fake_nvml("device\npower 0 sawtooth 1 2 3")
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=fake.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "'sawtooth' is not a power curve" in done.stderr
