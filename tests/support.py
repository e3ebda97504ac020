"""What tests share beside fixtures."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.referee import sandbox

ROOT = Path(__file__).parents[1]

SETUP_NOTHING = """
from kit import Run
import torch

def setup(run: Run):
    return None

"""
RIGHT_ANSWERS = """
def answers():
    '''The test labels, as a cheat could carry them: a quick way to the target.'''
    import numpy as np
    from kit.data.sources.digits import load
    labels = torch.from_numpy(load().test_labels)
    return torch.nn.functional.one_hot(labels, 10).float()
"""


def why_no_sandbox() -> str | None:
    """Why nothing can be sealed on this machine; None where it can."""
    try:
        sandbox.require()
    except KitError as error:
        return str(error)
    return None


@dataclass
class Finished:
    """A `kit` command that ended."""

    returncode: int
    stdout: str
    stderr: str
    results: Path

    @property
    def run_dir(self) -> Path:
        """The folder of the only run."""
        (run_dir,) = [path for path in self.results.iterdir() if not path.name.startswith(".")]
        return run_dir

    @property
    def record(self) -> dict[str, Any]:
        """The record of the only run."""
        content: dict[str, Any] = json.loads((self.run_dir / "record.json").read_text())
        return content


def kit(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A `kit` command, from wherever a user would give it, on a wide terminal."""
    return subprocess.run(
        [sys.executable, "-m", "kit.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )
