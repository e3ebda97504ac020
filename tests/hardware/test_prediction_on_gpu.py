"""A GPU takes part in the study of the normalization, against processors and against itself in other dtypes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_held_out_steps_are_predicted_from_processor_to_gpu_and_between_dtypes(tmp_path: Path) -> None:
    raw = tmp_path / "study.json"
    command = [sys.executable, "benchmarks/normalization.py", "--minutes", "3", "--save", str(raw)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {device["name"] for device in json.loads(raw.read_text())["devices"]}
    assert {"1 thread, float32", "GPU, float32", "GPU, tf32", "GPU, bfloat16", "GPU, float16"} <= names
    (device_row,) = [line for line in done.stdout.splitlines() if line.startswith("| device |")]
    predicted, _refused, median_error = (cell.strip() for cell in device_row.split("|")[2:5])
    assert int(predicted) > 0
    assert median_error.endswith("%") or median_error == "-"
