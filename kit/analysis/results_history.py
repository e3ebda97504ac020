"""The history of a folder of results: what entries cost, by the dates of their submissions."""

import datetime
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kit.analysis.history import UNITS, History, Points, legend
from kit.analysis.material import FoundRun, LeftOut, Material, first_to_count, left_out_because, read_material
from kit.analysis.progress import By, Series, measure_progress
from kit.analysis.result import DeviceKind, EntryKey
from kit.analysis.scoring import Entry, by_entry, summarize
from kit.collector import collector_paused
from kit.results.record import latest_date
from kit.results.store import RECORD_FILE

DATED = "dates are those that submissions give themselves"
NOTES: dict[By, tuple[str, ...]] = {
    "flops": (
        "training operations to the target, a multiply-add counted as two: medians over an entry's runs",
        "a recipe counts once, on however many machines it was run",
        DATED,
    ),
    "time": ("times to the target as measured, of one kind of device: medians over an entry's runs", DATED),
    "energy": ("energy of the device to the target, of one kind of device: medians over an entry's runs", DATED),
    "cost": (
        "price on demand for the time to the target, on any device: medians over an entry's runs",
        "a recipe counts once, where it costs least",
        DATED,
    ),
}
"""What to know of the costs of results."""
FLAGS = {
    "unofficial": "by runs of its authors' own, not an organizer's",
    "unsealed": "by runs without a sandbox",
}


def history_of_results(folder: Path, by: By = "flops") -> History:
    """The history of everything below a folder.

    Raises:
        KitError: There is no such folder.
    """
    return make_history(str(folder), read_material(folder), by)


@collector_paused()
def make_history(name: str, material: Material, by: By = "flops") -> History:
    """Entries by the dates that their submissions give: a series for each track, of times and energies for each device.

    Args:
        name: What the material is called.
        material: Results, of organizers' runs or anybody's; an entry that has official runs is judged by these alone.
        by: What a result costs: the median over an entry's runs.
    """
    runs, left_out = _counted(material.runs)
    points = Points(left_out=[*material.unreadable, *left_out])
    named: dict[Hashable, tuple[str, str]] = {}
    recipes: dict[Hashable, str] = {}
    for one in sorted(_costs(runs, by, points.left_out), key=_best_first):
        key, entry, where = one.key, one.entry, one.where
        per_device = by in ("time", "energy")
        group = (*key[:5], key.device if per_device else None)
        recipe = (group, key.source_sha256, key.config)
        if recipe in recipes:
            points.left_out.append(LeftOut(file=where, because=f"the same recipe as {recipes[recipe]}"))
            continue
        recipes[recipe] = where
        named[group] = (
            f"{key.track} version {key.version}",
            one.title + (f", {_device(key.device)}" if per_device else ""),
        )
        flags = {"unofficial": not one.official, "unsealed": not one.sealed}
        points.add(
            group,
            where,
            date=entry.date,
            cost=one.cost,
            label=entry.submission,
            hardware=_device(key.device),
            source=entry.records[0],
            flags=tuple(flag for flag, raised in flags.items() if raised),
        )
    progress = []
    for of_group, of_points in points.of.items():
        track, title = named[of_group]
        series = Series(name=track, title=title, by=by, unit=UNITS[by], points=tuple(of_points))
        progress.append(measure_progress(series))
    progress.sort(key=lambda one: (one.series.name, one.series.title, one.series.model_dump_json()))
    return History(
        name=name,
        by=by,
        source=None,
        progress=tuple(progress),
        notes=NOTES[by] if progress else (),
        flags=legend(progress, FLAGS),
        left_out=tuple(sorted(points.left_out, key=lambda item: (item.file, item.because))),
    )


@dataclass(frozen=True)
class _Cost:
    """What an entry costs."""

    key: EntryKey
    entry: Entry
    where: str
    """What it is called where it is left out."""
    title: str
    """Of the track."""
    official: bool
    cost: float

    @property
    def sealed(self) -> bool:
        return self.key.isolation != "process"


def _costs(runs: Iterable[FoundRun], by: By, left_out: list[LeftOut]) -> Iterator[_Cost]:
    """What each entry costs; of those that have no cost the reason is added to `left_out`."""
    for key, results in by_entry(run.result for run in runs).items():
        official = [result for result in results if result.official is not None]
        entry = summarize(official or results)
        where = f"{entry.submission} ({entry.records[0]})"
        because, cost = _cost(entry, by)
        if cost is None:
            left_out.append(LeftOut(file=where, because=because))
        else:
            yield _Cost(key, entry, where, results[0].title, bool(official), cost)


def _best_first(one: _Cost) -> tuple[bool, bool, float, str]:
    """A recipe counts once, on however many machines it was run: as an organizer's, and where it costs least."""
    return not one.official, not one.sealed, one.cost, one.where


def _counted(runs: Iterable[FoundRun]) -> tuple[list[FoundRun], list[LeftOut]]:
    """Runs on a track's own data that came to an end, each once, and why others do not count."""
    counted: dict[str, FoundRun] = {}
    left_out: list[LeftOut] = []
    for run in sorted(runs, key=first_to_count):
        result = run.result
        if result.official is not None and result.official.split != "published":
            continue
        if because := _not_counted_because(run) or (
            f"the same run as {counted[result.id].folder}" if result.id in counted else None
        ):
            left_out.append(left_out_because(f"{run.folder}/{RECORD_FILE}", because))
        else:
            counted[result.id] = run
    return list(counted.values()), left_out


def _not_counted_because(run: FoundRun) -> str | None:
    result = run.result
    if result.outcome in ("cancelled", "partial"):
        return f"no result: {result.reason}"
    if result.rehearsal:
        return "a rehearsal, on other data than the track's"
    if run.signature.state == "invalid":
        return f"the signature does not hold: {run.signature.because}"
    try:
        date = datetime.date.fromisoformat(result.date)
    except ValueError:
        return f"the submission's date is '{result.date}', which is none"
    if date > latest_date(result.started_at):
        return f"the submission is dated {date}, after its run"
    return None


def _cost(entry: Entry, by: By) -> tuple[str, float | None]:
    """The median of an entry's runs, or why there is none."""
    measure = entry.measure(by)
    if measure.median is None:
        return measure.unavailable_because or "not measured", None
    return "half of its runs or more missed the target", measure.median.value


def _device(device: DeviceKind) -> str:
    count = f"{device.count} × " if device.count > 1 else ""
    cores = f", {device.cores} cores" if device.cores is not None else ""
    limit = f", {device.power_limit_w:g} W" if device.power_limit_w is not None else ""
    return f"{count}{device.name}{cores}{limit}"
