"""`kit check`: reading and trying, folders and packs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_packs import CASES
from support import ROOT, SETUP_NOTHING, kit, why_no_sandbox

from kit.submission.check import Checked, check
from kit.submission.pack import pack

Write = Callable[..., Path]
EVALUATES = """
    import torch
    def setup(run):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    def train(run, model):
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for images, labels in run.loader("train", 50):
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        run.evaluate(model)
"""


def checked(path: Path, tmp_path: Path, track: str | None = None) -> Checked:
    return check(path, track=track, data_dir=tmp_path / "data")


def said(result: Checked) -> list[tuple[str, str, str]]:
    return [(problem.severity, problem.where, problem.what) for problem in result.problems]


def test_a_submission_that_is_fine_passes_as_folder_and_as_pack(submission: Write, tmp_path: Path) -> None:
    folder = submission(EVALUATES)
    path, _ = pack(folder, tmp_path / "made.kit.zip")
    for place in (folder, path):
        result = checked(place, tmp_path)
        assert said(result) == []
        assert result.passed
        (run,) = result.smoke_runs
        assert (result.name, run.track, run.optimizer_steps) == ("made", "digits", 20)
        assert run.setup_s is not None
        assert run.evaluated_after_s is not None


def test_the_smoke_run_is_sealed_where_that_can_be_had(submission: Write, tmp_path: Path) -> None:
    expected = "sandbox" if why_no_sandbox() is None else "process"
    (run,) = checked(submission(EVALUATES), tmp_path).smoke_runs
    assert run.isolation == expected
    assert (run.unsealed_because is None) == (expected == "sandbox")


def test_without_a_sandbox_a_folder_is_tried_unsealed_and_a_pack_is_not(
    submission: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submission(EVALUATES)
    path, _ = pack(folder, tmp_path / "made.kit.zip")
    monkeypatch.setenv("PATH", str(tmp_path))  # no bubblewrap in it
    (run,) = checked(folder, tmp_path).smoke_runs
    assert run.isolation == "process"
    assert run.unsealed_because is not None
    assert "bubblewrap" in run.unsealed_because
    result = checked(path, tmp_path)
    assert result.smoke_runs == ()
    ((severity, _, what),) = said(result)
    assert severity == "flag"
    assert what.startswith("no smoke run: a pack may be anybody's code, and is run in a sandbox alone: ")


def test_nothing_that_is_real_is_seen(submission: Write, tmp_path: Path) -> None:
    """The data directory is not even read where the track's shape is known."""
    source = SETUP_NOTHING + (
        "def train(run, state):\n"
        "    images, labels = run.arrays('train')\n"
        "    assert images.shape == (1000, 1, 8, 8) and images.dtype == torch.uint8\n"
        "    assert labels.bincount(minlength=10).tolist() == [100] * 10\n"
        "    assert len(run.arrays('test')[0]) == 512\n"
        "    assert images.float().mean() > 100 and len(images.unique(dim=0)) == 1000\n"
        "    run.evaluate(lambda images: torch.zeros(len(images), 10))\n"
    )
    result = checked(submission(source), tmp_path)
    assert said(result) == [("flag", "submission.py", "on digits: no step of a torch optimizer was seen")]
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("setup", "train", "expected"),
    [
        ("raise OSError('no')", "...", ("error", "submission.py:5", "on digits: in setup: OSError: no")),
        (
            "run.loader('train', 5)",
            "...",
            ("error", "submission.py:5", "on digits: in setup: RuntimeError: run.loader"),
        ),
        ("...", "1 / 0", ("error", "submission.py:7", "on digits: ZeroDivisionError: division by zero")),
        ("...", "...", ("error", "submission.py", "on digits: train returned without an evaluation")),
        (
            "...",
            "run.evaluate(lambda images: torch.zeros(len(images), 9))",
            (
                "error",
                "submission.py:7",
                "on digits: InvalidPredictions: predict must return scores of shape (512, 10)",
            ),
        ),
        ("import os; os._exit(7)", "...", ("error", "submission.py", "on digits: the trainer exited with status 7")),
    ],
)
def test_what_goes_wrong_in_the_smoke_run_is_an_error_with_its_line(
    submission: Write, tmp_path: Path, setup: str, train: str, expected: tuple[str, str, str]
) -> None:
    source = f"import torch\n\n\ndef setup(run):\n    {setup}\ndef train(run, state):\n    {train}\n"
    result = checked(submission(source), tmp_path)
    assert not result.passed
    severity, where, what = said(result)[0]
    assert (severity, where) == expected[:2]
    assert what.startswith(expected[2])


def test_going_on_after_the_target_is_flagged(submission: Write, tmp_path: Path) -> None:
    source = EVALUATES + "        run.evaluate(model)\n        run.evaluate(model)\n"
    result = checked(submission(source), tmp_path)
    assert said(result) == [("flag", "submission.py", "on digits: 2 more evaluations after the target was reached")]
    assert result.passed


@pytest.mark.slow
def test_hanging_is_an_error_and_training_for_long_a_flag(
    submission: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.submission.smoke.RUN_S", 4.0)
    hangs = SETUP_NOTHING + "def train(run, state):\n    while True: pass\n"
    assert said(checked(submission(hangs), tmp_path)) == [
        ("error", "submission.py", "on digits: in 4 s neither a step of a torch optimizer nor an evaluation")
    ]
    steps = "    torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1).step()\n"
    long = hangs.replace("    while", f"{steps}    while")
    assert said(checked(submission(long), tmp_path)) == [
        ("flag", "submission.py", "on digits: 1 optimizer step or more in 4 s, and no evaluation to try")
    ]


def test_reading_and_trying_come_in_one_list(submission: Write, tmp_path: Path) -> None:
    source = EVALUATES + "        import socket\n        run.config.lr\n"
    result = checked(submission(source, license="mine", config={"width": 3}), tmp_path)
    assert [what for _, _, what in said(result)] == [
        "config.lr is used and not declared",
        "license: 'mine' is no SPDX licence expression",
        "on digits: AttributeError: 'types.SimpleNamespace' object has no attribute 'lr'",
        "socket reaches the network, which a sealed run does not have",
        "config.width is declared and not used",
    ]


def test_each_data_set_is_tried_once(submission: Write, tmp_path: Path) -> None:
    source = EVALUATES.replace("64", "run.sample(1)[0].numel()")
    result = checked(submission(source, tracks=["cifar10", "digits", "cifar10_96"]), tmp_path)
    assert said(result) == []
    assert [run.track for run in result.smoke_runs] == ["cifar10", "digits"]


def test_encoded_images_are_tried_too(submission: Write, tmp_path: Path) -> None:
    source = """
        import torch
        def setup(run):
            return torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 1000))
        def train(run, model):
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            images, labels = next(iter(run.loader("train", 64, size=32)))
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            run.evaluate(model, size=32)
    """
    result = checked(submission(source, tracks=["imagenet"]), tmp_path)
    assert said(result) == []
    assert result.smoke_runs[0].optimizer_steps == 1


# ---- tracks


def own_track(tmp_path: Path) -> Path:
    track = yaml.safe_load((ROOT / "docs/own_data/track/shapes.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(track | {"name": "mine", "dataset": "mine"}))
    return path


def test_a_track_of_ones_own_is_tried_in_the_shape_of_its_prepared_data(submission: Write, tmp_path: Path) -> None:
    folder, track = submission(EVALUATES.replace("64, 10", "256, 3"), tracks=["mine"]), own_track(tmp_path)
    assert said(checked(folder, tmp_path)) == [("flag", "submission.yaml:7", "no track 'mine' ships with the kit")]
    (problem,) = checked(folder, tmp_path, str(track)).problems
    assert problem.severity == "flag"
    assert (
        problem.what == "no smoke run: the shape of mine is known once it is prepared: kit data prepare, or --data-dir"
    )

    assert subprocess.run([sys.executable, ROOT / "docs/own_data/make_shapes.py", tmp_path / "it.npz"], check=True)
    done = kit(
        "data", "prepare", str(track), "--source", str(tmp_path / "it.npz"), "--data-dir", str(tmp_path / "data")
    )
    assert done.returncode == 0, done.stderr
    result = checked(folder, tmp_path, str(track))
    assert said(result) == []
    assert [run.track for run in result.smoke_runs] == ["mine"]


def test_a_track_that_is_not_entered_is_an_error(submission: Write, tmp_path: Path) -> None:
    result = checked(submission(EVALUATES), tmp_path, "glyphs")
    assert said(result) == [("error", "submission.yaml", "tracks: enters digits, not glyphs")]
    assert result.smoke_runs == ()


# ---- the command


@pytest.mark.parametrize("name", ["path traversal", "a bomb", "a changed file"])
def test_a_pack_that_is_refused_does_not_pass(name: str, tmp_path: Path) -> None:
    make, reason = CASES[name]
    path = tmp_path / "made.kit.zip"
    path.write_bytes(make())
    done = kit("check", str(path), "--json")
    assert done.returncode == 1, done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert reason in problem["what"]


def test_the_command_says_the_same_to_people_and_to_programs(submission: Write) -> None:
    folder = submission("import socket\nimport sklearn\ndef setup(run): ...\n")
    people, programs = kit("check", str(folder)), kit("check", str(folder), "--json")
    assert people.returncode == programs.returncode == 1, people.stderr + programs.stderr
    content: dict[str, Any] = json.loads(programs.stdout)
    assert content["passed"] is False
    assert len(content["problems"]) == 3
    for problem in content["problems"]:
        for part in ("severity", "where", "what", "fix"):
            assert problem[part] in people.stdout
    assert people.stdout.splitlines()[-1] == "not passed: 2 errors, 1 flag"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: there is nothing here; expected a submission's folder or a pack"),
        (["baselines/digits_cnn", "--track", "nothing"], "there is no track 'nothing'"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_line_and_status_2(arguments: list[str], says: str) -> None:
    done = kit("check", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"kit: {says}")
    assert done.stderr.count("\n") == 1
