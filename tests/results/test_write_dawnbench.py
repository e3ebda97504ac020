"""Records as entries of DAWNBench: by its own rules, with nothing made up, and the same when read back."""

import csv
import json
import re
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_record

from kit.errors import KitError
from kit.results.exchange.read_dawnbench import import_dawnbench
from kit.results.exchange.write_dawnbench import dawnbench_files
from kit.results.record import Cost, Evaluation, Progress, Record, Steps, Time

REQUIRED = {"version", "author", "authorEmail", "framework", "model", "hardware", "timestamp"}
COLUMNS = {
    "CIFAR10": ["epoch", "hours", "top1Accuracy"],
    "ImageNet": ["epoch", "hours", "top1Accuracy", "top5Accuracy"],
}
TARGETS = {"CIFAR10": 94.0, "ImageNet": 93.0}


def check_by_dawnbench_rules(folder: Path) -> None:
    """What tests/test_submissions.py of dawn-bench-entries asks of every training entry, its README, and good sense."""
    (description,) = folder.rglob("*.json")
    task, kind, name = description.relative_to(folder).parts
    assert kind == "train"
    assert re.fullmatch(r"[^_/]+_[^_/]+_[^_/]+_[^_/]+\.json", name), "<author>_<model>_<hwtag>_<framework>"
    content = json.loads(description.read_text())
    assert content.keys() >= REQUIRED
    assert content["version"] == "v1.0"
    datetime.strptime(content["timestamp"], "%Y-%m-%d")  # noqa: DTZ007 - as DAWNBench reads it
    assert isinstance(content.get("costPerHour", 0.0), float)
    with description.with_suffix(".tsv").open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert header == COLUMNS[task]
    assert rows
    hours, epochs, decisive = (
        [float(row[header.index(key)]) for row in rows] for key in ("hours", "epoch", header[-1])
    )
    assert hours == sorted(hours)
    assert epochs == sorted(epochs)
    assert all(0 <= value <= 100 for value in decisive), "percents"
    assert max(decisive) >= TARGETS[task]


def make_run(task: str = "CIFAR10", **differently: Any) -> Record:
    """A run on DAWNBench's target, of 2048 steps of 512 images."""
    raced = {"CIFAR10": ("cifar10", "top1", 0.94), "ImageNet": ("imagenet", "top5", 0.93)}[task]
    track = make_record().track.model_copy(update=dict(zip(("dataset", "metric", "target"), raced, strict=True)))
    submission = make_record().submission.model_copy(update={"config": {"batch_size": 512, "lr": 0.1}})
    content: dict[str, Any] = {
        "track": track,
        "submission": submission,
        "time": Time(to_target_s=120.0, total_s=120.5, setup_s=9.0, evaluation_s=1.5),
        "evaluations": (
            Evaluation(elapsed_s=60.25, evaluation_s=0.5, value=0.8, reached=False),
            Evaluation(elapsed_s=120.0, evaluation_s=0.5, value=0.9401, reached=True),
        ),
        "progress": tuple(Progress(optimizer_steps=2**n, elapsed_s=0.05 * 2**n) for n in range(11)),
        "steps": Steps(optimizer_steps=2048, loader_batches=2048, evaluations=2),
        "cost": Cost(usd_per_hour=3.06, price_source="https://example.org/prices", price_date=date(2026, 11, 1)),
    }
    return make_record(**content | differently)


@pytest.mark.parametrize("task", ["CIFAR10", "ImageNet"])
def test_an_entry_keeps_dawnbenchs_rules(task: str, tmp_path: Path) -> None:
    dawnbench_files(make_run(task)).write(tmp_path)
    check_by_dawnbench_rules(tmp_path)


def test_epochs_come_from_optimizer_steps_and_hours_from_the_kits_clock(tmp_path: Path) -> None:
    table = dawnbench_files(make_run()).table.splitlines()
    first, last = (line.split("\t") for line in table[1:])
    steps = 1024 + 1024 * (60.25 - 51.2) / (120.5 - 51.2)
    assert float(first[0]) == pytest.approx(steps * 512 / 50_000, rel=1e-5)
    assert float(last[0]) == pytest.approx(2048 * 512 / 50_000, rel=1e-2)
    assert [float(first[1]), float(last[1])] == [60.25 / 3600, 120 / 3600]
    assert [first[2], last[2]] == ["80.0", "94.01"]


def test_what_the_record_does_not_know_is_blank_and_said(tmp_path: Path) -> None:
    files = dawnbench_files(make_run("ImageNet", cost=None))
    assert files.blank == ("authorEmail", "top1Accuracy")
    description = json.loads(files.description)
    assert description["authorEmail"] == ""
    assert "costPerHour" not in description
    assert "codeURL" not in description
    assert [line.split("\t")[2] for line in files.table.splitlines()[1:]] == ["", ""]


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (
            make_record(),
            "DAWNBench raced for top1 of 94% on cifar10 and top5 of 93% on imagenet; this run for top1 of 90",
        ),
        (make_run(outcome="missed", reason="fell short"), "takes runs that reach the target; this one: missed"),
        (make_run(steps=None), "does not say how many optimizer steps"),
        (
            make_run(submission=make_record().submission),
            r"expected config.batch_size, a hyperparameter of the submission, got None",
        ),
        (
            make_run(submission=make_record().submission.model_copy(update={"config": {"batch_size": 10**400}})),
            r"expected config.batch_size, a hyperparameter of the submission, got 10+ \.\.\.",
        ),
    ],
)
def test_a_record_that_is_no_entry_is_refused_with_the_reason(run: Record, told: str) -> None:
    with pytest.raises(KitError, match=told):
        dawnbench_files(run)


def test_an_entry_is_written_again_over_itself_but_over_no_other(tmp_path: Path) -> None:
    dawnbench_files(make_run()).write(tmp_path)
    dawnbench_files(make_run()).write(tmp_path)
    with pytest.raises(KitError, match="is there already, and says something else"):
        dawnbench_files(make_run(seed=2)).write(tmp_path)


def test_names_of_authors_and_devices_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    submission = make_run().submission.model_copy(update={"authors": ("../../Ada / Bob", "\u96ea"), "name": ".._x"})
    for path in dawnbench_files(make_run(submission=submission)).write(tmp_path):
        assert path.resolve().parent == tmp_path.resolve() / "CIFAR10/train"
    check_by_dawnbench_rules(tmp_path)


@given(
    task=st.sampled_from(["CIFAR10", "ImageNet"]),
    moments=st.lists(st.floats(0.01, 1e6), min_size=1, max_size=8, unique=True).map(sorted),
    right=st.integers(0, 3000),
    usd_per_hour=st.none() | st.floats(0.01, 1e4),
    batch_size=st.integers(1, 65_536),
)
def test_what_is_read_back_has_the_same_time_accuracy_and_cost(
    tmp_path_factory: pytest.TempPathFactory,
    task: str,
    moments: list[float],
    right: int,
    usd_per_hour: float | None,
    batch_size: int,
) -> None:
    images, needed = {"CIFAR10": (10_000, 9_400), "ImageNet": (50_000, 46_500)}[task]
    accuracy = min(needed + right, images) / images
    cost = usd_per_hour and Cost(
        usd_per_hour=usd_per_hour, price_source="https://example.org", price_date=date(2026, 11, 1)
    )
    record = make_run(
        task,
        time=Time(to_target_s=moments[-1], total_s=moments[-1], setup_s=1.0, evaluation_s=0.0),
        evaluations=tuple(
            Evaluation(
                elapsed_s=at, evaluation_s=0, value=accuracy if at == moments[-1] else 0.5, reached=at == moments[-1]
            )
            for at in moments
        ),
        progress=(),
        cost=cost,
        submission=make_run().submission.model_copy(update={"config": {"batch_size": batch_size}}),
    )
    folder = tmp_path_factory.mktemp("entries")
    dawnbench_files(record).write(folder)
    check_by_dawnbench_rules(folder)
    found = import_dawnbench(folder)
    assert (found.refused, found.notes) == ((), ())
    (entry,) = found.rows
    assert entry.time_to_target_s == pytest.approx(moments[-1], abs=1e-6)
    assert entry.accuracy_at_target == round(100 * accuracy, 10)
    assert entry.cost_per_hour_usd == usd_per_hour
    if usd_per_hour is not None:
        assert entry.time_to_target_s * usd_per_hour / 3600 == pytest.approx(record.usd, rel=1e-4)
    assert entry.epoch_at_target == pytest.approx(
        2048 * batch_size / (50_000 if task == "CIFAR10" else 1_281_167), rel=1e-5
    )
