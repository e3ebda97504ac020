"""A record as an entry that DAWNBench's rules accept: `<task>/train/<author>_<model>_<hardware>_<framework>`, twice.

What the record does not know is not made up: an e-mail address and, on ImageNet, top-1 accuracies are left blank, and
without the number of images per step, which the epochs of the table take, there is no entry.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.results.exchange.read_dawnbench import DIGITS, HEADERS, METRICS, Task
from kit.results.exchange.steps import is_batch_size, optimizer_steps_at
from kit.results.imported import shortened, write_text
from kit.results.published.dawnbench import TASKS
from kit.results.record import Record

BATCH_SIZE = "batch_size"
"""The hyperparameter: images per optimizer step, of all devices together."""


@dataclass(frozen=True)
class DawnbenchFiles:
    """An entry."""

    stem: str
    """Below the folder of entries: `CIFAR10/train/ada_net_1x-v100_pytorch`."""
    description: str
    table: str
    blank: tuple[str, ...]
    """What the record does not know, and somebody has to fill in before it is handed in."""

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both files.

        Raises:
            KitError: There are others of that name.
        """
        json_path, tsv_path = folder / f"{self.stem}.json", folder / f"{self.stem}.tsv"
        write_text(json_path, self.description)
        write_text(tsv_path, self.table)
        return json_path, tsv_path


def dawnbench_files(record: Record) -> DawnbenchFiles:
    """The entry of a run.

    Its hours are the record's: of a clock that does not pause for evaluations, as DAWNBench's does.

    Raises:
        KitError: The run raced for another target than DAWNBench's, missed it, or does not say its images per step.
    """
    task = _task(record)
    if record.outcome != "reached" or record.time.to_target_s is None:
        raise KitError(f"record {record.id}: DAWNBench takes runs that reach the target; this one: {record.outcome}")
    batch_size = record.submission.config.get(BATCH_SIZE)
    if not is_batch_size(batch_size):
        raise KitError(
            f"record {record.id}: each row of DAWNBench's table has an epoch, which takes the images per optimizer "
            f"step: expected config.{BATCH_SIZE}, a hyperparameter of the submission, got {shortened(repr(batch_size))}"
        )
    blank = ["authorEmail"] + (["top1Accuracy"] if task == "ImageNet" else [])
    author = ", ".join(record.submission.authors)
    hardware = f"{record.device.count} x {record.device.name}"
    parts = (author, record.submission.name, hardware, "pytorch")
    return DawnbenchFiles(
        stem=f"{task}/train/{'_'.join(_slug(part) for part in parts)}",
        description=json.dumps(_description(record, author, hardware), indent=2, allow_nan=False) + "\n",
        table=_table(record, task, batch_size),
        blank=tuple(blank),
    )


def _task(record: Record) -> Task:
    track = record.track
    for task in HEADERS:
        raced = TASKS[task]
        if (track.dataset, track.metric, track.target) == (raced.dataset, raced.metric, raced.target):
            return task
    targets = " and ".join(f"{task.metric} of {task.target:.0%} on {task.dataset}" for task in TASKS.values())
    raise KitError(
        f"record {record.id}: DAWNBench raced for {targets}; this run for {track.metric} of {track.target:.1%} "
        f"on {track.dataset}"
    )


def _description(record: Record, author: str, hardware: str) -> dict[str, Any]:
    cost = record.cost
    content: dict[str, Any] = {
        "version": "v1.0",
        "author": author,
        "authorEmail": "",
        "framework": f"PyTorch {record.software.torch}",
        "model": record.submission.name,
        "hardware": hardware,
        "timestamp": record.started_at.date().isoformat(),
    }
    if cost is not None:
        content["costPerHour"] = cost.usd_per_hour
    content["misc"] = {
        "kit_version": record.kit_version,
        "record": record.id,
        "source_sha256": record.submission.source_sha256,
        "config": record.submission.config,
        "seed": record.seed,
        "isolation": record.isolation.mode,
        "clock": "never paused: hours include evaluations",
        "evaluation_s": record.time.evaluation_s,
        "epochs": "from optimizer steps, interpolated between those that the referee timed",
        "price": None if cost is None else f"{cost.price_source}, {cost.price_date}",
    }
    return content


def _table(record: Record, task: Task, batch_size: int) -> str:
    images = TASKS[task].train_images
    lines = ["\t".join(HEADERS[task])]
    for evaluation in record.evaluations:
        steps = optimizer_steps_at(record, evaluation.elapsed_s)
        if steps is None:
            raise KitError(f"record {record.id}: it does not say how many optimizer steps there were: no epochs")
        cells = {
            "epoch": f"{steps * batch_size / images:.6g}",
            "hours": repr(evaluation.elapsed_s / 3600),
            METRICS[task]: repr(round(evaluation.value * 100, DIGITS)),
        }
        lines.append("\t".join(cells.get(name, "") for name in HEADERS[task]))
    return "\n".join(lines) + "\n"


def _slug(text: str) -> str:
    """Text as a part of a file's name, in which `_` is what parts it."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.").lower()[:60] or "unknown"
