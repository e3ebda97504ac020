"""Histories of AI and Efficiency and of DAWNBench, and of files with their columns."""

import datetime
from collections.abc import Iterable, Sequence

from kit.analysis.history import UNITS, FixedHardware, History, Points, TrainedModel, legend
from kit.analysis.material import LeftOut
from kit.analysis.progress import By, Claim, Progress, Series, measure_progress
from kit.errors import KitError
from kit.hardware.text import parse_hardware
from kit.results.imported import Remark
from kit.results.published import ai_and_efficiency as efficiency
from kit.results.published import dawnbench as dawn

FIXED_DEVICE, FIXED_COUNTS = "V100", (1, 8)
"""The hardware that DAWNBench's entries were most often on."""


def history_of_efficiency(
    name: str, rows: Iterable[efficiency.EfficiencyRow], refused: Iterable[Remark], by: By | None
) -> History:
    """A series for each level.

    Raises:
        KitError: By anything but operations.
    """
    if by not in (None, "flops"):
        raise KitError(f"{name} knows training operations alone; expected --by flops, got --by {by}")
    points = Points(left_out=_lines(name, refused))
    for row in rows:
        points.add(
            row.level,
            f"{name}, {row.level}: {row.model}",
            date=row.date,
            cost=float(row.teraflops_s_days),
            label=row.model,
            source=row.link,
            published_ratio=row.listed_ratio,
            flags=row.faults,
        )
    progress = []
    for level, of_level in points.of.items():
        known = efficiency.LEVELS.get(str(level))
        progress.append(
            measure_progress(
                Series(
                    name=str(level),
                    title=known.title if known else "",
                    by="flops",
                    unit="teraflop/s-days",
                    points=tuple(of_level),
                    claim=known
                    and Claim(
                        ratio=known.published_ratio,
                        doubling_months=known.published_doubling_months,
                        source="arXiv 2005.04305, table 2",
                    ),
                )
            )
        )
    return History(
        name=name,
        by="flops",
        source=None,
        progress=tuple(progress),
        notes=efficiency.NOTES,
        flags=legend(progress, efficiency.FAULTS),
        left_out=tuple(points.left_out),
    )


def paper_models() -> tuple[TrainedModel, ...]:
    """What AI and Efficiency's authors trained to AlexNet's level, the dearest first."""
    found = efficiency.ai_and_efficiency_models()
    baseline = next(model for model in found if model.model == efficiency.BASELINE)
    return tuple(
        TrainedModel(
            label=model.model,
            epochs=model.epochs,
            multiply_adds_per_image=model.gmac_per_image * 1e9,
            cost=model.teraflops_s_days,
            ratio=baseline.teraflops_s_days / model.teraflops_s_days,
        )
        for model in sorted(found, key=lambda model: -model.teraflops_s_days)
    )


def history_of_dawnbench(
    name: str, entries: Sequence[dawn.DawnbenchEntry], refused: Iterable[Remark], by: By | None
) -> History:
    """A series for each task, and by time those of the hardware that is held fixed.

    Raises:
        KitError: By anything but time and cost.
    """
    by = by or "time"
    if by not in ("time", "cost"):
        raise KitError(f"{name}: DAWNBench's entries have times and costs; expected --by time or cost, got --by {by}")
    points = Points(left_out=_lines(name, refused))
    priced = 0
    for entry in entries:
        cost = entry.time_to_target_s if by == "time" else entry.usd
        if cost is None:
            continue
        priced += 1
        points.add(
            entry.task,
            f"{name}, {entry.id}",
            date=entry.date,
            cost=cost,
            label=f"{entry.model}, {entry.author}",
            hardware=_hardware(entry),
            source=entry.id,
            flags=entry.price_faults if by == "cost" else (),
        )
    progress = []
    for task, of_task in points.of.items():
        raced = dawn.TASKS[str(task)]
        title = f"{100 * raced.target:g} % {raced.metric.replace('top', 'top-')} on {task}"
        series = Series(name=str(task), title=title, by=by, unit=UNITS[by], points=tuple(of_task))
        progress.append(measure_progress(series))
    notes = list(dawn.NOTES)
    if by == "cost":
        notes.append(
            f"{priced} of {len(entries)} entries give a price; a cost is time to target at that price per hour"
        )
    return History(
        name=name,
        by=by,
        source=None,
        progress=tuple(progress),
        fixed_hardware=tuple(_fixed(whole, count) for whole in progress for count in FIXED_COUNTS if by == "time"),
        notes=tuple(notes),
        flags=legend(progress, dawn.PRICE_FAULTS),
        left_out=tuple(points.left_out),
    )


def _hardware(entry: dawn.DawnbenchEntry) -> str:
    """Number and family of its devices, whatever their form; the text where it tells none."""
    try:
        hardware = parse_hardware(entry.hardware_read_as or entry.hardware)
    except KitError:
        return entry.hardware
    return _devices(hardware.count, hardware.spec.family)


def _devices(count: int, family: str) -> str:
    return f"{count} × {family}"


def _fixed(whole: Progress, count: int) -> FixedHardware:
    hardware = _devices(count, FIXED_DEVICE)
    points = tuple(point for point in whole.series.points if point.hardware == hardware)
    within = measure_progress(whole.series.model_copy(update={"points": points})) if points else None
    rest = same_period = None
    if within is not None:
        rest = whole.ratio / within.ratio
        same_period = _best(whole, within.frontier[0].date) / _best(whole, within.frontier[-1].date)
    return FixedHardware(
        series=whole.series.name,
        device=FIXED_DEVICE,
        count=count,
        progress=within,
        rest_ratio=rest,
        same_period_ratio=same_period,
    )


def _best(progress: Progress, day: datetime.date) -> float:
    """The lowest cost by the end of a day."""
    return min(point.cost for point in progress.frontier if point.date <= day)


def _lines(name: str, refused: Iterable[Remark]) -> list[LeftOut]:
    return [LeftOut(file=f"{name}, line {remark.line}", because=remark.what) for remark in refused]
