"""What reading a submission finds: every problem, each where it is and with what to do."""

import os
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz
from hypothesis import strategies as st
from support import ROOT

from kit.catalog import track_names
from kit.submission.problem import Problem
from kit.submission.static import examine, examine_folder

Write = Callable[..., Path]
FINE = """\
from kit import Run


def setup(run: Run):
    return None


def train(run: Run, state):
    run.evaluate(state)
"""


def problems(folder: Path) -> list[tuple[str, str, str]]:
    found = examine_folder(folder, track_names()).problems
    assert all(problem.fix for problem in found)
    return [(problem.severity, problem.where, problem.what) for problem in found]


def with_lines(*lines: str) -> str:
    return "\n".join(lines) + "\n" + FINE


def test_a_submission_that_is_fine_has_no_problems(submission: Write) -> None:
    assert problems(submission(FINE)) == []


@pytest.mark.parametrize("folder", sorted((ROOT / "baselines").iterdir()), ids=lambda path: path.name)
def test_the_baselines_have_no_problems(folder: Path) -> None:
    assert problems(folder) == []


def test_all_problems_come_in_one_list_errors_first(submission: Write) -> None:
    folder = submission(
        "import sklearn\nimport socket\ndef train(run): yield run.config.lr\n", license="mine", base="x"
    )
    (folder / "weights.pt").write_bytes(b"x")
    assert problems(folder) == [
        ("error", "submission.py", "setup is missing"),
        ("error", "submission.py:1", "imports sklearn: scikit-learn carries the digits with their labels; a sealed run "
         "does not have them"),
        ("error", "submission.py:3", "train cannot be called with 2 arguments"),
        ("error", "submission.py:3", "train is a generator: called, it would do nothing"),
        ("error", "submission.py:3", "config.lr is used and not declared"),
        ("error", "submission.yaml:5", "license: 'mine' is no SPDX licence expression"),
        ("error", "weights.pt", "not a kind of file that a submission holds"),
        ("flag", "submission.py:2", "socket reaches the network, which a sealed run does not have"),
        ("flag", "submission.yaml:3", "changes: nothing is said of what is different from x"),
    ]  # fmt: skip


# ---- entry points


GENERATOR = "train is a generator: called, it would do nothing"
CANNOT = "cannot be called with"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", ["setup is missing", "train is missing"]),
        ("def setup(run): ...\n", ["train is missing"]),
        ("class A:\n    def setup(run): ...\ndef train(run, state): ...\n", ["setup is missing"]),
        ("def setup(): ...\ndef train(run, state): ...\n", [f"setup {CANNOT} one argument"]),
        ("def setup(run, more): ...\ndef train(run, state): ...\n", [f"setup {CANNOT} one argument"]),
        ("def setup(run, *, more): ...\ndef train(run, state): ...\n", [f"setup {CANNOT} one argument"]),
        ("def setup(run): ...\ndef train(run): ...\n", [f"train {CANNOT} 2 arguments"]),
        ("def setup(run): ...\nasync def train(run, state): ...\n", ["train is async: called, it would do nothing"]),
        ("class setup: ...\ndef train(run, state): ...\n", ["setup is a class"]),
        ("def setup(run): ...\ndef train(run, state):\n    if run:\n        yield\n", [GENERATOR]),
        ("def setup(run): ...\ndef train(run, state): ...\ndef train(run): ...\n", [f"train {CANNOT} 2 arguments"]),
        ("def setup(run):\n  pass\n def train(run, state): ...\n", ["not Python: unindent does not match any outer"]),
        ("def setup(run): ...\nprint 'hello'\n", ["not Python: Missing parentheses in call to 'print'"]),
        ("\0", ["not Python: source code string cannot contain null bytes"]),
        ("x = " + "(" * 5000, ["not Python: too many nested parentheses"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_entry_points_that_cannot_be_called_are_errors(submission: Write, source: str, says: list[str]) -> None:
    found = problems(submission(source))
    assert len(found) == len(says)
    assert all(what.startswith(start) for (_, _, what), start in zip(found, says, strict=True)), found
    assert {severity for severity, _, _ in found} == {"error"}


@pytest.mark.parametrize(
    "source",
    [
        "def setup(run, compile=True): ...\ndef train(run, state, /): ...\n",
        "def setup(*run): ...\ndef train(run, *rest, **more): ...\n",
        "setup = lambda run: None\ntrain: object = print\n",
        "if True:\n    def setup(run): ...\nelse:\n    def setup(run): ...\ntry:\n    def train(run, state): ...\n"
        "except OSError:\n    pass\n",
        "def setup(run): return (x for x in [1])\ndef train(run, state):\n    def batches():\n        yield 1\n",
    ],
)
def test_entry_points_may_be_written_in_many_ways(submission: Write, source: str) -> None:
    assert problems(submission(source)) == []


# ---- hyperparameters


def body(text: str) -> str:
    return "def setup(run):\n    return None\n\n\ndef train(run, state):\n" + textwrap.indent(
        textwrap.dedent(text), "    "
    )


@pytest.mark.parametrize(
    "text",
    [
        "run.config.lr",
        "config = run.config\nprint(config.lr)",
        "config = run.config\ndef inner():\n    return config.lr\ninner()",
        "x = [run.config.lr for _ in range(3)]",
        "f = lambda: run.config.lr",
        "vars(run.config)",
        "getattr(run.config, 'lr')",
        "for c in (run.config,):\n    c.lr",
        "config: object = run.config\nconfig.lr",
        "config = run.config\nconfig = {}\nconfig.lr",
    ],
)
def test_a_declared_hyperparameter_that_may_be_used_is_fine(submission: Write, text: str) -> None:
    assert problems(submission(body(text), config={"lr": 0.1})) == []


def test_the_run_may_have_another_name(submission: Write) -> None:
    source = "def setup(job): return job.config.width\ndef train(r, state): r.config.lr\n"
    found = problems(submission(source, config={"lr": 0.1}))
    assert found == [("error", "submission.py:1", "config.width is used and not declared")]


def test_what_hides_the_configuration_is_not_the_configuration(submission: Write) -> None:
    text = (
        "config = run.config\nconfig.lr\ndef inner(config):\n    return config.width\nf = lambda config: config.depth\n"
    )
    assert problems(submission(body(text), config={"lr": 0.1})) == []


def test_a_hyperparameter_that_is_not_declared_is_an_error_once(submission: Write) -> None:
    found = problems(submission(body("run.config.lr\nrun.config.momentum\nrun.config.momentum"), config={"lr": 0.1}))
    assert found == [("error", "submission.py:7", "config.momentum is used and not declared")]


def test_a_hyperparameter_that_is_not_used_is_flagged_with_its_line(submission: Write) -> None:
    found = problems(submission(body("run.config.lr"), config={"lr": 0.1, "momentum": 0.9}))
    assert found == [("flag", "submission.yaml:5", "config.momentum is declared and not used")]


# ---- imports


@pytest.mark.parametrize(
    "line",
    [
        "import torch, torchvision, numpy as np, math, os, sys, json, time",
        "import torch.nn.functional as F",
        "from torch import nn",
        "import nvidia.dali.fn as fn",
        "from nvidia import dali",
        "import triton.language as tl",
        "import kit",
        "from kit import Run, Verdict",
        "signal = {}.get\nsignal.shape",
        "from torch.nn import functional as F",
    ],
)
def test_what_may_be_imported_is_fine(submission: Write, line: str) -> None:
    assert problems(submission(with_lines(line))) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import sklearn.datasets", "imports sklearn: scikit-learn carries the digits"),
        ("from sklearn import datasets", "imports sklearn"),
        ("import tensorflow", "imports tensorflow: a run may not have it"),
        ("import nvidia.nvtx", "of nvidia's packages there is nvidia.dali"),
        ("import pynvml", "imports pynvml"),
        ("import kit.referee", "kit.referee is not a submission's to import"),
        ("from kit.data.sources import digits", "kit.data.sources.digits is not"),
        ("from kit import trainer", "kit.trainer is not"),
        ("from kit import *", "kit.* is not"),
        ("from . import parts", "a relative import"),
        ("def f():\n    import sklearn", "imports sklearn"),
    ],
)
def test_what_may_not_be_imported_is_an_error(submission: Write, line: str, says: str) -> None:
    ((severity, _, what),) = problems(submission(with_lines(line)))
    assert severity == "error"
    assert says in what


def test_a_second_file_is_not_found_in_a_run(submission: Write) -> None:
    folder = submission(with_lines("import parts"))
    (folder / "parts.py").write_text("x = 1\n")
    assert problems(folder) == [("error", "submission.py:1", "imports parts.py, which is not found in a run")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("import ctypes", "ctypes reaches memory or code outside of Python"),
        ("from urllib.request import urlopen", "urllib reaches the network"),
        ("import torch\ntorch.hub.load('a', 'b')", "torch.hub reaches the network"),
        ("from torchvision import datasets", "torchvision.datasets reaches the network"),
        ("import os\nos.fork()", "os.fork starts processes"),
        ("import subprocess", "subprocess starts processes"),
        ("import numpy as np\nnp.load('x')", "numpy.load unpacks data"),
        ("import base64, zlib", "base64 unpacks data"),
        ("import gc", "gc looks into the kit's own objects"),
        ("import threading", "threading outlives or interrupts"),
        ("import importlib", "importlib imports or runs code by name"),
        ("__import__('sklearn')", "__import__ imports or runs what cannot be read here"),
        ("exec('x = 1')", "exec imports or runs"),
        ("run_it = eval", "eval imports or runs"),
        ("open('labels')", "open reads files"),
        ("labels = __file__", "__file__ reads files"),
    ],
)
def test_what_needs_a_look_is_flagged(submission: Write, line: str, says: str) -> None:
    found = problems(submission(with_lines(line)))
    assert found[0][0] == "flag"
    assert says in found[0][2]
    assert {severity for severity, _, _ in found} == {"flag"}


# ---- literals and texts


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x = 'ab cd ' * 2 + " + repr("words and words " * 200), "3,200 characters in one piece"),
        ("x = " + repr("".join(chr(33 + i * 37 % 90) + " " * (i % 9 == 0) for i in range(300))), "look random"),
        ("x = " + repr("0123456789abcdef" * 10), "160 characters without a space"),
        ("x = " + repr(bytes(range(256))), "256 characters that look random (8.0 bits each)"),
        ("x = " + repr(list(range(200))), "a literal of 200 values"),
        ("x = {'a': " + repr([[i, i] for i in range(70)]) + "}", "a literal of 141 values"),
        (f"x = {10**60}", "an integer of 200 bits"),
        ("x = 0x" + "f" * 6000, "an integer of 24,000 bits"),
        ('def f():\n    """' + "0123456789abcdef" * 20 + '"""', "320 characters without a space"),
        ("x = f'" + "0123456789abcdef" * 20 + "{1}'", "320 characters without a space"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_literal_that_could_hold_data_is_flagged(submission: Write, line: str, says: str) -> None:
    ((severity, where, what),) = problems(submission(with_lines(line)))
    assert (severity, where.partition(":")[0]) == ("flag", "submission.py")
    assert says in what


def test_a_long_documentation_of_words_is_not_flagged(submission: Write) -> None:
    assert problems(submission(f'"""{"Words and more words. " * 300}"""\n' + FINE)) == []


def test_a_default_that_could_hold_data_is_flagged(submission: Write) -> None:
    config = {"lr": [0.1] * 20, "labels": {"a": [list(range(60)), list(range(70))]}}
    found = problems(submission(FINE.replace("return None", "return run.config.lr, run.config.labels"), config=config))
    assert [(severity, what) for severity, _, what in found] == [("flag", "a default of 131 values")]


@pytest.mark.parametrize("name", ["README.md", "notes.txt"])
def test_text_that_could_hold_data_is_flagged(submission: Write, name: str) -> None:
    folder = submission(FINE)
    (folder / name).write_text("# made\n\n" + "0123456789abcdef" * 10 + "\n")
    assert problems(folder) == [("flag", f"{name}:3", "160 characters without a space")]


# ---- files


def test_too_much_is_an_error_and_is_not_read(submission: Write) -> None:
    folder = submission(FINE)
    with (folder / "big.txt").open("wb") as file:
        file.truncate(1 << 40)
    assert problems(folder) == [("error", "big.txt", "more than 1,048,576 bytes in all")]


def test_too_many_files_are_an_error(submission: Write) -> None:
    folder = submission(FINE)
    for number in range(150):
        (folder / f"notes{number}.txt").write_text("x")
    assert [what for _, _, what in problems(folder)][:1] == ["more than 100 files"]


@pytest.mark.parametrize(
    ("make", "severity", "says"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "error", "a link, not a file"),
        (lambda path: path.symlink_to("/"), "error", "a link, not a file"),
        (os.mkfifo, "error", "a pipe, not a file"),
    ],
)
def test_what_is_no_file_is_an_error(submission: Write, make: Callable[[Path], Any], severity: str, says: str) -> None:
    folder = submission(FINE)
    make(folder / "notes.txt")
    assert problems(folder) == [(severity, "notes.txt", says)]


def test_a_socket_is_an_error(submission: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = submission(FINE)
    monkeypatch.chdir(folder)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("notes.txt")
        assert problems(folder) == [("error", "notes.txt", "a socket, not a file")]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("notes.pdf", "not a kind of file"),
        ("Makefile", "not a kind of file"),
        ("n\u00f6tes.txt", "a name that does not mean the same on every machine"),
        ("a b.txt", "a name that does not mean the same on every machine"),
        (os.fsdecode(b"\xff.txt"), "a name that does not mean the same on every machine"),
        ("\x1b[2J.txt", "a name that does not mean the same on every machine"),
        ("Submission.py", "the same name as"),
        ("a" * 117 + ".txt", "a path of 121 characters"),
    ],
)
def test_a_file_that_a_submission_does_not_hold_is_an_error(submission: Write, name: str, says: str) -> None:
    folder = submission(FINE)
    (folder / name).write_text("")
    ((severity, where, what),) = problems(folder)
    assert severity == "error"
    assert says in what
    assert where.isprintable()


def test_hidden_files_are_flagged_and_caches_are_not_worth_a_word(submission: Write) -> None:
    folder = submission(FINE)
    (folder / ".git").mkdir()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "submission.pyc").write_text("x")
    assert problems(folder) == [("flag", ".git", "hidden: it is left out of packs and runs")]


# ---- the manifest


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"license": "MIT OR Apache-2.0"}, []),
        ({"license": "apache-2.0"}, []),
        ({"license": "Apache"}, [("error", "submission.yaml:3", "license: 'Apache' is no SPDX licence expression")]),
        ({"license": ""}, [("error", "submission.yaml:3", "license: '' is no SPDX licence expression")]),
        ({"tracks": ["digist"]}, [("flag", "submission.yaml:6", "no track 'digist' ships with the kit")]),
        ({"authors": ["your name"]}, [("flag", "submission.yaml:1", "authors: still a placeholder")]),
        ({"date": "2999-01-01"}, [("flag", "submission.yaml:3", "date: 2999-01-01 is to come")]),
        ({"base": "baselines/digits_cnn", "changes": "Wider."}, []),
        (
            {"name": "Made"},
            [("error", "submission.yaml:5", "name: String should match pattern '^[a-z0-9][a-z0-9_]*$'")],
        ),
    ],
    ids=str,
)
def test_what_the_manifest_says_is_looked_at(submission: Write, manifest: dict[str, Any], expected: list[Any]) -> None:
    found = [it for it in problems(submission(FINE, **manifest)) if not it[2].startswith("changes")]
    assert [(severity, where.partition(":")[0], what) for severity, where, what in found] == [
        (severity, where.partition(":")[0], what) for severity, where, what in expected
    ]
    assert all(":" in where for _, where, _ in found)


@pytest.mark.parametrize("name", ["submission.py", "submission.yaml"])
def test_a_missing_file_is_an_error(submission: Write, name: str) -> None:
    folder = submission(FINE)
    (folder / name).unlink()
    assert [where for _, where, what in problems(folder) if what.startswith("is missing: ")] == [name]


@pytest.mark.parametrize(
    "source",
    [
        "if x: pass\n" + "elif x: pass\n" * 5000,
        "lambda: " * 10_000,
        "-" * 100_000 + "1",
        "a" + ".b" * 100_000,
        "f" + "()" * 100_000,
    ],
    ids=["elif", "lambda", "minus", "attributes", "calls"],
)
def test_a_source_that_is_too_deep_for_python_is_an_error_with_a_reason(submission: Write, source: str) -> None:
    found = problems(submission(source))
    assert found[0][0] == "error"
    assert not found[0][2].endswith(":")


# ---- fuzzing

WORDS = [
    *(
        "def setup(run):",
        "def train(run, state):",
        "class A:",
        "return",
        "yield",
        "lambda x:",
        "import ",
        "from kit import",
    ),
    *(
        "\n",
        "\n    ",
        "run.config.",
        "config = run.config",
        "lr",
        "=",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        ".",
        "'",
        '"',
    ),
    *("f'{", "}'", "b'\\xff'", "9" * 5000, "0x" + "f" * 99, "if x:", "elif x:", "else:", "try:", "except*", "match x:"),
    *("case {}:", "async ", "await ", "*", "**", "@", "\\", "\0", "\u00e9", "\ufeff", "# coding: latin-1\n", "-" * 300),
]


def examined(content: bytes) -> None:
    found = examine({"submission.py": content, "notes.py": content, "README.md": content}, [], track_names())
    for problem in found.problems:
        assert isinstance(problem, Problem)
        assert problem.what.isprintable()
        assert not problem.what.endswith(":")


def test_whatever_the_source_is_reading_it_ends_in_a_list_of_problems() -> None:
    words = st.lists(st.sampled_from(WORDS), max_size=40)
    texts = words.map(" ".join) | words.map("".join)
    fuzz(examined, st.binary(max_size=100) | texts.map(str.encode), 1000)
