"""Fixtures: writing a submission in a few lines, and running it through the command a user would type."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_nvml import FakeNvml, build
from hypothesis import settings
from support import ROOT, Finished

from kit.hardware.turn import FOLDER_VARIABLE

settings.register_profile("kit", deadline=None)  # a busy machine is no failure
settings.load_profile("kit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption("--fuzz", type=int, default=300, help="inputs that each reader of hostile bytes is given")


def pytest_configure() -> None:
    """Give each worker of pytest-xdist a core: trainings that share cores wait minutes for each other's threads."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for much in ("slow", "long"):
            if much in item.keywords and not config.getoption(f"--{much}"):
                item.add_marker(pytest.mark.skip(reason=f"{much}: add --{much}"))
        if "gpu" in item.keywords and (reason := _no_gpu()):
            item.add_marker(pytest.mark.skip(reason=reason))


def _no_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "needs an NVIDIA GPU: torch finds none here"


@pytest.fixture
def fuzz_inputs(request: pytest.FixtureRequest) -> int:
    """How many inputs a reader of hostile bytes is given."""
    amount: int = request.config.getoption("--fuzz")
    return amount


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """These tests and other runs on the machine do not wait for each other."""
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("locks"))
    yield
    os.environ.pop(FOLDER_VARIABLE)
    if before is not None:
        os.environ[FOLDER_VARIABLE] = before


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for prepared data, so that it is prepared once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def fake_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake NVML, compiled."""
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError:
        pytest.skip("needs a C compiler, cc, for the fake NVML")


@pytest.fixture
def fake_nvml(tmp_path: Path, fake_nvml_library: Path) -> Callable[[str], FakeNvml]:
    """Makes a fake NVML from a script (see fake_nvml/nvml.c); processes with its `environment` see the devices."""

    def make(script: str) -> FakeNvml:
        return FakeNvml(fake_nvml_library, tmp_path / "nvml.script", script)

    return make


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Path]:
    """Writes a submission for the digits track: its source, and what its manifest says differently."""

    def write(source: str, **manifest: Any) -> Path:
        folder = tmp_path / "submissions" / "made"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "submission.py").write_text(textwrap.dedent(source))
        content = {
            "name": "made",
            "authors": ["a test"],
            "date": "2026-11-24",
            "license": "Apache-2.0",
            "tracks": ["digits"],
        }
        (folder / "submission.yaml").write_text(yaml.safe_dump(content | manifest))
        return folder

    return write


@pytest.fixture
def kit_command(tmp_path: Path, data_dir: Path) -> Callable[..., list[str]]:
    """The command line of `kit run` with results and data out of the way."""

    def command(*overrides: str) -> list[str]:
        places = [f"results_dir={tmp_path / 'results'}", f"data_dir={data_dir}"]
        return [sys.executable, "-m", "kit.cli", "run", *places, *overrides]

    return command


@pytest.fixture
def kit_run(tmp_path: Path, kit_command: Callable[..., list[str]]) -> Callable[..., Finished]:
    """Runs `kit run` to its end."""

    def run(*overrides: str) -> Finished:
        done = subprocess.run(kit_command(*overrides), cwd=ROOT, capture_output=True, text=True, check=False)
        return Finished(done.returncode, done.stdout, done.stderr, tmp_path / "results")

    return run
