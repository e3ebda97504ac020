"""`kit new`: a submission that is fine as it is written."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from support import ROOT, Finished, kit

from kit.catalog import track_names
from kit.errors import KitError
from kit.submission.manifest import load
from kit.submission.scaffold import new
from kit.submission.static import examine_folder

TODAY = date(2026, 11, 25)
AUTHOR = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and a git that knows who is asking."""
    monkeypatch.chdir(tmp_path)
    for name, value in AUTHOR.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Ada Lovelace")


@pytest.mark.parametrize("base", [None, "digits_cnn", "baselines/digits_mlp", "baselines/glyphs_cnn"])
def test_what_is_written_has_no_errors(base: str | None) -> None:
    folder = new("mine", base, TODAY)
    assert folder == Path("submissions/mine")
    assert [(it.severity, it.what.partition(":")[0]) for it in examine_folder(folder, track_names()).problems] == [
        ("flag", "changes")
    ] * (base is not None)
    manifest = load(folder)
    assert (manifest.name, manifest.authors, manifest.date) == ("mine", ("Ada Lovelace",), TODAY)
    assert manifest.base == (base and f"baselines/{base.removeprefix('baselines/')}")
    assert (folder / "README.md").read_text().startswith("# mine\n")


def test_the_template_runs_and_passes_the_check_as_it_is(data_dir: Path) -> None:
    folder = new("mine", None, TODAY)
    done = kit("run", f"submission={folder}", f"data_dir={data_dir}", "count_flops=false", cwd=Path.cwd())
    assert done.returncode == 0, done.stdout + done.stderr
    assert Finished(0, "", "", Path("results")).record["outcome"] == "reached"
    done = kit("check", str(folder), cwd=Path.cwd())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "passed: no errors, no flags"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_template_reaches_its_target_with_almost_every_seed(data_dir: Path) -> None:
    folder = new("mine", None, TODAY)
    seeds = f"seed={','.join(map(str, range(20)))}"
    kit("run", "--multirun", seeds, f"submission={folder}", f"data_dir={data_dir}", "count_flops=false", cwd=Path.cwd())
    outcomes = [json.loads(path.read_text())["outcome"] for path in Path("results").glob("*/record.json")]
    assert len(outcomes) == 20
    assert outcomes.count("reached") >= 18


def test_comments_of_a_base_stay_and_only_the_keys_are_set() -> None:
    base = Path("base")
    base.mkdir()
    (base / "submission.py").write_text("def setup(run): ...\ndef train(run, state): ...\n")
    (base / "submission.yaml").write_text(
        "# first\nname: base  # a name\nauthors:\n  - Grace\n  - Ada\n# then\ndate: 2020-01-01\n"
        "license: MIT  # free\ntracks: [digits]\nconfig:\n  # a rate\n  lr: 0.1\n"
    )
    new("mine", "base/", TODAY)
    assert Path("submissions/mine/submission.yaml").read_text() == (
        "# first\nname: mine  # a name\nauthors: [Ada Lovelace]\n# then\ndate: 2026-11-25\n"
        'license: MIT  # free\nchanges: ""\nbase: base\ntracks: [digits]\nconfig:\n  # a rate\n  lr: 0.1\n'
    )


@pytest.mark.parametrize("author", ["yes", "O'Brien: [x], #1", 'a "b" c', "Łukasz", "007", "a - b", "null", "x" * 200])
def test_any_author_is_written_so_that_it_reads_back(author: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", author)
    assert load(new("mine", None, TODAY)).authors == (author,)


def test_without_git_the_author_is_a_placeholder_that_the_check_asks_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = examine_folder(new("mine", None, TODAY), track_names()).problems
    assert (problem.severity, problem.what) == ("flag", "authors: still a placeholder")


def test_nothing_is_overwritten() -> None:
    folder = new("mine", None, TODAY)
    (folder / "submission.py").write_text("months of work")
    with pytest.raises(KitError, match="submissions/mine: is there already"):
        new("mine", None, TODAY)
    assert (folder / "submission.py").read_text() == "months of work"
    Path("submissions/link").symlink_to("elsewhere")
    with pytest.raises(KitError, match="submissions/link: is there already"):
        new("link", None, TODAY)
    assert not Path("submissions/elsewhere").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["Mine"], "'Mine' is no name of a submission: expected up to 64 lower case letters, digits and _"),
        (["../mine"], "'../mine' is no name"),
        ([""], "'' is no name"),
        (["a" * 65], "is no name"),
        (["mine\n"], "'mine\\n' is no name"),
        (
            ["mine", "--from", "nothing"],
            "there is no submission 'nothing' to begin from; expected a submission's folder",
        ),
        (["mine", "--from", "../../etc"], "there is no submission"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(arguments: list[str], says: str) -> None:
    done = kit("new", *arguments, cwd=Path.cwd())
    assert done.returncode == 2
    assert done.stderr.startswith("kit: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_where_nothing_can_be_written_is_one_clear_line() -> None:
    Path("submissions").write_text("a file")
    with pytest.raises(KitError, match="cannot write submissions/mine"):
        new("mine", None, TODAY)


def test_two_at_once_write_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kit.cli", "new", "mine"]
    running = [
        subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(3)
    ]
    assert sorted(process.wait() for process in running) == [0, 2, 2]
    assert examine_folder(tmp_path / "submissions" / "mine", track_names()).problems == ()
