"""Every command that the documentation shows is one that works."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
]
BIN = Path(sys.executable).parent
NOT_HERE = {
    "make run": "installs an environment; its command is `kit run`, run below",
    "make test": "is this test suite",
    "make lint": "run by .ci/run",
    "make format": "changes files",
    "bash .ci/run": "runs this test suite",
    ".venv/bin/kit --install-completion": "changes the user's shell",
}


SLOW = {
    ".venv/bin/kit run track=glyphs submission=baselines/glyphs_cnn",
    ".venv/bin/kit calibrate",
    ".venv/bin/kit calibrate -o profiles/here.json",
    ".venv/bin/kit calibrate --against profiles/here.json",
    ".venv/bin/kit reference results/<run> --on profiles/here.json",
}
"""Minutes of training, or of measuring."""
MAY_BE_ONE = {".venv/bin/kit calibrate --against profiles/here.json"}
"""Commands whose status 1 is an answer."""


def commands() -> list[Any]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            found += [line.split("   #")[0].strip() for line in block.splitlines() if line.strip()]
    slow = pytest.mark.slow, pytest.mark.timeout(1800)
    return [
        pytest.param(command, marks=slow if command in SLOW else ())
        for command in dict.fromkeys(found)
        if command not in NOT_HERE
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone's, in which commands may leave things."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("baselines", "benchmarks", "conf", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    first = subprocess.run([BIN / "kit", "run"], cwd=folder, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    return folder


def test_there_are_commands_to_try() -> None:
    assert len(commands()) > 8


@pytest.mark.parametrize("command", commands())
def test_a_shown_command_works(command: str, checkout: Path) -> None:
    (example,) = (path for path in sorted((checkout / "results").glob("2*"))[:1])
    if "kit count" in command:
        made = subprocess.run([BIN / "kit", "run", "count_flops=false"], cwd=checkout, capture_output=True, check=False)
        assert made.returncode == 0
        example = sorted((checkout / "results").glob("2*"), key=lambda path: path.stat().st_mtime)[-1]
    line = command.replace(".venv/bin/", f"{shlex.quote(str(BIN))}/").replace(
        "results/<run>", f"results/{example.name}"
    )
    done = subprocess.run(["bash", "-ec", line], cwd=checkout, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in ((0, 1) if command in MAY_BE_ONE else (0,)), done.stdout + done.stderr


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
