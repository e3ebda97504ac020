"""What the site shows: entries with the names of their pages, and what their pages need of the runs' folders."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from kit.analysis.board import Board, Row, Table
from kit.analysis.decomposition import Decomposition, decompose
from kit.analysis.material import DRIFT_SUFFIX, LeftOut, calibration_files, left_out_because
from kit.analysis.sides import side_of_records
from kit.errors import KitError, without_place
from kit.hardware.profile import Profile, read_strangers_profile
from kit.report.site.figures import LearningCurve
from kit.report.site.names import slug, slug_with
from kit.results.record import Record
from kit.results.store import RECORD_FILE, read_record

MAX_CURVES = 8
"""Entries whose learning curves a track's page draws for one machine."""
MAX_RUNS = 5
"""Runs of each."""
MAX_VERDICTS = 200
"""Points of each run's curve."""
Likeness = tuple[object, ...]


@dataclass(frozen=True)
class Place:
    """An entry, and where its page is."""

    table: Table
    row: Row
    slug: str
    label: str
    """Its name in the table."""


@dataclass(frozen=True)
class Section:
    """A table: entries of one machine."""

    table: Table
    anchor: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class TrackContent:
    """A track: all its tables."""

    name: str
    slug: str
    sections: tuple[Section, ...]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """All its entries."""
        return tuple(place for section in self.sections for place in section.places)

    def baseline_of(self, place: Place) -> Place | None:
        """The entry of the track's baseline that this one is compared with: on its machine if there is one."""
        name, sha256 = PurePosixPath(place.table.baseline).name, place.row.efficiency.baseline_sha256
        wanted = _likenesses(place.table, name, sha256)
        return next((self._timed[likeness] for likeness in wanted if likeness in self._timed), None)

    @cached_property
    def _timed(self) -> dict[Likeness, Place]:
        """The first entry with a time of every likeness."""
        found: dict[Likeness, Place] = {}
        for place in sorted(self.places, key=lambda place: (place.row.entry.started_at, place.slug)):
            entry = place.row.entry
            if entry.time_s.median is not None and entry.time_s.median.value is not None:
                for likeness in _likenesses(place.table, entry.submission, entry.source_sha256):
                    found.setdefault(likeness, place)
        return found


def _likenesses(table: Table, submission: str, source_sha256: str | None) -> tuple[Likeness, ...]:
    """In what entries of a race and a submission are alike: machine and source, machine, source, or nothing more."""
    race = table.version, table.dataset_fingerprint, table.metric, table.target, submission
    machine = *race, table.device, table.sealed
    return (*machine, source_sha256), machine, (*race, source_sha256), race


def tracks(board: Board) -> tuple[TrackContent, ...]:
    """What a board ranks, by track."""
    by_name: dict[str, list[Section]] = {}
    for table in board.tables:
        sections = by_name.setdefault(table.track, [])
        places = [
            Place(table, row, slug_with(row.entry.submission, _identity(table, row)), label)
            for row, label in zip(table.rows, table.labels, strict=True)
        ]
        sections.append(Section(table, f"machine-{len(sections) + 1}", tuple(places)))
    return tuple(TrackContent(name, slug(name), tuple(sections)) for name, sections in sorted(by_name.items()))


def _identity(table: Table, row: Row) -> str:
    """What tells an entry apart from every other."""
    entry = row.entry
    race = [table.track, table.version, table.dataset_fingerprint, table.metric, table.target, table.sealed]
    return json.dumps(
        [*race, entry.device.model_dump(), entry.loader, entry.source_sha256, entry.config], sort_keys=True
    )


# ---- runs


@dataclass(frozen=True)
class Runs:
    """What an entry's page shows: a board needs less of a record than a page does."""

    records: tuple[Record, ...]
    folders: tuple[str, ...]
    """Of these records, below the results."""
    unreadable: tuple[LeftOut, ...]


def read_runs(results_dir: Path, row: Row) -> Runs:
    """The records of an entry's runs, and why others cannot be shown."""
    records, folders, unreadable = [], [], []
    for folder in row.folders:
        path = results_dir / folder
        try:
            records.append(read_record(path))
            folders.append(folder)
        except KitError as error:
            because = without_place(error, f"{path / RECORD_FILE}: ")
            unreadable.append(left_out_because(f"{folder}/{RECORD_FILE}", because))
    return Runs(tuple(records), tuple(folders), tuple(unreadable))


def typical(records: Sequence[Record]) -> int:
    """Which run stands for an entry: of those that reached the target, if any did, the slower of the middle two."""
    times_s = [math.inf if record.time.to_target_s is None else record.time.to_target_s for record in records]
    reached = sorted(time_s for time_s in times_s if math.isfinite(time_s))
    if not reached:
        return max(range(len(records)), key=lambda index: (records[index].best_value or 0, -index))
    return times_s.index(reached[len(reached) // 2])


def curves_of(records: Sequence[Record], label: str, group: int, *, by_run: bool = False) -> list[LearningCurve]:
    """The verdicts of an entry's runs: the typical run, and some of the others.

    Args:
        records: Runs.
        label: What the entry is called.
        group: Its number in the plot.
        by_run: Whether each run is a group of its own.
    """
    if not records:
        return []
    middle = typical(records)
    others = [index for index in range(len(records)) if index != middle]
    curves = []
    for number, index in enumerate(sorted([middle, *others[: MAX_RUNS - 1]])):
        record = records[index]
        if not record.evaluations:
            continue
        shown = thinned(range(len(record.evaluations)), MAX_VERDICTS)
        run = f"seed {record.seed}" if record.official is None else f"seed {record.official.seed_index}"
        curves.append(
            LearningCurve(
                entry=run if by_run else label,
                elapsed_s=tuple(record.evaluations[at].elapsed_s for at in shown),
                values=tuple(record.evaluations[at].value for at in shown),
                emphasized=by_run or index == middle,
                group=number if by_run else group,
                run=f"{label}, {run}",
            )
        )
    return curves


def section_curves(results_dir: Path, section: Section) -> list[LearningCurve]:
    """Learning curves of the best entries of a machine."""
    curves = []
    for group, place in enumerate(section.places[:MAX_CURVES]):
        curves += curves_of(read_runs(results_dir, place.row).records, place.label, group)
    return curves


def thinned(items: Sequence[int], most: int) -> list[int]:
    """Evenly chosen ones, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    step = (len(items) - 1) / (most - 1)
    return [items[round(number * step)] for number in range(most)]


def operator_totals(record: Record) -> dict[tuple[str, str, str], float]:
    """Operations by class, dtype and phase."""
    totals: dict[tuple[str, str, str], float] = {}
    for row in record.flops.operators:
        key = (row.operator_class, row.dtype, row.phase)
        totals[key] = totals.get(key, 0) + row.calls * row.flops_per_call
    return totals


# ---- against the baseline


def compared(
    baseline: Sequence[Record], records: Sequence[Record], label: str, profiles: Sequence[Profile]
) -> tuple[Decomposition | None, str | None]:
    """Why an entry takes another time than the baseline; or why that cannot be said."""
    if not baseline:
        return None, "the records of its runs cannot be read"
    try:
        return decompose(
            side_of_records(baseline, "the baseline", profiles), side_of_records(records, label, profiles)
        ), None
    except KitError as error:
        return None, str(error)


# ---- devices


@dataclass(frozen=True)
class FoundProfile:
    """A device profile, and where its page is."""

    profile: Profile
    slug: str
    place: str
    """Of the runs that it was measured for."""
    file: str
    """Below the results."""


def read_profiles(results_dir: Path, folders: Iterable[str]) -> tuple[tuple[FoundProfile, ...], list[LeftOut]]:
    """Every device profile beside runs, the oldest first, and what could not be read.

    Args:
        results_dir: Results.
        folders: Of runs, below the results.
    """
    found: dict[str, FoundProfile] = {}  # by content: two folders may use one id
    left_out = []
    for place, path in calibration_files(results_dir, folders, "*.json"):
        if path.name.endswith(DRIFT_SUFFIX):
            continue
        file = path.relative_to(results_dir).as_posix()
        try:
            profile = read_strangers_profile(path)
        except KitError as error:
            left_out.append(left_out_because(file, without_place(error, f"{path}: ")))
            continue
        content = profile.model_dump_json()
        if content in found:
            left_out.append(left_out_because(file, f"the same profile as {found[content].file}"))
            continue
        found[content] = FoundProfile(profile, slug_with(profile.id, content), place, file)
    ordered = sorted(found.values(), key=lambda one: (one.profile.measured_at, one.slug))
    return tuple(ordered), left_out
