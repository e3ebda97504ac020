"""`benchmarks/gpu_baselines.py`, as far as it goes without a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from profiles import make_curve, make_profile
from records import make_record
from support import ROOT

from kit.results.record import Progress, SubmissionInfo

sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_baselines import CASES, gemm_rate, result_of, step_s

PROGRESS = tuple(Progress(optimizer_steps=steps, elapsed_s=at_s) for steps, at_s in ((1, 0.5), (2, 0.6), (4, 0.8)))


def test_the_rate_of_products_is_the_best_one_of_their_dtype() -> None:
    profile = make_profile(curves=(make_curve(), make_curve(dtype="bfloat16", slow=0.25), make_curve("conv")))
    assert gemm_rate(profile, "float32") == pytest.approx(1e11)
    assert gemm_rate(profile, "bfloat16") == pytest.approx(4e11)
    assert gemm_rate(profile, "float16") is None


def test_a_step_takes_what_the_later_ones_took_and_may_be_of_several_optimizers() -> None:
    record = make_record(progress=PROGRESS)
    assert step_s(record, 1) == pytest.approx(0.1)
    assert step_s(record, 2) == pytest.approx(0.2)
    assert step_s(make_record(progress=PROGRESS[:1]), 1) is None


def test_utilization_is_counted_operations_by_training_time_and_calibrated_rate() -> None:
    info = SubmissionInfo(
        name="made", authors=("Ada",), date="2026-11-24", base=None, source_sha256="a" * 64, config={"batch_size": 100}
    )
    record = make_record(progress=PROGRESS, submission=info)
    case = next(case for case in CASES if case.optimizers == 1)
    result = result_of(case, record, 5000, make_profile())
    assert result.training_s == pytest.approx(1.5)
    assert result.flops_per_s == pytest.approx(2e12 / 1.5)
    assert result.epoch_s == pytest.approx(5.0)
    assert result.flops_per_s is not None
    assert result.gemm_flops_per_s is not None
    assert result.utilization == pytest.approx(result.flops_per_s / result.gemm_flops_per_s)
    assert result.energy_unavailable_because == "no GPU"


def test_without_a_calibration_there_is_no_utilization() -> None:
    info = make_record().submission.model_copy(update={"config": {"batch_size": 100}})
    result = result_of(CASES[0], make_record(submission=info), 5000, None)
    assert result.utilization is None
    assert result.training_flops == 2 * 10**12


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_rehearsal_tries_every_baseline_and_writes_one_file(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu_baselines.py", "--rehearse", "-o", str(tmp_path / "report.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rehearsal"] is True
    assert [row["name"] for row in report["results"]] == [case.name for case in CASES]
    for row in report["results"]:
        assert row["outcome"] in ("reached", "missed", "partial"), row
        assert row["training_flops"] > 0
        assert row["step_s"] > 0
