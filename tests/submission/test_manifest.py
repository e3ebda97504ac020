"""`submission.yaml`: what is accepted, and what a mistake in it looks like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from kit.errors import KitError
from kit.submission.manifest import find, load, source_sha256


@pytest.mark.parametrize("name", ["digits_cnn", "digits_mlp"])
def test_the_baselines_have_good_manifests(name: str) -> None:
    manifest = load(ROOT / "baselines" / name)
    assert manifest.name == name
    assert "digits" in manifest.tracks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracks": []}, "tracks"),
        ({"authors": "me"}, "authors"),
        ({"date": "yesterday"}, "date"),
        ({"name": "Not A Name"}, "name"),
        ({"more": 1}, "more"),
        ({"config": {"lr": 1.0}, "ranges": {"lr": [2, 3]}}, "config.lr: expected 2 to 3, got 1.0"),
        ({"config": {}, "ranges": {"lr": [2, 3]}}, "ranges for what config does not declare: lr"),
        ({"config": {"mode": "a"}, "ranges": {"mode": [0, 1]}}, "only a number can have a range"),
    ],
    ids=str,
)
def test_a_mistake_names_the_file_and_the_field(
    change: dict[str, Any], message: str, submission: Callable[..., Path]
) -> None:
    folder = submission("", **change)
    with pytest.raises(KitError, match=r"submission\.yaml") as caught:
        load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["name: [", "name: a\n\tb: c", "a: b: c", ""])
def test_what_is_not_yaml_names_the_line(content: str, submission: Callable[..., Path]) -> None:
    folder = submission("")
    (folder / "submission.yaml").write_text(content)
    with pytest.raises(KitError, match=r"submission\.yaml"):
        load(folder)


@pytest.mark.parametrize("name", ["submission.py", "submission.yaml"])
def test_a_missing_file_is_named(name: str, submission: Callable[..., Path]) -> None:
    folder = submission("")
    (folder / name).unlink()
    with pytest.raises(KitError, match=f"not a submission: {name} is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("default", "value", "fits"),
    [
        (0.1, 1, True),
        (0.1, 0.2, True),
        (0.1, True, False),
        (0.1, "high", False),
        (1, 2, True),
        (1, 1.5, False),
        (1, False, False),
        (True, False, True),
        (True, 1, False),
        ("a", "b", True),
        ("a", 1, False),
        ([1], [2, 3], True),
        ([1], 2, False),
        (None, "anything", True),
    ],
    ids=str,
)
def test_a_hyperparameter_keeps_the_type_of_its_default(
    default: Any, value: Any, fits: bool, submission: Callable[..., Path]
) -> None:
    manifest = load(submission("", config={"x": default}))
    assert (manifest.problem("x", value) is None) == fits


def test_an_undeclared_hyperparameter_is_a_problem(submission: Callable[..., Path]) -> None:
    assert "declares no such hyperparameter" in (load(submission("")).problem("x", 1) or "")


def test_the_source_hash_follows_names_and_contents_and_ignores_caches(submission: Callable[..., Path]) -> None:
    folder = submission("a = 1\n")
    first = source_sha256(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "submission.pyc").write_text("x")
    assert source_sha256(folder) == first
    (folder / "submission.py").write_text("a = 2\n")
    second = source_sha256(folder)
    (folder / "more.py").touch()
    assert len({first, second, source_sha256(folder)}) == 3


def test_submissions_are_found_by_the_name_one_types() -> None:
    assert {"baselines/digits_cnn", "baselines/digits_mlp"} <= set(find([ROOT / "baselines"]))
