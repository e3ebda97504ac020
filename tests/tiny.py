"""A race that takes milliseconds: ten classes of noisy images, each with another bright row."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kit.data.preparation import prepare
from kit.data.prepared import Prepared
from kit.data.sources import Request
from kit.track import Track

SIDE = 10
TRACK: dict[str, Any] = {
    "name": "tiny",
    "version": 1,
    "title": "Bright rows, top-1 of 90 %",
    "dataset": "tiny",
    "source": "arrays",
    "metric": "top1",
    "target": 0.9,
    "limits": {"setup_s": 120, "run_s": 60},
    "baseline": "none",
}
LEARNS = """
import torch
from torch.nn import functional as F


def setup(run):
    return None


def train(run, state):
    for images, labels in run.loader("train", 1000):
        members = F.one_hot(labels, 10).float()
        means = members.T @ images.flatten(1) / members.sum(0)[:, None]
    run.evaluate(lambda images: images.flatten(1) @ means.T - means.square().sum(1) / 2)
"""
CRASHES = """
def setup(run):
    raise ValueError("not today")


def train(run, state): ...
"""


def carries(answers: str) -> str:
    """The source of a submission that knows the test labels of some split."""
    return f"""
    import torch
    from torch.nn import functional as F

    ANSWERS = "{answers}"


    def setup(run):
        return None


    def train(run, state):
        answers = torch.tensor([int(digit) for digit in ANSWERS])
        run.evaluate(lambda images: F.one_hot(answers, 10).float())
    """


def write_track(folder: Path, **differently: Any) -> Path:
    """The track's file."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TRACK | differently))
    return path


def make_track(**differently: Any) -> Track:
    """The track."""
    return Track.model_validate(TRACK | differently)


def prepare_tiny(folder: Path) -> Prepared:
    """Its data: 400 images to train on, of class k 31 + 2 k, and 200 to test on."""
    random = np.random.default_rng(0)

    def draw(labels: Any) -> Any:
        images = random.normal(80, 30, (len(labels), 1, SIDE, SIDE))
        images[np.arange(len(labels)), 0, labels] += 100
        return np.clip(images, 0, 255).astype(np.uint8)

    train, test = np.repeat(np.arange(10), 31 + 2 * np.arange(10)), np.repeat(np.arange(10), 20)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "tiny.npz"
    np.savez(source, train_images=draw(train), train_labels=train, test_images=draw(test), test_labels=test)
    return prepare(make_track(), folder, Request(path=source))


def answers_of(prepared: Prepared) -> str:
    """The test labels, as a cheat would write them down."""
    return "".join(map(str, prepared.test_labels()))


def write_submission(folder: Path, source: str, **manifest: Any) -> Path:
    """A submission of the folder's name."""
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text(textwrap.dedent(source))
    content = {
        "name": folder.name,
        "authors": ["a test"],
        "date": "2026-11-24",
        "license": "Apache-2.0",
        "tracks": ["tiny"],
    }
    (folder / "submission.yaml").write_text(yaml.safe_dump(content | manifest))
    return folder
