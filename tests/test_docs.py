"""Every command that the documentation shows is one that works."""

import os
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
    ".venv/bin/kit run --multirun hydra/launcher=slurm submission=baselines/digits_cnn seed=0,1,2,3,4 "
    "hydra.launcher.partition=cpu": "needs a cluster; tests/slurm brings one up",
    ".venv/bin/kit score packs/*.kit.zip --track digits --seeds 5 --results official --key organizer.pem "
    "--launcher slurm hydra.launcher.gpus_per_node=1 hydra.launcher.partition=race": "the same",
    "sbatch --array=0-999 --no-requeue --exclusive --time=240 --signal=USR2@60 "
    "--wrap 'srun kit task planned-1.plan $SLURM_ARRAY_TASK_ID'": "the same",
}


LONG = {".venv/bin/kit run track=glyphs submission=baselines/glyphs_cnn", ".venv/bin/kit calibrate"}
"""Up to ten minutes of training; and what a slow one does as well."""
SLOW = {
    ".venv/bin/kit calibrate -o profiles/here.json",
    ".venv/bin/kit calibrate --against profiles/here.json",
    ".venv/bin/kit reference results/<run> --on profiles/here.json",
    ".venv/bin/kit score packs/*.kit.zip --track digits --seeds 3 --results official --secret official.secret "
    "--key organizer.pem --resplit --control",
    ".venv/bin/kit board official --keys keys.yaml",
    ".venv/bin/kit board official --by flops",
    ".venv/bin/kit board official --json > board.json",
}
"""Minutes of training, or of measuring."""
AUTHOR = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Ada Lovelace"}
"""A git that knows who is asking."""
MAY_BE_ONE = {".venv/bin/kit calibrate --against profiles/here.json"}
"""Commands whose status 1 is an answer."""


def command_lines(block: str) -> list[str]:
    return [command for line in block.splitlines() if (command := line.split("   #")[0].strip())]


def shown_outputs() -> dict[str, str]:
    """What a page says that a command prints: a block of text right below it."""
    found = {}
    for page in PAGES:
        for block, text in re.findall(r"```sh\n([^`]*)```\n\n```text\n(.*?)```", page.read_text(), re.DOTALL):
            found[command_lines(block)[-1]] = text
    return found


def without_what_varies(output: str) -> str:
    """Numbers, hashes, the machine's device and its sandbox are not the same everywhere."""
    output = re.sub(r"not sealed: .*?: setup", "sealed: setup", output)
    output = re.sub(r"\b[0-9a-f]{64}\b", "HASH", output)
    output = re.sub(r"\b(cpu|cuda)\b", "DEVICE", output)
    return re.sub(r" +$", "", re.sub(r"\d[\d.,]*", "0", output), flags=re.MULTILINE)


def commands() -> list[Any]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            found += command_lines(block)
    minutes = pytest.mark.timeout(1800)
    marks = dict.fromkeys(SLOW, (pytest.mark.slow, minutes)) | dict.fromkeys(LONG, (pytest.mark.long, minutes))
    return [
        pytest.param(command, marks=marks.get(command, ()))
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
    environment = os.environ | AUTHOR
    done = subprocess.run(
        ["bash", "-ec", line], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in ((0, 1) if command in MAY_BE_ONE else (0,)), done.stdout + done.stderr
    if (shown := shown_outputs().get(command)) is not None:
        assert without_what_varies(done.stdout) == without_what_varies(shown)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
