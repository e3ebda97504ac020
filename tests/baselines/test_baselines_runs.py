"""Baselines trained for real, small, on synthetic data in the published formats, as a user would do it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paper import count
from support import ROOT, Finished, kit, why_no_sandbox

from kit.data.prepared import read
from kit.results.record import Flops


class Small(NamedTuple):
    """How a baseline is made small, and what it reaches then."""

    track: str
    config: dict[str, Any]
    reaches: float | None
    """By the track's metric, on the data below; chance is 0.1 on letters. None: trains to its last epoch, and what it
    learns on so little is not known."""

    @property
    def overrides(self) -> list[str]:
        """As they are typed."""
        return [f"config.{name}={json.dumps(value).replace(' ', '')}" for name, value in self.config.items()]


SMALL = {
    "cifar10_resnet18": Small("cifar10", {"width": 8, "epochs": 2, "batch_size": 50}, None),
    "cifar10_resnet9": Small(
        "cifar10",
        {
            "width": 16,
            "epochs": 6,
            "batch_size": 50,
            "ghost_batch": 25,
            "lr": 0.1,
            "ema_decay": 0.9,
            "first_evaluation": 4,
        },
        0.2,
    ),
    "cifar10_speed": Small("cifar10", {"width": 16, "epochs": 2, "batch_size": 100}, 0.4),
    "imagenet_alexnet": Small(
        "imagenet_alexnet",
        {"classes": 12, "size": 64, "epochs": 2, "batch_size": 20, "first_evaluation": 1},
        None,
    ),
    "imagenet_resnet50": Small(
        "imagenet",
        {
            "classes": 12,
            "epochs": 4,
            "small_size": 32,
            "large_size": 64,
            "test_size": 64,
            "batch_size": 20,
            "test_batch_size": 30,
            "first_evaluation": 2,
        },
        None,
    ),
    "imagenet_efficientnet_b0": Small(
        "imagenet_alexnet",
        {
            "classes": 12,
            "sizes": [48, 64, 64, 64],
            "test_size": 64,
            "batch_size": 20,
            "test_batch_size": 30,
            "first_evaluation": 2,
        },
        None,
    ),
}


def at_full_size(name: str) -> pytest.MarkDecorator:
    """The mark of a step and an evaluation: ImageNet's take two minutes each, and ResNet-50's 12 GB of memory."""
    return pytest.mark.long if name.startswith("imagenet") else pytest.mark.slow


def made(folder: Path, kind: str, *amounts: str) -> Path:
    """Prepared rehearsal data."""
    for command in (
        ["data", "synthesize", kind, str(folder / "drawn"), *amounts],
        ["data", "prepare", kind, "--source", str(folder / "drawn"), "--data-dir", str(folder), "--rehearsal"],
    ):
        done = kit(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10's archive: 1500 + 300 letters."""
    return made(tmp_path_factory.mktemp("letters"), "cifar10", "--train", "1500", "--test", "300")


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's tree: 240 + 60 drawings of twelve letters."""
    amounts = ["--classes", "12", "--train", "240", "--test", "60"]
    return made(tmp_path_factory.mktemp("drawings"), "imagenet", *amounts)


def trained(
    name: str, kit_run: Callable[..., Finished], request: pytest.FixtureRequest, *overrides: str
) -> tuple[dict[str, Any], Path]:
    """The record of a small run, and where its data lie."""
    small = SMALL[name]
    data: Path = request.getfixturevalue("letters" if small.track == "cifar10" else "drawings")
    done = kit_run(
        f"submission={ROOT / 'baselines' / name}",
        f"track={small.track}",
        "track.rehearsal=true",
        f"track.target={small.reaches or 1}",
        f"data_dir={data}",
        *small.overrides,
        *overrides,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.record, data / small.track.partition("_")[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SMALL)
def test_a_small_baseline_trains_sealed_and_its_replay_counts_what_was_counted_on_paper(
    name: str, kit_run: Callable[..., Finished], request: pytest.FixtureRequest
) -> None:
    isolation = "process" if why_no_sandbox() else "sandbox"
    record, data = trained(name, kit_run, request, f"isolation={isolation}", "count_fully_below_s=1e9")
    reached = SMALL[name].reaches is not None
    assert record["outcome"] == ("reached" if reached else "missed"), record["reason"]
    assert record["isolation"]["mode"] == isolation
    flops = record["flops"]
    assert flops["method"] == "replay"
    assert flops["trusted"], flops["untrusted_because"]
    assert Flops.model_validate(flops).not_rated_because is None
    spec = read(data).spec
    paper = count(name, spec, evaluations=len(record["evaluations"]), **SMALL[name].config)
    assert (flops["train_total"], flops["evaluation_total"]) == (paper.training, paper.evaluation)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(set(SMALL) - {"cifar10_speed"}))  # which uses no loader
def test_a_small_baseline_also_trains_with_the_torch_loader(
    name: str, kit_run: Callable[..., Finished], request: pytest.FixtureRequest
) -> None:
    record, _ = trained(name, kit_run, request, "loader=torch", "max_steps=3", "count_flops=false")
    assert record["outcome"] == "partial", record["reason"]
    assert record["steps"]["optimizer_steps"] == 3


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [pytest.param(name, marks=at_full_size(name)) for name in SMALL])
def test_a_baseline_passes_the_check(name: str, tmp_path: Path) -> None:
    done = kit("check", str(ROOT / "baselines" / name), "--json", "--data-dir", str(tmp_path))
    checked = json.loads(done.stdout)
    assert checked["passed"], checked["problems"]
