"""`submission.yaml`: what it may say, and what its errors say."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.errors import KitError
from kit.submission.manifest import Manifest, find, load, source_sha256

Write = Callable[..., Path]
SOURCE = "def setup(run): ...\ndef train(run, state): ...\n"


def made(config: dict[str, Any], ranges: dict[str, Any] | None = None) -> Manifest:
    content = {
        "name": "made",
        "authors": ["a test"],
        "date": "2026-11-24",
        "license": "Apache-2.0",
        "tracks": ["digits"],
        "config": config,
        "ranges": ranges or {},
    }
    return Manifest.model_validate(content)


def test_a_good_manifest_is_read(submission: Write) -> None:
    manifest = load(
        submission(
            SOURCE,
            authors=["Ada", "Grace"],
            base="baselines/digits_cnn",
            config={"lr": 0.1, "epochs": 10, "name": "sgd", "nesterov": True, "schedule": None, "widths": [8, 16]},
            ranges={"lr": [0, 1], "epochs": [1, 100]},
        )
    )
    assert manifest.name == "made"
    assert manifest.authors == ("Ada", "Grace")
    assert manifest.date.isoformat() == "2026-11-24"
    assert manifest.tracks == ("digits",)
    assert manifest.config["lr"] == 0.1
    assert manifest.ranges["epochs"] == (1, 100)


@pytest.mark.parametrize("baseline", ["digits_cnn", "digits_mlp"])
def test_the_shipped_submissions_have_good_manifests(baseline: str) -> None:
    assert load(Path(__file__).parents[2] / "baselines" / baseline).name == baseline


@pytest.mark.parametrize("missing", ["submission.yaml", "submission.py"])
def test_a_missing_file_is_named(submission: Write, missing: str) -> None:
    folder = submission(SOURCE)
    (folder / missing).unlink()
    with pytest.raises(KitError) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert missing in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: made\nauthors: [a\nlicense: x\n", 3),
        ("name: made\ntitle: one: two\n", 2),
        ("name: made\nconfig:\n\tlr: 0.1\n", 3),
        ("name: 'made\n", 2),
        ("name: *nobody\n", 1),
    ],
)
def test_a_yaml_error_names_file_and_line(submission: Write, text: str, line: int) -> None:
    path = submission(SOURCE) / "submission.yaml"
    path.write_text(text)
    with pytest.raises(KitError) as caught:
        load(path.parent)
    assert f"{path}:{line}: not YAML" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- list\n",
        b"just text\n",
        b"\xff\xfe\x00\x01",
        b"name: \x00\n",
        b"name: a\n---\nname: b\n",
        b"!!python/object/apply:os.system [exit 1]\n",
        b"date: 2026-13-45\n",
        b"config: {[1]: 2}\n",
        b"config: {? {a: 1} : 2}\n",
        b"[" * 3000,
    ],
    ids=lambda content: content[:20].decode("latin-1"),
)
def test_what_is_no_manifest_is_an_error_that_names_the_file(submission: Write, content: bytes) -> None:
    path = submission(SOURCE) / "submission.yaml"
    path.write_bytes(content)
    with pytest.raises(KitError) as caught:
        load(path.parent)
    assert str(path) in str(caught.value)


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_no_manifest(submission: Write, content: bytes) -> None:
    path = submission(SOURCE) / "submission.yaml"
    path.write_bytes(content)
    with pytest.raises(KitError):
        load(path.parent)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"name": "Made of Caps"}, "name"),
        ({"name": "../made"}, "name"),
        ({"name": 7}, "name"),
        ({"authors": []}, "authors"),
        ({"authors": "a test"}, "authors"),
        ({"date": "soon"}, "date"),
        ({"license": None}, "license"),
        ({"tracks": []}, "tracks"),
        ({"tracks": ["Digits"]}, "tracks.0"),
        ({"config": [1]}, "config"),
        ({"config": {"LR": 0.1}}, "config.LR"),
        ({"config": {"lr": 0.1}, "ranges": {"lr": 1}}, "ranges.lr"),
        ({"config": {"lr": 0.1}, "ranges": {"lr": [0, 1, 2]}}, "ranges.lr"),
        ({"config": {"lr": 0.1}, "ranges": {"lr": ["low", "high"]}}, "ranges.lr"),
        ({"config": {"lr": 0.1}, "ranges": {"rate": [0, 1]}}, "rate"),
        ({"config": {"lr": 2.0}, "ranges": {"lr": [0, 1]}}, "config.lr: expected 0 to 1, got 2.0"),
        ({"config": {"lr": -1}, "ranges": {"lr": [0, 1]}}, "config.lr: expected 0 to 1, got -1"),
        ({"config": {"name": "sgd"}, "ranges": {"name": [0, 1]}}, "config.name: only a number"),
        ({"config": {"nesterov": True}, "ranges": {"nesterov": [0, 1]}}, "config.nesterov: only a number"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_named_with_its_file(submission: Write, content: dict[str, Any], says: str) -> None:
    folder = submission(SOURCE, **content)
    with pytest.raises(KitError) as caught:
        load(folder)
    assert str(folder / "submission.yaml") in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("key", ["name", "authors", "date", "license", "tracks"])
def test_a_missing_entry_is_named(submission: Write, key: str) -> None:
    path = submission(SOURCE) / "submission.yaml"
    path.write_text("".join(f"{line}\n" for line in complete_manifest() if not line.startswith(key)))
    with pytest.raises(KitError, match=f"{key}: Field required"):
        load(path.parent)


def complete_manifest() -> list[str]:
    return ["name: made", "authors: [a test]", "date: 2026-11-24", "license: Apache-2.0", "tracks: [digits]"]


# ---- values of hyperparameters

CONFIG = {
    "lr": 0.1,
    "epochs": 10,
    "name": "sgd",
    "nesterov": True,
    "schedule": None,
    "widths": [8, 16],
    "deep": {"a": 1},
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.5),
        ("lr", 1),
        ("epochs", 20),
        ("name", "adam"),
        ("nesterov", False),
        ("schedule", None),
        ("schedule", "cosine"),
        ("schedule", 3),
        ("widths", [1]),
        ("deep", {"b": 2}),
    ],
)
def test_a_value_of_the_defaults_type_fits(name: str, value: Any) -> None:
    assert made(CONFIG).problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", "0.5"),
        ("lr", True),
        ("lr", None),
        ("lr", [0.5]),
        ("epochs", 1.5),
        ("epochs", 20.0),
        ("epochs", True),
        ("epochs", "20"),
        ("epochs", None),
        ("name", 3),
        ("name", None),
        ("nesterov", 1),
        ("nesterov", 0),
        ("nesterov", "true"),
        ("widths", 8),
        ("widths", "8"),
        ("deep", [1]),
    ],
)
def test_a_value_of_another_type_is_a_problem_that_names_both(name: str, value: Any) -> None:
    problem = made(CONFIG).problem(name, value)
    assert problem is not None
    assert f"config.{name}: expected {type(CONFIG[name]).__name__}" in problem
    assert repr(value) in problem


def test_a_hyperparameter_that_is_not_declared_is_named_with_those_that_are() -> None:
    problem = made({"lr": 0.1, "epochs": 3}).problem("momentum", 0.9)
    assert problem is not None
    assert "momentum" in problem
    assert "lr, epochs" in problem


@given(value=st.floats() | st.integers())
def test_a_value_fits_exactly_inside_its_range(value: float) -> None:
    problem = made({"lr": 0.5}, {"lr": [0, 1]}).problem("lr", value)
    assert (problem is None) == (0 <= value <= 1)


@pytest.mark.parametrize("edge", [0, 1, 0.0, 1.0])
def test_the_ends_of_a_range_belong_to_it(edge: float) -> None:
    assert made({"lr": 0.5}, {"lr": [0, 1]}).problem("lr", edge) is None


# ---- the source's hash


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "parts").mkdir(parents=True)
    (root / "submission.py").write_text(SOURCE)
    (root / "parts" / "model.py").write_text("width = 8\n")
    return root


def test_the_hash_depends_on_content_names_and_places(folder: Path) -> None:
    model = folder / "parts" / "model.py"
    seen = {source_sha256(folder)}
    model.write_text("width = 9\n")
    seen.add(source_sha256(folder))
    model = model.rename(folder / "parts" / "net.py")
    seen.add(source_sha256(folder))
    model = model.rename(folder / "net.py")
    seen.add(source_sha256(folder))
    model.unlink()
    seen.add(source_sha256(folder))
    (folder / "empty").write_text("")
    seen.add(source_sha256(folder))
    assert len(seen) == 6


def test_the_hash_ignores_caches_and_hidden_files(folder: Path) -> None:
    before = source_sha256(folder)
    for name in ("__pycache__/submission.pyc", "parts/__pycache__/model.pyc", ".git/config", ".hidden"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert source_sha256(folder) == before


def test_the_hash_does_not_depend_on_where_the_folder_is_or_when_it_was_written(folder: Path, tmp_path: Path) -> None:
    before = source_sha256(folder)
    elsewhere = folder.rename(tmp_path / ".elsewhere")
    os.utime(elsewhere / "submission.py", (0, 0))
    assert source_sha256(elsewhere) == before


def test_content_cannot_pass_for_another_file(folder: Path) -> None:
    (folder / "a").write_bytes(b"1")
    (folder / "b").write_bytes(b"2")
    two = source_sha256(folder)
    (folder / "b").unlink()
    (folder / "a").write_bytes(b"1b\x001\x002")
    assert source_sha256(folder) != two


def test_submissions_are_found_below_their_roots(submission: Write) -> None:
    folder = submission(SOURCE)
    assert list(find([folder.parent, folder / "nowhere"])) == ["submissions/made"]
