"""`kit data`, and runs on every kind of data, through the commands that a user would type."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import ROOT

from kit.catalog import load_track, track_names
from kit.data.prepared import read
from kit.errors import KitError

TRACKS: dict[str, tuple[str, float]] = {
    "cifar10": ("top1", 0.94),
    "cifar10_96": ("top1", 0.96),
    "imagenet": ("top5", 0.93),
    "imagenet_alexnet": ("top5", 0.791),
    "imagenet_mlperf": ("top1", 0.759),
}


def kit(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kit.cli", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def succeeds(*arguments: object) -> str:
    done = kit(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fails(*arguments: object) -> str:
    """A user's mistake: status 2 and one line."""
    done = kit(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


# ---- tracks


@pytest.mark.parametrize("name", TRACKS)
def test_a_track_has_the_target_of_the_competition_that_it_stands_for(name: str) -> None:
    track = load_track(name)
    assert (track.metric, track.target) == TRACKS[name]


@pytest.mark.parametrize("name", track_names())
def test_a_track_is_named_as_its_file_and_says_all_that_entries_share(name: str) -> None:
    track = load_track(name)
    assert track.name == name
    assert track.rules
    assert track.baseline.startswith("baselines/")


@pytest.mark.parametrize("name", ["digits", "glyphs"])
def test_data_that_anybody_can_make_are_pinned(name: str) -> None:
    assert load_track(name).dataset_fingerprint is not None


@pytest.mark.parametrize("content", ["", "name: x", "[1, 2", "name: \xff", "{name: x, nonsense: 1}"])
def test_a_track_file_that_is_wrong_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content, "latin1")
    with pytest.raises(KitError, match=r"mine\.yaml"):
        load_track(str(path))


def test_an_unknown_track_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    message = fails("data", "prepare", "nothing", "--data-dir", tmp_path)
    assert "'nothing'" in message
    assert "cifar10" in message


# ---- commands


def states(data_dir: Path) -> dict[str, Any]:
    return {row["track"]: row for row in json.loads(succeeds("data", "list", "--json", "--data-dir", data_dir))}


def test_list_tells_what_is_there(tmp_path: Path) -> None:
    assert {row["state"] for row in states(tmp_path).values()} == {"absent"}
    succeeds("data", "prepare", "digits", "--data-dir", tmp_path)
    (tmp_path / ".imagenet.partial").mkdir()
    found = states(tmp_path)
    assert found["digits"]["state"] == "prepared"
    assert found["digits"]["fingerprint"] == load_track("digits").dataset_fingerprint
    assert found["imagenet_mlperf"]["state"] == "interrupted"
    table = succeeds("data", "list", "--data-dir", tmp_path)
    assert "65d7b75c28f6" in table
    assert "kit data prepare TRACK" in table
    (tmp_path / "digits" / "dataset.json").write_text("{}")
    assert states(tmp_path)["digits"]["state"] == "damaged"


def test_preparing_twice_changes_nothing(tmp_path: Path) -> None:
    first = succeeds("data", "prepare", "digits", "--data-dir", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*")}
    assert succeeds("data", "prepare", "digits", "--data-dir", tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "digits").rglob("*")} == before


def test_verify_names_the_file_with_a_flipped_bit(tmp_path: Path) -> None:
    succeeds("data", "prepare", "digits", "--data-dir", tmp_path)
    assert "whole" in succeeds("data", "verify", "digits", "--data-dir", tmp_path)
    path = tmp_path / "digits" / "public" / "test_images.npy"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert str(path) in fails("data", "verify", "digits", "--data-dir", tmp_path)


def test_verify_refuses_intact_data_that_are_not_those_of_the_track(tmp_path: Path) -> None:
    succeeds("data", "prepare", "digits", "--data-dir", tmp_path)
    (tmp_path / "digits").rename(tmp_path / "glyphs")
    assert "is not that of track glyphs" in fails("data", "verify", "glyphs", "--data-dir", tmp_path)


def test_data_that_must_be_given_say_how(tmp_path: Path) -> None:
    assert "--source FOLDER" in fails("data", "prepare", "imagenet", "--data-dir", tmp_path)
    assert "dataset.json" in fails("data", "verify", "imagenet", "--data-dir", tmp_path)


def test_data_that_are_made_on_the_spot_take_no_source(tmp_path: Path) -> None:
    for option in (["--source", tmp_path], ["--rehearsal"]):
        assert "leave --source and --rehearsal out" in fails(
            "data", "prepare", "digits", "--data-dir", tmp_path, *option
        )
    own = ["data", "prepare", ROOT / "docs" / "own_data" / "track" / "shapes.yaml", "--data-dir", tmp_path]
    assert "leave --rehearsal out" in fails(*own, "--rehearsal")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_nothing_is_synthesized_over_what_is_there(tmp_path: Path) -> None:
    arguments = ["data", "synthesize", "imagenet", tmp_path / "drawn", "--classes", 2, "--train", 2, "--test", 2]
    succeeds(*arguments)
    assert "is there already" in fails(*arguments)


# ---- runs


@pytest.fixture
def enter(tmp_path: Path) -> Callable[..., Any]:
    """Writes a submission, runs it on a track and gives the record."""

    def run(source: str, track: str, data_dir: Path, *overrides: object) -> Any:
        folder = tmp_path / "submissions" / "made"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "submission.py").write_text(source)
        manifest = {
            "name": "made",
            "authors": ["a test"],
            "date": "2026-11-24",
            "license": "Apache-2.0",
            "tracks": [track],
        }
        (folder / "submission.yaml").write_text(yaml.safe_dump(manifest))
        places = [f"data_dir={data_dir}", f"results_dir={tmp_path / 'results'}", f"submission={folder}"]
        done = kit("run", *places, *overrides)
        records = sorted((tmp_path / "results").glob("2*/record.json"), key=lambda path: path.stat().st_mtime_ns)
        assert records, done.stdout + done.stderr
        return json.loads(records[-1].read_text())

    return run


COUNTING = """
import torch

def setup(run):
    images, labels = run.sample(4)
    assert images.shape == (4, 1, 5, 5)

def train(run, state):
    '''The label stands in the first pixel; every 7th prediction is wrong on purpose.'''
    seen = 0
    def predict(images):
        nonlocal seen
        pixels = (images[:, 0, 0, 0] * STD + MEAN).mul(255).round().long()
        numbers = torch.arange(seen, seen + len(images))
        seen += len(images)
        answers = torch.where(numbers % 7 == 0, (pixels + 1) % 10, pixels)
        return torch.nn.functional.one_hot(answers, 10).float()
    verdict = run.evaluate(predict, batch_size=1000)
    assert seen == 10_003, seen
    run.log(value=verdict.value)
"""


@pytest.mark.parametrize("loader", ["dali", "torch"])
def test_a_test_set_of_10003_images_is_scored_on_10003(tmp_path: Path, enter: Callable[..., Any], loader: str) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 100), ("test", 10_003)):
        labels = np.arange(count) % 10
        images = random.integers(0, 256, (count, 1, 5, 5), dtype=np.uint8)
        images[:, 0, 0, 0] = labels
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(tmp_path / "mine.npz", **arrays)
    (tmp_path / "conf" / "track").mkdir(parents=True)
    track = yaml.safe_load((ROOT / "conf" / "track" / "digits.yaml").read_text())
    track |= {"name": "mine", "dataset": "mine", "source": "arrays", "dataset_fingerprint": None, "target": 0.5}
    (tmp_path / "conf" / "track" / "mine.yaml").write_text(yaml.safe_dump(track))
    file = tmp_path / "conf" / "track" / "mine.yaml"
    succeeds("data", "prepare", file, "--source", tmp_path / "mine.npz", "--data-dir", tmp_path / "data")
    spec = read(tmp_path / "data" / "mine").spec
    source = COUNTING.replace("STD", repr(spec.std[0])).replace("MEAN", repr(spec.mean[0]))
    record = enter(
        source, "mine", tmp_path / "data", "--config-dir", tmp_path / "conf", "track=mine", f"loader={loader}"
    )
    assert record["outcome"] == "reached", record
    wrong = len(range(0, 10_003, 7))
    assert record["evaluations"][0]["value"] == pytest.approx(1 - wrong / 10_003, abs=1e-12)
    assert record["flops"]["trusted"] is True


LEARNS_IMAGES = """
import torch
from torch import nn

def setup(run):
    images, labels = run.sample(3, size=48, channels_last=True)
    assert images.shape == (3, 3, 48, 48)
    assert images.is_contiguous(memory_format=torch.channels_last)
    layers = nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6)
    return nn.Sequential(*layers)

def train(run, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sizes = []
    loader = run.loader("train", 10, size=[32, 32, 48], crop_area=(0.25, 1), flip=True, channels_last=True)
    for epoch in range(4):
        for images, labels in loader:
            sizes.append(images.shape[-1])
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert sizes == [32] * 12 + [48] * 12, sizes
    for wrong in ({"crop_padding": 2}, {"cutout": 2}, {"size": 0}, {"crop_area": (0.5, 0.1)}):
        try:
            run.loader("train", 10, **wrong)
        except ValueError:
            continue
        raise AssertionError(wrong)
    try:
        run.arrays("train")
    except ValueError:
        run.evaluate(model, size=48)
"""


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared rehearsal data of ImageNet's format: 60 + 33 drawings of six letters."""
    folder = tmp_path_factory.mktemp("imagenet")
    succeeds("data", "synthesize", "imagenet", folder / "drawn", "--classes", 6, "--train", 60, "--test", 33)
    succeeds("data", "prepare", "imagenet", "--source", folder / "drawn", "--data-dir", folder / "data", "--rehearsal")
    return folder / "data"


@pytest.mark.parametrize("loader", ["dali", "torch"])
def test_encoded_images_are_trained_on_and_judged_by_top_5(
    images_dir: Path, enter: Callable[..., Any], loader: str
) -> None:
    record = enter(
        LEARNS_IMAGES, "imagenet", images_dir, "track=imagenet", "track.rehearsal=true", "track.target=0.5",
        f"loader={loader}",
    )  # fmt: skip
    assert record["outcome"] == "reached", record["reason"]
    right = record["evaluations"][0]["value"] * 33
    assert right == pytest.approx(round(right))
    assert record["steps"] == {"optimizer_steps": 24, "loader_batches": 24, "evaluations": 1}
    assert record["flops"]["trusted"] is True
    assert record["track"]["rehearsal"] is True
    assert record["track"]["dataset_fingerprint"] == read(images_dir / "imagenet").fingerprint


def test_rehearsal_data_are_no_entry(images_dir: Path, tmp_path: Path, enter: Callable[..., Any]) -> None:
    assert states(images_dir)["imagenet"]["state"] == "other"
    with pytest.raises(AssertionError, match="rehearsal data, not the published data of track imagenet"):
        enter(LEARNS_IMAGES, "imagenet", images_dir, "track=imagenet")
    assert "rehearsal data" in fails("data", "prepare", "imagenet", "--data-dir", images_dir)


LEARNS_ARRAYS = """
import torch
from torch import nn

def setup(run):
    return nn.Sequential(nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 14 * 14, 10))

def train(run, model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for epoch in range(6):
        for images, labels in run.loader("train", 50, crop_padding=2, cutout=4):
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    run.evaluate(model)
"""


@pytest.mark.parametrize("version", ["cifar10", "cifar10-binary"])
def test_a_cifar10_archive_goes_all_the_way_to_a_verdict(
    tmp_path: Path, enter: Callable[..., Any], version: str
) -> None:
    succeeds("data", "synthesize", version, tmp_path / "drawn", "--train", 2000, "--test", 203)
    prepare = ["data", "prepare", "cifar10", "--source", tmp_path / "drawn", "--data-dir", tmp_path / "data"]
    assert "--rehearsal" in fails(*prepare)
    succeeds(*prepare, "--rehearsal")
    record = enter(
        LEARNS_ARRAYS, "cifar10", tmp_path / "data", "track=cifar10", "track.rehearsal=true", "track.target=0.2"
    )
    assert record["outcome"] == "reached", record["reason"]
    assert record["evaluations"][0]["value"] > 0.2  # one in ten would be chance


def test_misuse_of_a_loader_for_arrays_is_the_submissions_error(tmp_path: Path, enter: Callable[..., Any]) -> None:
    source = "def setup(run): pass\ndef train(run, state): run.loader('train', 10, size=64)\n"
    record = enter(source, "digits", tmp_path / "data", "track=digits")
    assert record["outcome"] == "crashed"
    assert "sizes: for encoded images of any size, which track digits does not have" in record["reason"]
