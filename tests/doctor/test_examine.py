"""The whole doctor: robust against its own checks, complete as JSON, readable in 80 columns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from fake_nvml import FakeNvml
from rich.console import Console
from support import ROOT

from kit.doctor.apart import CheckFailedError, apart
from kit.doctor.examine import Check, Examination, examine
from kit.doctor.finding import Finding, missing, ok, warning
from kit.doctor.show import print_findings
from kit.doctor.trial import trial_run

RUNS = Check("trial run", lambda: [ok("trial run", "well")])
WRITES = Check("results folder", lambda: [ok("results folder", "here")])


def test_a_check_that_fails_is_a_finding_and_the_others_go_on() -> None:
    def half() -> Iterator[Finding]:
        yield ok("first half", "fine")
        raise PermissionError(13, "Permission denied", "/sys/thing")

    begun: list[str] = []
    found = examine([Check("half", half), RUNS, WRITES], begun.append)
    assert begun == ["half", "trial run", "results folder"]
    assert [finding.name for finding in found.findings] == ["first half", "half", "trial run", "results folder"]
    assert found.findings[1].status == "warning"
    assert "the check itself failed: PermissionError: [Errno 13]" in found.findings[1].found
    assert found.cpu_run_works


@pytest.mark.parametrize(
    ("trial", "folder", "works"),
    [
        (ok("trial run", ""), ok("results folder", ""), True),
        (ok("trial run", ""), warning("results folder", "", "make room"), True),
        (ok("trial run", ""), missing("results folder", "", "another"), False),
        (missing("trial run", "", "see above"), ok("results folder", ""), False),
        (warning("trial run", "the check itself failed", "by hand"), ok("results folder", ""), False),
    ],
)
def test_a_run_works_when_the_trial_did_and_records_can_be_written(
    trial: Finding, folder: Finding, works: bool
) -> None:
    nothing_else = missing("gpu", "none", "use the processor")
    found = examine([Check("all", lambda: [nothing_else, trial, folder])])
    assert found.cpu_run_works is works


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Checks that behave as broken libraries do."""
    (tmp_path / "broken.py").write_text(
        "import os, signal, sys, time\nfrom kit.doctor.finding import ok\n"
        "def crash():\n    os.kill(os.getpid(), signal.SIGSEGV)\n"
        "def hang():\n    time.sleep(600)\n"
        "def fail():\n    raise OSError('no such symbol')\n"
        "def leave():\n    sys.stderr.write('fatal: gone\\n')\n    os._exit(3)\n"
        "def chatter():\n    print('a banner')\n    os.write(1, b'from C')\n    return [ok('chatter', 'fine')]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "broken"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("crash", "ended by SIGSEGV"),
        ("fail", "exit status 1: OSError: no such symbol"),
        ("leave", "exit status 3: fatal: gone"),
    ],
)
def test_what_goes_wrong_apart_is_told_and_harms_nobody(function: str, reason: str, module: str) -> None:
    with pytest.raises(CheckFailedError, match=reason):
        apart(module, function, 60)


def test_a_library_that_hangs_is_given_up(module: str) -> None:
    with pytest.raises(CheckFailedError, match="no answer within 1 s"):
        apart(module, "hang", 1)


def test_what_a_library_prints_is_not_taken_for_findings(module: str) -> None:
    assert apart(module, "chatter", 60) == [ok("chatter", "fine")]


def test_a_submission_that_fails_is_a_trial_that_failed(submission: Callable[..., Path]) -> None:
    folder = submission("def setup(run):\n    raise ValueError('no kernel image')\n\ndef train(run, state): ...\n")
    (finding,) = trial_run(str(folder))
    assert finding.status == "missing"
    assert finding.found.startswith("crashed: ")
    assert "no kernel image" in finding.found


def test_a_trial_without_a_record_tells_the_last_words() -> None:
    (finding,) = trial_run("baselines/nothing")
    assert finding.status == "missing"
    assert "no record (exit status 2: kit: there is no submission 'baselines/nothing'" in finding.found


def test_the_words_of_others_cannot_reach_the_terminal() -> None:
    name = "evil\x1b[2J[bold]\nname"
    shown = StringIO()
    found = Examination(cpu_run_works=True, findings=(warning("load", name, name),))
    print_findings(found, Console(file=shown, width=80, force_terminal=False))
    assert "\x1b" not in shown.getvalue()
    assert shown.getvalue().count("evil\\x1b[2J[bold] name") == 2


def kit_doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kit.cli", "doctor", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


ROWS = (
    *("system", "processor", "load", "open files", "processes", "shared memory", "clock", "compiler", "torch"),
    *("torch on the gpu", "dali", "gpu", "processor energy", "bubblewrap", "read-only data", "cgroups", "data digits"),
    *("data imagenet", "results folder", "trial run"),
)


def test_the_doctor_tells_programs_everything_also_of_a_gpu_that_others_cannot_use(
    fake_nvml: Callable[[str], FakeNvml], data_dir: Path, tmp_path: Path
) -> None:
    places = [f"--data-dir={data_dir}", f"--results-dir={tmp_path}"]
    done = kit_doctor("--json", *places, **fake_nvml("device\npower 0 constant 100").environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found = Examination.model_validate_json(done.stdout)
    rows = {finding.name: finding for finding in found.findings}
    assert set(ROWS) | {"gpu energy", "dali on the gpu"} <= set(rows)
    assert len(rows) == len(found.findings)
    assert rows["gpu energy"].status == rows["torch"].status == rows["trial run"].status == "ok"
    assert all((finding.advice is None) == (finding.status == "ok") for finding in found.findings)
    assert json.loads(done.stdout)["cpu_run_works"] is True


def test_the_doctor_tells_people_in_80_columns_and_fails_where_no_record_can_be_written() -> None:
    done = kit_doctor("--results-dir=/proc/nothing/here", COLUMNS="80")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "A run on the processor does NOT work." in done.stdout
    first = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert set(ROWS) <= set(first)


def test_the_doctor_s_own_process_imports_neither_torch_nor_dali(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom kit.doctor.examine import checks, examine\n"
        "apart = ('torch', 'dali', 'gpu', 'trial run')\n"
        "examine([check for check in checks(Path('x'), Path('y')) if check.name not in apart])\n"
        "heavy = {'torch', 'nvidia.dali', 'hydra', 'sklearn'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
