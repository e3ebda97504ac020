"""The GPU, through the real binding, on a fake NVML."""

from collections.abc import Callable

import pytest
from fake_nvml import FakeNvml

from kit.doctor.apart import apart
from kit.doctor.finding import Finding

WHOLE = "device\nname NVIDIA A-100\npower 0 constant 100\ntemperature 41\nclock_sm 1980\nclock_memory 2619"


@pytest.fixture
def look(fake_nvml: Callable[[str], FakeNvml], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """What the doctor finds on a scripted machine, by row."""

    def looked(script: str, visible: str | None = None) -> dict[str, Finding]:
        for name, value in fake_nvml(script).environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return {finding.name: finding for finding in apart("kit.doctor.gpu", "gpu", 60)}

    return looked


Look = Callable[..., dict[str, Finding]]


def test_a_gpu_that_has_everything(look: Look) -> None:
    found = look(WHOLE)
    assert {name: finding.status for name, finding in found.items()} == dict.fromkeys(found, "ok")
    assert len(found) == 10
    assert "NVIDIA A-100, driver " in found["gpu"].found
    assert found["gpu power limit"].found == "400 W, the default"
    assert found["gpu clocks"].found == "1980 MHz, memory 2619 MHz"
    assert found["gpu temperature"].found == "41 °C"
    assert found["gpu instant power"].found == "100 W, of the GPU"
    assert found["gpu energy"].found.startswith("the counter moves")


def test_instant_power_of_the_module_alone_is_told_as_such(look: Look) -> None:
    assert look(f"{WHOLE}\ninstant module")["gpu instant power"].found == "100 W, of the module"


def test_mig_is_a_warning_that_names_the_command(look: Look) -> None:
    found = look(f"{WHOLE}\nmig MIG-1")
    assert found["gpu mig"].status == "warning"
    assert found["gpu mig"].advice is not None
    assert "nvidia-smi -mig 0" in found["gpu mig"].advice


def test_a_mig_instance_has_no_energy_of_its_own(look: Look) -> None:
    found = look(f"{WHOLE}\nmig MIG-1", visible="MIG-1")
    assert found["gpu mig"].status == "warning"
    assert found["gpu energy"].status == "missing"


def test_a_reading_that_is_not_permitted_does_not_take_others_with_it(look: Look) -> None:
    refused = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetViolationStatus"
    found = look("\n".join([WHOLE, *(f"fail {name} 4" for name in refused)]))
    assert {name for name, finding in found.items() if finding.status != "ok"} == {"gpu energy", "gpu throttling"}
    assert found["gpu energy"].found == "NVML: Insufficient Permissions"
    assert found["gpu energy"].advice == "ask the administrator for the right to read it"


def test_before_volta_there_is_no_counter(look: Look) -> None:
    found = look(f"{WHOLE}\narch 4")
    assert found["gpu"].status == "ok"
    assert found["gpu energy"].status == "missing"
    assert found["gpu instant power"].status == "missing"
    assert found["gpu mig"].found == "this GPU cannot be divided"


def test_processes_of_others_are_listed(look: Look) -> None:
    found = look(f"{WHOLE}\nprocess 99999998 1000\ngraphics 99999999 7")
    assert found["gpu processes"].status == "warning"
    assert found["gpu processes"].found == "99999998, 99999999"


def test_a_changed_power_limit_is_a_warning(look: Look) -> None:
    found = look(f"{WHOLE}\nlimit 250\ndefault_limit 350")
    assert (found["gpu power limit"].status, found["gpu power limit"].found) == (
        "warning",
        "250 W, the default is 350 W",
    )
    assert "nvidia-smi -pl 350" in (found["gpu power limit"].advice or "")


def test_a_counter_that_stands_still_is_a_warning(look: Look) -> None:
    assert look(f"{WHOLE}\ncounter_stall 0 1e9")["gpu energy"].status == "warning"


def test_a_lost_gpu_says_so_in_every_row(look: Look) -> None:
    found = look(f"{WHOLE}\nlost 0")
    assert {finding.status for finding in found.values()} == {"missing"}
    assert all("GPU is lost" in finding.found for finding in found.values())
    assert "restart the machine" in (found["gpu"].advice or "")


def test_a_driver_that_is_not_loaded_is_one_row(look: Look) -> None:
    found = look("fail nvmlInitWithFlags 9\ndevice")
    assert list(found) == ["gpu"]
    assert "modprobe nvidia" in (found["gpu"].advice or "")


def test_a_driver_without_a_gpu_is_one_row(look: Look) -> None:
    found = look("cuda 13000")
    assert (list(found), found["gpu"].status) == (["gpu"], "missing")
    assert found["gpu"].found == "NVIDIA's driver lists no GPU"


def test_the_gpu_is_the_one_that_a_run_would_get(look: Look) -> None:
    found = look("device\nname Twin\ndevice\nname Twin\npower 0 constant 5", visible="1,0")
    assert found["gpu"].found.startswith("Twin, number 1 of 2 counted from 0")
    found = look(WHOLE, visible="7")
    assert list(found) == ["gpu"]
    assert "CUDA_VISIBLE_DEVICES=7: this machine has 1 GPUs" in found["gpu"].found
