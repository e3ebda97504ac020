"""What a person sees of a record's energy."""

from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
from records import make_record
from rich.console import Console

from kit.report.show import FLAGS, show
from kit.results.record import Conditions, Energy, EnergyFlag, ForeignProcess, Memory
from kit.results.signing import Verification


def shown(**differently: Any) -> str:
    console = Console(file=StringIO(), width=200)
    show(make_record(**differently), Path("record.json"), console, Verification(state="missing"), {})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def energy(**differently: Any) -> Energy:
    content: dict[str, Any] = {
        "device_j": 1234.5,
        "method": "nvml_total_energy",
        "update_period_s": 0.1,
        "uncertainty_j": 61.7,
        "unavailable_because": None,
        "sampled_j": 1230.0,
        "idle_w": 70.25,
        "host_j": 321.0,
    }
    return Energy(**content | differently)


def test_energy_is_shown_with_what_stands_beside_it() -> None:
    text = shown(energy=energy())
    assert "energy  1234.5 J ± 61.7 J (nvml_total_energy)\n" in text
    assert "by samples 1230.0 J, idle 70.2 W, host 321.0 J" in text
    assert "doubtful" not in text


@pytest.mark.parametrize("flag", get_args(EnergyFlag))
def test_every_flag_is_said_in_words(flag: EnergyFlag) -> None:
    assert f"doubtful: {FLAGS[flag]}" in shown(energy=energy(flags=(flag,)))


def test_energy_by_samples_says_why_not_by_the_counter() -> None:
    text = shown(energy=energy(method="nvml_instant_power", counter_unavailable_because="the counter stood still"))
    assert "(nvml_instant_power), not by the counter: the counter stood still" in text


def test_an_absent_host_energy_says_why() -> None:
    assert "host RAPL: no package" in shown(energy=energy(host_j=None, host_unavailable_because="RAPL: no package"))


def test_conditions_and_both_peaks_of_memory_are_shown() -> None:
    guest = ForeignProcess(pid=1, first_seen_s=0.0, last_seen_s=1.0, peak_bytes=None, computes=True)
    conditions = Conditions(
        temperature_start_c=45,
        temperature_end_c=83,
        clock_sm_start_mhz=1410,
        clock_sm_mean_mhz=1390.4,
        clock_sm_end_mhz=1200,
        clock_memory_mean_mhz=1593.0,
        throttled_power_s=0.25,
        throttled_heat_s=0.5,
        foreign_processes=(guest,),
    )
    memory = Memory(device_peak_bytes=3 * 10**9, device_torch_peak_bytes=2 * 10**9, host_peak_bytes=10**9)
    text = shown(conditions=conditions, memory=memory)
    assert "45 to 83 °C, 1390 MHz, throttled 0.750 s, 1 other processes on the GPU" in text
    assert "device 3 GB (2 GB of it tensors, by torch)" in text


def test_what_a_stranger_wrote_commands_no_terminal_and_is_no_markup() -> None:
    written = "\x1b[2J\x1b]0;owned\x07\u202e[/red][bold]x"
    submission = make_record().submission.model_copy(update={"authors": (written,), "config": {"lr": written}})
    text = shown(submission=submission, reason=written, traceback=written)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert text.count("[/red][bold]x") == 4
