"""The training entries of DAWNBench (Coleman et al., 2017 to 2020)."""

import difflib
import re
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kit.errors import KitError
from kit.results.table import blank_is_none, models, read_table
from kit.track import Metric, Model

DAWNBENCH_FILE = Path(__file__).with_name("dawnbench_train.csv")
DAWNBENCH_PREFIX = "dawnbench:"
SHOWN = 6
"""Entries that a message names at most."""


class Task(Model):
    """What DAWNBench raced."""

    dataset: Literal["cifar10", "imagenet"]
    metric: Metric
    target: float
    train_images: int


TASKS = {
    "CIFAR10": Task(dataset="cifar10", metric="top1", target=0.94, train_images=50_000),
    "ImageNet": Task(dataset="imagenet", metric="top5", target=0.93, train_images=1_281_167),
}

FORWARD_MULTIPLY_ADDS = {
    "alexnet": 0.7142e9,
    "densenet121": 2.8342e9,
    "googlenet": 1.4984e9,
    "resnet18": 1.8141e9,
    "resnet50": 4.0892e9,
    "resnet152": 11.514e9,
    "vgg16": 15.4703e9,
}
"""Of one image of 224 x 224 pixels, by a model's name in small letters and digits. From torchvision's weights."""
FORWARD_PX = 224
FORWARD_LOG_ERROR = 0.03
"""Standard error of the log: one name covers variants (ResNet-50 with its strides elsewhere takes 6 % less)."""


SOURCE = "github.com/stanford-futuredata/dawn-bench-entries, commit fb27b827 (2020-03-26)"
NOTES = (
    "DAWNBench's clock leaves validation and checkpoints out; an entry is one run, chosen by its authors, and few say "
    "how often theirs reaches the target",
)

PRICE_FAULTS = {
    "monthly": "a month's subscription over 720 hours, where the rules ask for the price on demand",
    "swapped": "the price of the other one of p2.8xlarge (7.20) and g3.16xlarge (4.56)",
}
"""What is wrong with prices that were accepted."""
FAULTY_PRICES = {
    "CIFAR10/train/BAIDU-USA-GAIT_BaiduNet9P_8GV100_pytorch.json": "monthly",
    "CIFAR10/train/BAIDU-USA-GAIT_BaiduNet9_1GV100_pytorch.json": "monthly",
    "ImageNet/train/dawn_resnet152_b_4M60_ec2_tensorflow.json": "swapped",
    "ImageNet/train/dawn_resnet152_b_8k80_ec2_mxnet.json": "swapped",
}
"""By source file. Sources: dawn-bench-entries pull request 92; AWS's prices on demand of 2017."""


class DawnbenchEntry(Model):
    """One training entry of DAWNBench: the best of its authors' runs, stopped at the first row above the target."""

    task: Literal["CIFAR10", "ImageNet"]
    date: date
    author: str
    framework: str
    model: str
    hardware: str
    """Free text, as submitted."""
    hardware_read_as: Annotated[str | None, BeforeValidator(blank_is_none)]
    """The same said clearly, where the text leaves open what its date and price tell."""
    time_to_target_s: Annotated[float, Field(gt=0)]
    """DAWNBench's clock: without validation and checkpoints."""
    cost_per_hour_usd: Annotated[float | None, BeforeValidator(blank_is_none)]
    epoch_at_target: Annotated[float, Field(gt=0)]
    accuracy_at_target: float
    """Percent."""
    best_accuracy: float
    rows_in_tsv: Annotated[int, Field(gt=0)]
    """Evaluations in the whole run: the declared length of its recipe, where the target did not end it."""
    image_px: Annotated[int | None, BeforeValidator(blank_is_none)]
    """Side of the training images, where it is known and the same throughout."""
    recipe_of: Annotated[str | None, BeforeValidator(blank_is_none)]
    """The source file of the entry whose published code was run."""
    code_url: str
    source_file: str

    @property
    def id(self) -> str:
        """`dawnbench:CIFAR10/<name of the source file>`."""
        return f"{DAWNBENCH_PREFIX}{self.task}/{Path(self.source_file).stem}"

    @property
    def samples_to_target(self) -> float:
        """Training images seen, repetitions counted."""
        return self.epoch_at_target * TASKS[self.task].train_images

    @property
    def usd(self) -> float | None:
        """Price per hour times the time to target; None where no price was given."""
        return None if self.cost_per_hour_usd is None else self.cost_per_hour_usd * self.time_to_target_s / 3600

    @property
    def price_faults(self) -> tuple[str, ...]:
        """Names of what is known to be wrong with the price."""
        fault = FAULTY_PRICES.get(self.source_file)
        return () if fault is None or self.cost_per_hour_usd is None else (fault,)

    @property
    def recipe(self) -> "DawnbenchEntry":
        """The entry that the recipe was published with: itself, but for those who ran another's code."""
        return self if self.recipe_of is None else _by_source()[self.recipe_of]

    @property
    def code_repository(self) -> str | None:
        """`owner/name`, in small letters."""
        found = re.match(r"https://github\.com/([^/]+/[^/]+)", self.code_url)
        return found[1].lower() if found else None

    @property
    def training_flops(self) -> float | None:
        """3 x forward x images with a multiply-add as two operations, where model and image size are known."""
        forward = FORWARD_MULTIPLY_ADDS.get(plain_name(self.model))
        if forward is None or self.image_px != FORWARD_PX:
            return None
        return 2 * 3 * forward * self.samples_to_target


def plain_name(name: str) -> str:
    """Small letters and digits alone: "Resnet 50" and "ResNet-50" are one model."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


@cache
def dawnbench() -> tuple[DawnbenchEntry, ...]:
    """All training entries, as they stood when DAWNBench closed."""
    found = models(read_table(DAWNBENCH_FILE), DawnbenchEntry)
    assert not found.refused, found.refused
    return found.rows


@cache
def _by_source() -> dict[str, DawnbenchEntry]:
    return {entry.source_file: entry for entry in dawnbench()}


def find_dawnbench(wanted: str) -> DawnbenchEntry:
    """The entry of an id, with or without its task, or of the beginning of one where that is unique.

    Raises:
        KitError: There is none, or there are several.
    """
    text = wanted.removeprefix(DAWNBENCH_PREFIX).removesuffix(".json").replace("/train/", "/").lower()
    names = {entry: entry.id.removeprefix(DAWNBENCH_PREFIX).lower() for entry in dawnbench()}
    exactly = [entry for entry, name in names.items() if text in (name, name.partition("/")[2])]
    found = exactly or [
        entry for entry, name in names.items() if name.startswith(text) or name.partition("/")[2].startswith(text)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        listed = ", ".join(entry.id for entry in found[:SHOWN])
        raise KitError(f"'{wanted}' begins {len(found)} entries: {listed}{more}; give more of the name")
    likeness = {entry: _likeness(text, name) for entry, name in names.items()}
    near = [entry for entry, likely in sorted(likeness.items(), key=lambda pair: -pair[1])[:3] if likely > 0.6]
    hint = f"did you mean {', '.join(entry.id for entry in near)}?" if near else f"for example {dawnbench()[0].id}"
    raise KitError(f"there is no DAWNBench entry '{wanted}'; {hint}")


def _likeness(text: str, name: str) -> float:
    """Of what was typed to a part of a name, or to its beginning with or without the task; 1 is equal."""
    if text in name:
        return 1.0
    beginnings = (whole[: len(text)] for whole in (name, name.partition("/")[2]))
    return max(difflib.SequenceMatcher(None, text, beginning).ratio() for beginning in beginnings)
