"""The kit works from a wheel too, away from its checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_an_installed_kit_runs_the_baseline_anywhere(installed: Path, tmp_path: Path, data_dir: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import kit; print(kit.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert Path(where).is_relative_to(installed)
    done = subprocess.run(
        [sys.executable, "-m", "kit.cli", "run", f"data_dir={data_dir}", "loader=torch"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (tmp_path / "results").glob("*/record.json")
    assert json.loads(record.read_text())["outcome"] == "reached"


def test_an_installed_kit_knows_its_hardware(installed: Path, tmp_path: Path) -> None:
    code = "from kit.hardware.text import parse_hardware; print(parse_hardware('16 p3.16xlarge').count)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "128"


def test_an_installed_kit_begins_a_submission_anywhere(installed: Path, tmp_path: Path) -> None:
    for arguments in (["mine"], ["other", "--from", "digits_cnn"]):
        done = subprocess.run(
            [sys.executable, "-m", "kit.cli", "new", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "submissions" / arguments[0] / "submission.py").is_file()


def test_an_installed_kit_makes_a_site_anywhere(installed: Path, tmp_path: Path) -> None:
    results = ROOT / "docs/example/results"
    done = subprocess.run(
        [sys.executable, "-m", "kit.cli", "site", str(results), "-o", "site"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("index.html", "tracks/digits.html", "assets/site.css", "assets/site.js", "assets/plotly.min.js"):
        assert (tmp_path / "site" / name).stat().st_size > 100
