"""All meters together, by real clocks, through the real binding, on a scripted GPU of known energy."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from fake_nvml import FakeNvml
from scenario import UUID, request

IDLE = "device\npower 0 constant 70"
FIRST = "device\nuuid GPU-0\npower 0 constant 120"
SECOND = "device\nuuid GPU-1\npower 0 constant 70"
WAVE = "square 200 300 0.037"

SCENARIOS: dict[str, dict[str, Any]] = {
    "constant": {},
    "wave": {"load": WAVE},
    "slow calls": {"script": f"latency 0.002\n{IDLE}", "load": WAVE},
    "module": {"script": f"{IDLE}\ninstant module"},
    "before Ampere": {"script": f"{IDLE}\narch 6"},
    "no counter": {"script": f"{IDLE}\nfail nvmlDeviceGetTotalEnergyConsumption 4"},
    "no power": {"script": f"{IDLE}\ninstant none"},
    "before Volta": {"script": f"{IDLE}\narch 4"},
    "MIG": {"script": f"{IDLE}\nmig MIG-1"},
    "MIG instance": {"script": f"{IDLE}\nmig MIG-1", "uuid": "MIG-1"},
    "virtual": {"script": f"{IDLE}\nvirtual 1"},
    "reset": {"events": [["counter_reset {0}", 1.0]]},
    "stall": {"events": [["counter_stall {0} {1} lost", 0.5, 1.2]]},
    "lost": {"events": [["lost {0}", 1.0]]},
    "liar": {"window_s": 3.0, "script": f"{IDLE}\ncounter_gain 1.1"},
    "aliased": {"load": "square 150 450 0.1", "step_s": 0.1},
    "throttled": {"events": [["throttle thermal {0} {1}", 0.5, 1.0], ["temperature 83 {0}", 1.0]]},
    "guest": {"events": [["process 4194305 2000000000 {0} {1}", 0.2, 1.8]]},
    "busy": {"script": f"{IDLE}\nprocess 4194305 2000000000"},
    "busy but allowed": {"script": f"{IDLE}\nprocess 4194305 2000000000", "allow_busy": True},
    "own memory": {"script": f"{IDLE}\nprocess SELF 3000000000 0 2.5\nprocess SELF 1000000000 2.5"},
    "memory not said": {"script": f"{IDLE}\nprocess SELF -"},
    "early": {"unrest": "constant 300"},
    "late": {"rest": "constant 300"},
    "two GPUs": {
        "script": f"{FIRST}\ntemperature 60\nclock_sm 1000\n{SECOND}\ntemperature 50",
        "uuids": ["GPU-0", "GPU-1"],
    },
    "two GPUs, one without": {"script": f"{FIRST}\narch 4\n{SECOND}", "uuids": ["GPU-0", "GPU-1"]},
    "two GPUs, one busy": {"script": f"{FIRST}\n{SECOND}\nprocess 4194305 2000000000", "uuids": ["GPU-0", "GPU-1"]},
    "ours in a container": {"script": f"{IDLE}\nprocess 4194305 2000000000 3"},
}
AT_ONCE = 8


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory, fake_nvml_library: Path
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Every scenario is mostly waiting: they are played side by side."""
    waiting, running = list(SCENARIOS.items()), dict[str, subprocess.Popen[str]]()
    done: dict[str, subprocess.CompletedProcess[str]] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name, wanted = waiting.pop(0)
            wanted = dict[str, Any](window_s=2.0, load="constant 300") | wanted
            folder = tmp_path_factory.mktemp("played")
            fake = FakeNvml(fake_nvml_library, folder / "nvml.script", wanted.pop("script", IDLE))
            command = request(fake, folder, **wanted)
            running[name] = subprocess.Popen(
                command, env=fake.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        name, process = next(iter(running.items()))
        out, errors = process.communicate()
        done[name] = subprocess.CompletedProcess(process.args, process.returncode, out, errors)
        del running[name]
    return done


@pytest.fixture
def played(outcomes: dict[str, subprocess.CompletedProcess[str]]) -> Callable[[str], dict[str, Any]]:
    def result(name: str) -> dict[str, Any]:
        done = outcomes[name]
        assert done.returncode == 0, done.stderr
        content: dict[str, Any] = json.loads(done.stdout)
        return content

    return result


Played = Callable[[str], dict[str, Any]]


@pytest.mark.parametrize("name", ["constant", "wave", "slow calls", "module", "before Ampere"])
def test_counter_and_samples_tell_the_true_energy(played: Played, name: str) -> None:
    result = played(name)
    energy = result["energy"]
    assert energy["method"] == "nvml_total_energy"
    assert energy["device_j"] == pytest.approx(result["true_j"], rel=0.03)
    assert energy["sampled_j"] == pytest.approx(result["true_j"], rel=0.06)
    assert abs(energy["device_j"] - result["true_j"]) < energy["uncertainty_j"]
    assert energy["idle_w"] == pytest.approx(70, rel=0.05)
    assert energy["update_period_s"] == pytest.approx(0.1, rel=0.2)
    assert energy["power_scope"] == ("module" if name == "module" else "gpu")
    assert energy["flags"] == []


@pytest.mark.parametrize(
    ("name", "because", "flags"),
    [
        ("no counter", "no permission", []),
        ("reset", "ran backwards", ["counter_backwards"]),
        ("stall", "stood still", ["counter_stalled"]),
    ],
)
def test_a_bad_counter_is_replaced_by_samples(played: Played, name: str, because: str, flags: list[str]) -> None:
    result = played(name)
    energy = result["energy"]
    assert energy["method"] == "nvml_instant_power"
    assert energy["device_j"] == pytest.approx(result["true_j"], rel=0.06)
    assert because in energy["counter_unavailable_because"]
    assert energy["flags"] == flags


def test_average_power_never_stands_in_for_instant_power(played: Played) -> None:
    energy = played("no power")["energy"]
    assert energy["method"] == "nvml_total_energy"
    assert energy["sampled_j"] is None
    assert "does not support it" in energy["sampled_unavailable_because"]
    assert energy["power_scope"] is None


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("before Volta", "before Volta"),
        ("MIG", "MIG is on"),
        ("MIG instance", "not for an instance"),
        ("virtual", "a virtual GPU"),
        ("lost", "the GPU is lost"),
    ],
)
def test_energy_that_cannot_be_had_is_absent_with_its_reason(played: Played, name: str, because: str) -> None:
    energy = played(name)["energy"]
    assert energy["device_j"] is None
    assert energy["method"] is None
    assert energy["uncertainty_j"] is None
    assert because in energy["unavailable_because"]


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("lost", "device_lost"),
        ("liar", "inconsistent"),
        ("aliased", "aliased"),
        ("throttled", "throttled"),
        ("guest", "foreign_process"),
        ("busy but allowed", "foreign_process"),
        ("early", "work_before_go"),
        ("late", "work_after_stop"),
    ],
)
def test_what_speaks_against_an_energy_is_flagged(played: Played, name: str, flag: str) -> None:
    assert flag in played(name)["energy"]["flags"]


def test_a_busy_gpu_refuses_the_run_and_names_who_is_there(
    outcomes: dict[str, subprocess.CompletedProcess[str]],
) -> None:
    assert outcomes["busy"].returncode != 0
    assert f"KitError: {UUID} is in use by 4194305" in outcomes["busy"].stderr
    assert "allow_busy_device=true" in outcomes["busy"].stderr


def test_throttling_and_temperature_are_recorded(played: Played) -> None:
    conditions = played("throttled")["conditions"]
    assert conditions["throttled_heat_s"] == pytest.approx(0.5, abs=0.05)
    assert conditions["throttled_power_s"] == pytest.approx(0)
    assert (conditions["temperature_start_c"], conditions["temperature_end_c"]) == (45, 83)
    assert conditions["clock_sm_mean_mhz"] == pytest.approx(1410)


def test_a_foreign_process_is_recorded_with_its_time_and_memory(played: Played) -> None:
    (guest,) = played("guest")["conditions"]["foreign_processes"]
    assert guest["pid"] == 4194305
    assert guest["peak_bytes"] == 2_000_000_000
    assert 0 < guest["first_seen_s"] <= guest["last_seen_s"] < 2


def test_the_trainers_peak_of_device_memory_is_seen(played: Played) -> None:
    result = played("own memory")
    assert result["memory"]["device_peak_bytes"] == 3_000_000_000
    assert result["memory"]["device_unavailable_because"] is None
    assert result["conditions"]["foreign_processes"] == []


def test_memory_that_is_not_said_is_absent_with_the_reason(played: Played) -> None:
    memory = played("memory not said")["memory"]
    assert memory["device_peak_bytes"] is None
    assert "does not say how much memory" in memory["device_unavailable_because"]


def test_an_id_that_comes_in_setup_and_does_not_exist_here_is_taken_for_the_trainer(played: Played) -> None:
    result = played("ours in a container")
    assert result["conditions"]["foreign_processes"] == []
    assert result["memory"]["device_peak_bytes"] is None
    assert "another namespace" in result["memory"]["device_unavailable_because"]


def test_the_trace_holds_power_clocks_and_every_step_of_the_counter(
    fake_nvml: Callable[[str], FakeNvml], tmp_path: Path
) -> None:
    fake = fake_nvml(IDLE)
    done = subprocess.run(
        request(fake, tmp_path, window_s=1.0, load="constant 300"),
        env=fake.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    trace = json.loads(done.stdout)["trace"]
    path = tmp_path / trace["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == trace["sha256"]
    rows = f"FROM read_parquet('{path}')"
    ((count, first_s, last_s),) = duckdb.execute(f"SELECT count(*), min(elapsed_s), max(elapsed_s) {rows}").fetchall()
    assert count == trace["rows"]
    assert first_s < -3
    assert last_s == pytest.approx(4, abs=0.5)
    ((load_w, idle_w),) = duckdb.execute(
        "SELECT median(power_mw) FILTER (elapsed_s BETWEEN 0.3 AND 0.9), median(power_mw) FILTER (elapsed_s < 0) "
        + rows
    ).fetchall()
    assert (load_w, idle_w) == (300_000, 70_000)
    ((steps, clock_mhz),) = duckdb.execute(f"SELECT count(counter_mj), max(clock_sm_mhz) {rows}").fetchall()
    assert steps > 30
    assert clock_mhz == 1410


def test_several_gpus_are_read_as_one(played: Played) -> None:
    result = played("two GPUs")
    energy, conditions = result["energy"], result["conditions"]
    assert energy["method"] == "nvml_total_energy"
    assert energy["device_j"] == pytest.approx(result["true_j"], rel=0.03)
    assert energy["sampled_j"] == pytest.approx(result["true_j"], rel=0.06)
    assert 0.05 * 600 < energy["uncertainty_j"] < 0.05 * energy["device_j"], "sensors err independently"
    assert energy["idle_w"] == pytest.approx(190, rel=0.05)
    assert (conditions["temperature_end_c"], conditions["clock_sm_end_mhz"]) == (60, 1000)


def test_one_gpu_without_a_reading_leaves_none_for_all(played: Played) -> None:
    energy = played("two GPUs, one without")["energy"]
    assert (energy["device_j"], energy["method"], energy["uncertainty_j"]) == (None, None, None)
    assert energy["unavailable_because"] == "GPU 0: GPUs before Volta have no energy counter"


def test_each_of_several_gpus_has_to_be_free(outcomes: dict[str, subprocess.CompletedProcess[str]]) -> None:
    assert "GPU-1 is in use by 4194305" in outcomes["two GPUs, one busy"].stderr
