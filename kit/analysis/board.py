"""The board: entries by track and machine, ranked by one quantity. The same results give the same bytes."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import PurePosixPath
from typing import Literal

from kit.analysis.material import FoundRun, LeftOut, Material, first_to_count, left_out_because
from kit.analysis.on_reference import OnReference, ReferenceTimes
from kit.analysis.result import DeviceKind, EntryKey, Result
from kit.analysis.scoring import Entry, Measure, by_entry, infinite, overlap, pareto_front, summarize
from kit.analysis.splits import SplitVerdict, control_verdict, resplit_verdict
from kit.collector import collector_paused
from kit.errors import KitError
from kit.hardware.drift import Drift
from kit.results.record import Split
from kit.results.signing import Verification, fingerprint
from kit.results.store import RECORD_FILE
from kit.track import Metric, Model

By = Literal["time", "reference", "energy", "flops", "cost"]
"""What to rank by. `reference` is the time on a reference device, for entries of all machines together."""
Flag = Literal["incomplete", "control", "resplit", "drifted", "energy"]
"""What speaks against an entry: seeds are missing, a verdict of `kit.analysis.splits`, the machine changed, a doubtful
energy on a board by energy."""
Steadiness = Literal["drifted", "unclear", "open", "none", "steady"]
"""What calibrations say of the machine, the worst first. `open`: there is none from afterwards."""


class Filters(Model):
    """Which entries to show; None is all. Ranks, ties and the Pareto front are among those that are shown."""

    track: str | None = None
    device: str | None = None
    """Part of its name, in upper or lower case."""
    submission: str | None = None
    author: str | None = None
    sealed: bool | None = None
    since: date | None = None
    """The day, in UTC, on which an entry's first run started."""

    def admit(self, entry: Entry, *, sealed: bool) -> bool:
        """Whether an entry is shown; the track is not looked at."""
        return (
            (self.device is None or self.device.casefold() in entry.device.name.casefold())
            and self.submission in (None, entry.submission)
            and (self.author is None or self.author in entry.authors)
            and self.sealed in (None, sealed)
            and (self.since is None or entry.started_at.date() >= self.since)
        )


class Signer(Model):
    """Who vouches for runs of an entry."""

    public_key: str
    fingerprint: str
    name: str | None
    """As the reader calls that key; None for a stranger's."""
    runs: int


class Efficiency(Model):
    """Training operations of the track's baseline over those of the entry: 2 is half the arithmetic to the same target.

    Hernandez and Brown, Measuring the Algorithmic Efficiency of Neural Networks, 2020.
    """

    value: float | None
    unavailable_because: str | None = None
    baseline_sha256: str | None = None
    """Of the baseline's source."""


class Row(Model):
    """One entry's place."""

    rank: int | None = None
    unranked_because: str | None = None
    tied: bool = False
    """Whether its interval overlaps that of the leader."""
    entry: Entry
    folders: tuple[str, ...]
    """Of its runs, below the results; in the order of `entry.records`."""
    on_reference: OnReference | None
    """On boards by reference time alone."""
    efficiency: Efficiency
    pareto: bool | None = None
    """Whether it is on the front of time and energy: no entry of the table is better in the one and as good in the
    other. None where one of them is not known, and on boards by reference time."""
    signers: tuple[Signer, ...]
    resplit: SplitVerdict | None
    control: SplitVerdict | None
    calibration: Steadiness
    flags: tuple[Flag, ...]

    def measure(self, by: By) -> Measure:
        """What a board by this ranks."""
        if by != "reference":
            return self.entry.measure(by)
        return Measure(median=None) if self.on_reference is None else self.on_reference.time_s

    @property
    def signed_runs(self) -> int:
        """How many of its runs somebody vouches for."""
        return sum(signer.runs for signer in self.signers)


class Table(Model):
    """Entries that may be compared."""

    track: str
    version: int
    title: str
    dataset_fingerprint: str
    metric: Metric
    target: float
    baseline: str
    """A submission's folder."""
    device: DeviceKind | None
    """None on boards by reference time: there each entry has its own."""
    sealed: bool
    rows: tuple[Row, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What to call each row: its submission; where others share it, with a piece of its hash and a number."""
        named = Counter(row.entry.submission for row in self.rows)
        labels = [
            name if named[name := row.entry.submission] == 1 else f"{name} {row.entry.source_sha256[:8]}"
            for row in self.rows
        ]
        shared, seen = Counter(labels), Counter[str]()
        for at, label in enumerate(labels):
            if shared[label] > 1:
                seen[label] += 1
                labels[at] = f"{label} ({seen[label]})"
        return tuple(labels)


class Board(Model):
    """All of it."""

    by: By
    reference: str | None = None
    """What the reference device is called, on boards by reference time."""
    filters: Filters
    tables: tuple[Table, ...]
    left_out: tuple[LeftOut, ...]
    unofficial: int
    """Runs that are no organizer's."""


@collector_paused()
def make_board(
    material: Material,
    by: By = "time",
    *,
    filters: Filters | None = None,
    names: Mapping[str, str] | None = None,
    on: ReferenceTimes | None = None,
) -> Board:
    """Rank what there is.

    Args:
        material: Results.
        by: What to rank by.
        filters: Which entries to show.
        names: Of the reader's trusted keys.
        on: The reference device, for boards by the time on it.

    Raises:
        KitError: Of the reference device too little is known to rank anything.
    """
    if (by == "reference") != (on is not None):
        raise ValueError("boards by reference time, and no others, are of a reference device")
    filters = filters or Filters()
    official = [run for run in material.runs if run.result.official is not None]
    raced = [run for run in official if filters.track in (None, run.result.entry.track)]
    counted, left_out = _counted(sorted(raced, key=lambda run: first_to_count(run, names or {})))
    tables = _Maker(counted, material.drifts, names or {}, by, on).tables(filters)
    if on is not None and on.reference.profile is None:
        rows = [row for table in tables for row in table.rows]
        if rows and all(row.rank is None for row in rows):
            raise KitError(
                f"reference {on.reference.name} has no measured profile and no run here was made on it, so there is "
                "nothing to rank; give a profile of such a device, --reference FILE.json (kit calibrate makes one)"
            )
    return Board(
        by=by,
        reference=None if on is None else on.reference.name,
        filters=filters,
        tables=tuple(tables),
        left_out=tuple(sorted([*material.unreadable, *left_out], key=lambda item: (item.file, item.because))),
        unofficial=len(material.runs) - len(official),
    )


def _counted(runs: Iterable[FoundRun]) -> tuple[list[FoundRun], list[LeftOut]]:
    """Runs that count, each seed of an entry once, the first of several; and why others do not."""
    counted: list[FoundRun] = []
    left_out: list[LeftOut] = []
    ids: dict[str, str] = {}
    seeds: dict[tuple[EntryKey, str, int, int], str] = {}
    for run in runs:
        result, official = run.result, run.result.official
        assert official is not None
        seed = (result.entry, official.split, official.seed_index, result.seed)
        if run.signature.state == "invalid":
            because = f"the signature does not hold: {run.signature.because}"
        elif result.outcome in ("cancelled", "partial"):
            because = f"no result: {result.reason}"
        elif result.rehearsal:
            because = "a rehearsal, on other data than the track's"
        elif result.id in ids:
            because = f"the same run as {ids[result.id]}"
        elif seed in seeds:
            because = f"the seed was run before, in {seeds[seed]}, and the first run counts"
        else:
            ids[result.id], seeds[seed] = run.folder, run.folder
            counted.append(run)
            continue
        left_out.append(left_out_because(f"{run.folder}/{RECORD_FILE}", because))
    return counted, left_out


@dataclass(frozen=True)
class _Found:
    """An entry's runs on the track's own data, and what they come to."""

    results: list[Result]
    entry: Entry


class _Maker:
    """Makes tables of the runs that count."""

    def __init__(
        self,
        runs: Sequence[FoundRun],
        drifts: Mapping[tuple[str, str], Drift],
        names: Mapping[str, str],
        by: By,
        on: ReferenceTimes | None,
    ) -> None:
        self._runs = {run.result.id: run for run in runs}
        self._drifts, self._names, self._by, self._on = drifts, names, by, on
        published, resplit, control = (
            by_entry(run.result for run in runs if _split(run.result) == split)
            for split in ("published", "resplit", "control")
        )
        self._entries = {key: _Found(results, summarize(results)) for key, results in published.items()}
        # A control run's labels are shuffled anew for each seed: its runs are on data of one fingerprint each.
        self._resplit, self._control = _on_any_data(resplit), _on_any_data(control)
        baselines = [
            (key, found.entry)
            for key, found in self._entries.items()
            if found.entry.submission == _last_part(found.results[0].baseline)
        ]
        self._with_baseline = {_race(key) for key, _ in baselines}
        self._rated: dict[tuple[object, ...], Entry] = {}
        """The first baseline with a count of operations: on a machine in one isolation, on a machine, and of a race."""
        for key, entry in sorted(baselines, key=lambda one: (one[1].started_at, one[1].source_sha256, one[0].config)):
            if _value(entry.train_flops) is not None:
                for machine in _machines(key):
                    self._rated.setdefault(machine, entry)

    def tables(self, filters: Filters) -> list[Table]:
        """One for each track and machine; by reference time, one for each track."""
        groups: defaultdict[tuple[object, ...], list[EntryKey]] = defaultdict(list)
        for key, found in self._entries.items():
            if filters.admit(found.entry, sealed=_sealed(key)):
                groups[*_race(key), None if self._on else key.device, key.isolation].append(key)
        tables = [self._table(keys) for keys in groups.values()]
        return sorted(tables, key=_order)

    def _table(self, keys: Sequence[EntryKey]) -> Table:
        key, first = keys[0], self._entries[keys[0]].results[0]
        rows = [self._row(key, self._entries[key]) for key in keys]
        if self._on is None:
            front = _front([row.entry for row in rows])
            rows = [row.model_copy(update={"pareto": on}) for row, on in zip(rows, front, strict=True)]
        return Table(
            track=key.track,
            version=key.version,
            title=first.title,
            dataset_fingerprint=key.dataset_fingerprint,
            metric=key.metric,
            target=key.target,
            baseline=first.baseline,
            device=None if self._on else key.device,
            sealed=_sealed(key),
            rows=tuple(_ranked(rows, self._by)),
        )

    def _row(self, key: EntryKey, found: _Found) -> Row:
        entry, runs = found.entry, [self._runs[result.id] for result in found.results]
        resplit, control = self._resplit.get(key.on_any_data(), []), self._control.get(key.on_any_data(), [])
        of_resplit = resplit_verdict(found.results, resplit) if resplit else None
        of_control = control_verdict(control) if control else None
        steadiness = min((_steadiness(run, self._drifts) for run in runs), key=_SEVERITY.index)
        flags: dict[Flag, bool] = {
            "incomplete": entry.runs < entry.seeds,
            "control": of_control is not None and of_control.suspicious,
            "resplit": of_resplit is not None and of_resplit.suspicious,
            "drifted": steadiness == "drifted",
            "energy": self._by == "energy" and bool(entry.energy_flags),
        }
        return Row(
            entry=entry,
            folders=tuple(run.folder for run in runs),
            on_reference=None if self._on is None else self._on.of(runs),
            efficiency=self._efficiency(key, found),
            signers=tuple(_signers([run.signature for run in runs], self._names)),
            resplit=of_resplit,
            control=of_control,
            calibration=steadiness,
            flags=tuple(flag for flag, raised in flags.items() if raised),
        )

    def _efficiency(self, key: EntryKey, found: _Found) -> Efficiency:
        """Against the baseline's entry on the same machine, or on another where there is none."""
        own = found.entry.train_flops
        if own.median is None:
            return Efficiency(value=None, unavailable_because=own.unavailable_because)
        if own.median.value is None:
            return Efficiency(value=None, unavailable_because="half of its runs or more missed the target")
        baseline = next((self._rated[machine] for machine in _machines(key) if machine in self._rated), None)
        if baseline is None:
            name, any_runs = _last_part(found.results[0].baseline), _race(key) in self._with_baseline
            what = f"the baseline {name} has no count of operations here" if any_runs else f"no runs of {name} are here"
            return Efficiency(value=None, unavailable_because=what)
        value = infinite(_value(baseline.train_flops)) / own.median.value
        return Efficiency(value=value, baseline_sha256=baseline.source_sha256)


def _race(key: EntryKey) -> tuple[object, ...]:
    """What entries must share to be compared by anything."""
    return key.track, key.version, key.dataset_fingerprint, key.metric, key.target


def _machines(key: EntryKey) -> tuple[tuple[object, ...], ...]:
    """Where a baseline is looked for: on the same machine as sealed, on the same machine, anywhere."""
    race = _race(key)
    return (*race, key.device, key.isolation), (*race, key.device), race


def _sealed(key: EntryKey) -> bool:
    return key.isolation != "process"


def _order(table: Table) -> tuple[str, int, bool, str, str, float, str]:
    device = "" if table.device is None else table.device.model_dump_json()
    race = table.dataset_fingerprint, table.metric, table.target
    return table.track, table.version, not table.sealed, *race, device


def _split(result: Result) -> Split | None:
    return None if result.official is None else result.official.split


@cache
def _last_part(path: str) -> str:
    return PurePosixPath(path).name


def _on_any_data(groups: Mapping[EntryKey, list[Result]]) -> dict[EntryKey, list[Result]]:
    merged: dict[EntryKey, list[Result]] = {}
    for key, results in groups.items():
        merged.setdefault(key.on_any_data(), []).extend(results)
    return merged


_SEVERITY: tuple[Steadiness, ...] = ("drifted", "unclear", "open", "none", "steady")


def _steadiness(run: FoundRun, drifts: Mapping[tuple[str, str], Drift]) -> Steadiness:
    assert run.result.official is not None
    before = run.result.official.calibration
    if before is None:
        return "none"
    drift = drifts.get((run.place, before))
    return "open" if drift is None else drift.verdict


def _signers(signatures: Iterable[Verification], names: Mapping[str, str]) -> list[Signer]:
    runs: dict[str, int] = {}
    for signature in signatures:
        if signature.state == "valid" and signature.public_key is not None:
            runs[signature.public_key] = runs.get(signature.public_key, 0) + 1
    return [
        Signer(public_key=key, fingerprint=fingerprint(key), name=names.get(key), runs=count)
        for key, count in sorted(runs.items())
    ]


# ---- places


def _ranked(rows: Iterable[Row], by: By) -> list[Row]:
    """By the median, the smallest first; then those that have no rank."""
    rows = list(rows)
    tiers = {row.on_reference.tier for row in rows if row.on_reference is not None and row.on_reference.ranked}
    unranked = [_unranked_because(row, by, mixed=len(tiers) > 1) for row in rows]
    pairs = sorted(zip(rows, unranked, strict=True), key=lambda pair: (pair[1] is not None, *_place(pair[0], by)))
    values = [_value(row.measure(by)) for row, because in pairs if because is None]
    leader = pairs[0][0].measure(by).median
    placed = []
    for number, (row, because) in enumerate(pairs):
        median = row.measure(by).median
        if because is not None or median is None or leader is None:
            placed.append(row.model_copy(update={"unranked_because": because}))
            continue
        rank = 1 + bisect_left(values, infinite(median.value), key=infinite)
        placed.append(row.model_copy(update={"rank": rank, "tied": number > 0 and overlap(leader, median)}))
    return placed


def _unranked_because(row: Row, by: By, *, mixed: bool) -> str | None:
    median = row.measure(by).median
    if median is None:
        return row.measure(by).unavailable_because or "not measured"
    if median.value is None:
        return "half of its runs or more missed the target"
    if row.on_reference is not None and not row.on_reference.ranked:
        return "a time by specifications is indicative, and never ranked"
    if mixed and median.interval is None:
        return "without an interval it is not ranked among times of another method"
    return None


def _place(row: Row, by: By) -> tuple[float, float, str, str, str, str, str]:
    entry = row.entry
    ids = entry.submission, entry.source_sha256, entry.device.model_dump_json(), entry.loader, entry.records[0]
    return infinite(_value(row.measure(by))), -entry.success.value, *ids


def _value(measure: Measure) -> float | None:
    """What a measure is ranked by; None where it is infinite, or there is none."""
    return None if measure.median is None else measure.median.value


def _front(entries: Sequence[Entry]) -> list[bool | None]:
    """Which entries are on the Pareto front of the medians of time and energy."""
    known = [entry.time_s.median is not None and entry.energy_j.median is not None for entry in entries]
    judged = iter(
        pareto_front(
            [
                (infinite(_value(entry.time_s)), infinite(_value(entry.energy_j)))
                for entry, both in zip(entries, known, strict=True)
                if both
            ]
        )
    )
    return [next(judged) if both else None for both in known]
