"""`submission.yaml`: what it may say, and what its errors say."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import fuzz
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kit.errors import KitError
from kit.results.source import source_sha256
from kit.submission.manifest import MAX_MANIFEST_BYTES, Manifest, ManifestError, find, load, parse

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


@pytest.mark.parametrize("baseline", ["digits_cnn", "digits_mlp", "digits_rbf"])
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


# ---- lines

WRONG = """\
name: Made
authors:
  - a test
  - 7
date: 2026-11-24
licence: Apache-2.0
tracks: [digits, Cifar]
config:
  lr: 0.1
  Width: 8
"""


def test_every_complaint_has_its_line_and_what_is_missing_comes_last() -> None:
    with pytest.raises(ManifestError) as caught:
        parse(WRONG.encode())
    said = [(complaint.line, complaint.what.partition(":")[0]) for complaint in caught.value.complaints]
    expected = [(1, "name"), (4, "authors.1"), (6, "licence"), (7, "tracks.1"), (10, "config.Width.[key]")]
    assert said == [*expected, (None, "license")]
    assert str(caught.value).startswith("submission.yaml:1: name: ")


@pytest.mark.parametrize(
    ("more", "line", "says"),
    [
        (
            "config:\n  lr: 1.0\n  epochs: 5\nranges:\n  epochs: [10, 20]\n",
            8,
            "config.epochs: expected 10 to 20, got 5",
        ),
        ("ranges:\n  lr: [0, 1]\n", 7, "ranges for what config does not declare: lr"),
        ("config:\n  lr: .inf\n", 7, "config.lr: expected a finite number"),
        ("config:\n  deep:\n    a: [1, {b: .nan}]\n", 7, "config.deep: expected finite numbers"),
        ("config:\n  home: ${oc.env:HOME}\n", 7, "config.home: '${' would be filled in by Hydra"),
        ("config:\n  deep: [{a: 'x${seed}'}]\n", 7, "config.deep: '${' would be filled in"),
        ("config:\n  lr: '???'\n", 7, "config.lr: '???' stands for a missing value"),
        ("config:\n  day: 2026-11-24\n", 7, "config.day: expected a number, text, true"),
        ("config:\n  deep: {1: 2}\n", 7, "config.deep: expected names as keys"),
        (f"config:\n  seed: {2**63}\n", 7, "config.seed: expected an integer of at most 64 bits"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_complaint_about_a_hyperparameter_has_its_line(more: str, line: int, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse("\n".join([*complete_manifest(), more]).encode())
    assert str(caught.value).startswith(f"submission.yaml:{line}: {says}")


# ---- what YAML would do and a manifest may not


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("name: made\nname: other\n", 2, "the key 'name' stands here twice"),
        ("name: made\nconfig:\n  lr: 1\n  'lr': 2\n", 4, "the key 'lr' stands here twice"),
        ("name: &a made\n", 1, "anchors and aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 1, "anchors and aliases"),
        ("name: made\nconfig:\n  <<: {lr: 1}\n", 3, "merge keys"),
        ("name: !!str made\n", 1, "tags"),
        ("name: ! made\n", 1, "tags"),
        ("name: !!python/name:os.system\n", 1, "tags"),
        ("name: made\nconfig:\n  a: " + "[" * 12 + "]" * 12 + "\n", 3, "nested more than 12 deep"),
        ("[" * 60_000, 1, "nested more than 12 deep"),
        ("a: {" * 15_000, 1, "nested more than 12 deep"),
        ("name: made\ndate: 2026-13-45\n", 2, "month must be in 1..12"),
        ("config:\n  n: " + "9" * 5000 + "\n", 2, "digits"),
        ("config:\n  n: 1" + ":59" * 400 + ".5\n", 2, "too large"),
        ("? [a]\n: b\n", 1, "expected a name as key"),
        ("name: \x07\n", 1, "character 0x07"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_manifest_does_not_take_is_named_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(text.encode())
    assert str(caught.value).startswith(f"submission.yaml:{line}: not YAML: ")
    assert says in str(caught.value)


def test_what_is_no_text_is_named_with_its_line() -> None:
    with pytest.raises(ManifestError, match=r"submission\.yaml:3: not YAML: expected UTF-8"):
        parse(b"name: made\ntitle: x\nchanges: \xff\n")


def test_a_manifest_that_is_too_large_is_not_read() -> None:
    with pytest.raises(ManifestError, match="larger than 64 KiB"):
        parse(b"#" * (MAX_MANIFEST_BYTES + 1))


def test_a_manifest_that_is_a_pipe_is_no_manifest(submission: Write) -> None:
    path = submission(SOURCE) / "submission.yaml"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(KitError, match=r"submission\.yaml is missing"):
        load(path.parent)


def taken_or_refused(content: bytes) -> None:
    """Nothing but a KitError comes out; what is taken comes back from JSON and from Hydra as it was."""
    try:
        manifest = parse(content)
    except KitError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        return
    assert json.loads(json.dumps(manifest.config)) == manifest.config
    assert OmegaConf.to_container(OmegaConf.create(manifest.config), resolve=True) == manifest.config


PIECES = [
    *("name: made\n", "authors: [a]\n", "date: 2026-11-24\n", "license: MIT\n", "tracks: [digits]\n", "config:\n"),
    *("ranges:\n", "  lr: ", "  lr: [0, 1]\n", "  - ", "- ", "? ", ": ", "\n", " ", "\t", "[", "]", "{", "}", ",", "#"),
    *(
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!!timestamp ",
        "!<x> ",
        "|\n",
        ">-\n",
        "'",
        '"',
        "\\x",
        "---\n",
        "...\n",
        "%YAML 1.1\n",
    ),
    *(
        "0b_",
        "0x_",
        "1:2:3",
        "1_0",
        ".5e+9",
        "._",
        ".inf",
        ".nan",
        "2001-1-1 1:1:1 +99",
        "2026-02-30",
        "~",
        "null",
        "yes",
    ),
    *("9" * 400, "1e999", "${x}", "${", "???", "\\", "\u2028", "\ufeff", "\x85", "a" * 70),
]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(PIECES) | st.dates()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=6
)
KEYS = st.sampled_from([*Manifest.model_fields, "lr", "other"])


@st.composite
def whole(draw: st.DrawFn) -> bytes:
    """A manifest that may be right, with values of every kind."""
    config = draw(st.dictionaries(st.sampled_from(["lr", "width", "a_b", "LR"]), VALUES, max_size=3))
    content = {**yaml.safe_load("\n".join(complete_manifest())), "config": config}
    content |= draw(st.dictionaries(KEYS, VALUES, max_size=1))
    return yaml.safe_dump(content, allow_unicode=draw(st.booleans())).encode("utf-8", "surrogatepass")


@pytest.mark.timeout(3600)
def test_whatever_bytes_come_they_are_a_manifest_or_refused(fuzz_inputs: int) -> None:
    pieces = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
    after = pieces.map(lambda text: "\n".join([*complete_manifest(), "config:", "  lr: " + text]))
    fuzz(taken_or_refused, st.binary(max_size=80) | (pieces | after).map(str.encode) | whole(), fuzz_inputs)


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
