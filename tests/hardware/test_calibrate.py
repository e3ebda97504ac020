"""A calibration from end to end, on a suite that takes seconds; the real one is slow."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
import torch
from profiles import make_profile
from support import ROOT

from kit.hardware.calibration.calibrate import calibrate, judge, profile_of
from kit.hardware.calibration.kernels import Series
from kit.hardware.calibration.measure import MeasuredKernel, measure
from kit.hardware.calibration.quiet import Reading, Use, Watch
from kit.hardware.calibration.settings import Setting
from kit.hardware.calibration.suite import SUITE
from kit.hardware.calibration.timing import Timings
from kit.hardware.calibration.workloads import SMALL, Classifier
from kit.hardware.profile import Profile, read_profile, write_profile

CPU = torch.device("cpu")
FEW = tuple(
    Series(series.name, series.operator_class, series.prepare, series.sizes[:3])
    for series in SUITE
    if series.name in ("square", "add", "batch norm", "1x1")
)
TINY = tuple(workload for workload in SMALL if workload.name == "tiny_cnn")
ALONE = Watch(lambda: Reading(time.monotonic(), 0.0), sleep=lambda _: None)


def reduced(device: Literal["cpu", "cuda"], budget_s: float = 4) -> Profile:
    return calibrate(device, suite=FEW, workloads=TINY, budget_s=budget_s)


@pytest.fixture(scope="module")
def profile() -> Profile:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.hardware.calibration.calibrate.Watch", lambda _: ALONE)
        return reduced("cpu", 10)


def test_a_profile_says_what_was_measured_and_where(profile: Profile) -> None:
    assert profile.device.type == "cpu"
    assert profile.device.threads == profile.settings.threads == torch.get_num_threads()
    assert profile.dtypes == ("float32", "bfloat16")
    assert {curve.operator_class for curve in profile.curves} == {"gemm", "elementwise", "norm", "conv"}
    assert [(work.name, work.dtype) for work in profile.workloads] == [
        ("tiny_cnn", "float32"),
        ("tiny_cnn", "bfloat16"),
    ]
    assert profile.took_s > 0
    assert profile.noise.rounds >= 1


def test_times_are_of_the_order_that_hardware_allows(profile: Profile) -> None:
    for curve in profile.curves:
        for point in curve.points:
            assert 1e-8 < point.seconds < 1
            assert point.flops_per_call / point.seconds < 1e15
    assert profile.launch_overhead_s < 0.01
    assert all(1e-5 < workload.step_s < 10 for workload in profile.workloads)


def test_a_measured_profile_survives_the_disk(profile: Profile, tmp_path: Path) -> None:
    assert read_profile(write_profile(profile, tmp_path / "profile.json")) == profile


def test_curves_answer_the_rows_of_a_workload(profile: Profile) -> None:
    rows = profile.workload("tiny_cnn", "float32").operators
    assert any(profile.curve(row.operator_class, row.dtype, backward=row.backward).points for row in rows)


def test_settings_of_one_machine_alternate_point_by_point() -> None:
    settings = [Setting("float32", threads=1), Setting("float32", threads=2)]
    measurement = measure(CPU, settings, FEW[:1], TINY, watch=ALONE, budget_s=1)
    assert [item.setting for item in measurement.kernels] == settings * (len(measurement.kernels) // 2)
    assert [item.setting for item in measurement.workloads] == settings


def test_each_setting_of_a_measurement_is_a_device_of_its_own() -> None:
    settings = [Setting("float32", threads=1), Setting("float32", onednn=False)]
    measurement = measure(CPU, settings, FEW, (), watch=ALONE, budget_s=1)
    one, plain = (profile_of(measurement, [setting], CPU, took_s=1) for setting in settings)
    assert one.settings.threads == 1
    assert one.settings.onednn
    assert not plain.settings.onednn
    assert one.id != plain.id


def test_what_cannot_be_compiled_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    workload = Classifier("cnn", lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10)), _pixels)
    measurement = measure(CPU, [Setting("float32")], FEW[:1], [workload], watch=ALONE, budget_s=1)
    assert [entry.model_dump() for entry in measurement.left_out] == [
        {"what": "cnn float32 compiled", "because": "there is no C++ compiler here"}
    ]
    assert [item.compiled for item in measurement.workloads] == [False]


def _pixels() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4)


def _measured(count: int, timings: Timings, refused: str | None = None) -> list[MeasuredKernel]:
    setting = Setting("float32")
    (kernel, *_) = measure(CPU, [setting], FEW[:1], (), watch=ALONE, budget_s=1).kernels
    return [MeasuredKernel(setting, kernel.kernel, timings, refused) for _ in range(count)]


QUIET_USE = Use(wall_s=1.0, foreign_s=0.0, gpu_processes=0, cores=2)
BUSY_USE = Use(wall_s=1.0, foreign_s=0.9, gpu_processes=0, cores=2)
CLEAN = Timings(clean=[1.0, 1.0, 1.0, 1.0])


def test_a_quiet_measurement_is_not_noisy() -> None:
    noise = judge(_measured(20, CLEAN), (), [QUIET_USE] * 10, rounds=4)
    assert (noise.noisy, noise.because) == (False, None)


@pytest.mark.parametrize(
    ("kernels", "uses", "rounds", "because"),
    [
        ((20, CLEAN, None), [QUIET_USE, BUSY_USE], 4, "others used 0.45 cores on average"),
        ((20, Timings(disturbed=[1.0] * 4), None), [QUIET_USE], 4, "20 of 20 points were never measured undisturbed"),
        ((20, CLEAN, "slower than a larger one"), [QUIET_USE], 4, "20 of 20 points made no sense"),
        ((20, Timings(clean=[1.0, 1.5, 2.0, 2.5]), None), [QUIET_USE], 4, "repetitions of the median point differ by"),
        ((20, CLEAN, None), [QUIET_USE], 2, "there was time for 2 rounds"),
        ((20, CLEAN, None), [QUIET_USE], 0, "there was time for 0 rounds"),
    ],
)
def test_noise_is_told_with_its_reason(
    kernels: tuple[int, Timings, str | None], uses: list[Use], rounds: int, because: str
) -> None:
    noise = judge(_measured(*kernels), (), uses, rounds=rounds)
    assert noise.noisy
    assert because in str(noise.because)


@contextmanager
def busy_neighbours(count: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_beside_a_busy_neighbour_a_profile_says_that_it_is_noisy() -> None:
    # In a process of its own: what this one starts is not somebody else's.
    script = "from test_calibrate import reduced; print(reduced('cpu', 12).model_dump_json())"
    places = {"PYTHONPATH": f"{Path(__file__).parent}:{ROOT / 'tests'}:{ROOT}"}
    with busy_neighbours(max(1, (os.cpu_count() or 1) // 2)):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ | places
        )
    noisy = Profile.model_validate_json(done.stdout)
    assert noisy.noise.noisy
    assert "others used" in str(noisy.noise.because)
    assert noisy.state.other_cores > 0.3


def kit_calibrate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kit.cli", "calibrate", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_an_earlier_profile_that_is_none_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = kit_calibrate("--against", str(tmp_path / "none.json"))
    assert done.returncode == 2
    assert "there is no device profile here" in done.stderr
    assert done.stdout == ""


def test_an_earlier_profile_of_another_machine_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    old = write_profile(make_profile(), tmp_path / "old.json")
    done = kit_calibrate("--against", str(old))
    assert done.returncode == 2
    assert "is of another machine (name Made, here " in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_thing_takes_two_minutes_and_is_compared_with_itself(tmp_path: Path) -> None:
    first = kit_calibrate("-o", str(tmp_path / "first.json"))
    assert first.returncode == 0, first.stdout + first.stderr
    profile = read_profile(tmp_path / "first.json")
    assert profile.took_s < 120
    assert len({curve.operator_class for curve in profile.curves}) == 10
    assert ("noisy" in first.stdout) == profile.noise.noisy
    second = kit_calibrate("-o", str(tmp_path / "second.json"), "--against", str(tmp_path / "first.json"))
    verdict = second.stdout.splitlines()[-1]
    assert second.returncode == (0 if verdict.startswith("steady") else 1), second.stdout + second.stderr
    quiet = not profile.noise.noisy and not read_profile(tmp_path / "second.json").noise.noisy
    assert verdict.startswith(("steady", "drifted") if quiet else "unclear")


@pytest.mark.gpu
def test_a_gpu_has_curves_in_all_its_dtypes() -> None:
    profile = reduced("cuda")
    assert profile.device.type == "cuda"
    assert set(profile.dtypes) == {"float32", "tf32", "bfloat16", "float16"}
    square = max(profile.curve("gemm", "bfloat16").points, key=lambda point: point.flops_per_call)
    again = max(reduced("cuda").curve("gemm", "bfloat16").points, key=lambda point: point.flops_per_call)
    assert again.seconds == pytest.approx(square.seconds, rel=0.5)
    assert json.loads(profile.model_dump_json())["state"]["clock_mhz"] > 0


@pytest.mark.gpu
def test_timings_on_a_gpu_wait_for_the_work() -> None:
    """A product of 4096 by 4096 takes more than its launch: any GPU is slower than 2 PFLOP/s."""
    large = Series("square", "gemm", FEW[0].prepare, ((4096, 4096, 4096),))
    measurement = measure(torch.device("cuda"), [Setting("float32")], [large], (), watch=ALONE, budget_s=2)
    (kernel,) = measurement.kernels
    assert kernel.timings.seconds > kernel.kernel.isolated.flops / 2e15
