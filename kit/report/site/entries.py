"""The page of an entry: its runs, where its time went, its arithmetic and energy, its machine and its source."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kit.analysis.decomposition import Decomposition, Factor
from kit.errors import KitError, without_place
from kit.hardware.profile import Profile
from kit.meters.trace import PowerSamples, read_power
from kit.report.compare import interval as factor_interval
from kit.report.compare import ratio
from kit.report.csv_text import csv_text
from kit.report.show import FLAGS as ENERGY_FLAGS
from kit.report.site import downloads, figures
from kit.report.site.content import (
    MAX_RUNS,
    MAX_VERDICTS,
    FoundProfile,
    Place,
    TrackContent,
    compared,
    curves_of,
    operator_totals,
    read_runs,
    thinned,
    typical,
)
from kit.report.site.downloads import json_bytes
from kit.report.site.folder import Folder
from kit.report.site.render import render
from kit.report.site.source import read_source
from kit.report.site.words import metric, shown, si
from kit.report.units import dollars
from kit.results.record import Record

MAX_POWER_POINTS = 2000
Facts = list[tuple[str, Any]]


@dataclass(frozen=True)
class Surroundings:
    """What all entries' pages are made from."""

    results_dir: Path
    found_profiles: tuple[FoundProfile, ...]
    _baselines: dict[str, tuple[Record, ...]] = field(default_factory=dict)

    @cached_property
    def profiles(self) -> list[Profile]:
        """The newest first: of several of one machine it is the one that is used."""
        return [found.profile for found in reversed(self.found_profiles)]

    def runs_of_baseline(self, place: Place) -> tuple[Record, ...]:
        """The runs of a baseline's entry, read once."""
        if place.slug not in self._baselines:
            self._baselines.clear()  # entries come by track, and few are compared with another baseline
            self._baselines[place.slug] = read_runs(self.results_dir, place.row).records
        return self._baselines[place.slug]


def write_entry(folder: Folder, around: Surroundings, track: TrackContent, place: Place) -> None:
    """Write an entry's page and its numbers."""
    at = f"entries/{place.slug}"
    runs = read_runs(around.results_dir, place.row)
    folder.write(f"{at}.json", json_bytes(place.row))
    if not runs.records:
        folder.write(f"{at}.html", render("unreadable.html", 1, track=track, place=place, unreadable=runs.unreadable))
        return
    records = runs.records
    middle = typical(records)
    record, run_dir = records[middle], around.results_dir / runs.folders[middle]
    comparison, no_comparison = _comparison(around, track, place, records)
    power, no_power = _power(run_dir, record)
    totals = {key: flops for key, flops in operator_totals(record).items() if flops}
    curves = curves_of(records, place.label, 0, by_run=True)
    sample = thinned(range(len(record.evaluations)), MAX_VERDICTS)
    profile = next((found for found in reversed(around.found_profiles) if found.profile.is_of(record.device)), None)
    page = render(
        "entry.html",
        1,
        track=track,
        place=place,
        records=records,
        unreadable=runs.unreadable,
        typical=record,
        any_energy=any(one.energy.device_j is not None for one in records),
        verdicts=_verdicts(place),
        curves=figures.learning_curves(curves, metric(record.track.metric), record.track.target) if curves else None,
        curves_words=_curves_words(records, len(curves)),
        verdicts_shown=[record.evaluations[at] for at in sample],
        comparison=comparison,
        no_comparison=no_comparison,
        waterfall=None if comparison is None else figures.waterfall(comparison),
        waterfall_words="" if comparison is None else _waterfall_words(comparison),
        factors=[] if comparison is None else list(_flat(comparison.factors)),
        factor_interval=factor_interval,
        totals=sorted(totals.items(), key=lambda item: (-item[1], item[0])),
        operators=figures.operators(totals) if totals else None,
        operators_words=_operators_words(record),
        power=_power_figure(power, record) if power else None,
        power_words="Samples of the meters, with the scored window shaded: from the start of the clock to the target.",
        no_power=no_power,
        energy_facts=_energy_facts(record),
        machine=_machine(record),
        profile=profile,
        config=sorted(record.submission.config.items()),
        source=read_source(run_dir, record.submission.source_sha256),
    )
    folder.write(f"{at}.html", page)
    for number, one in enumerate(records, start=1):
        folder.write(f"{at}-run{number}.json", json_bytes(one))
    folder.write(f"{at}-runs.csv", csv_text(downloads.RUN_COLUMNS, downloads.run_rows(records)))
    if curves:
        folder.write(f"{at}-verdicts.csv", csv_text(downloads.VERDICT_COLUMNS, downloads.verdict_rows(records)))
    if totals:
        folder.write(f"{at}-operators.csv", csv_text(downloads.OPERATOR_COLUMNS, downloads.operator_rows(records)))
    if comparison is not None:
        rows = downloads.factor_rows(comparison.factors)
        folder.write(f"{at}-factors.csv", csv_text(downloads.FACTOR_COLUMNS, rows))
        folder.write(f"{at}-factors.json", json_bytes(comparison))
    if power:
        rows_of_power = (
            (gpu, *sample)
            for gpu, samples in enumerate(power)
            for sample in zip(samples.elapsed_s, samples.power_w, strict=True)
        )
        folder.write(f"{at}-power.csv", csv_text(("gpu", "elapsed_s", "power_w"), rows_of_power))


def _verdicts(place: Place) -> list[tuple[str, Any]]:
    both = (("On a secret split", place.row.resplit), ("With shuffled labels", place.row.control))
    return [(name, verdict) for name, verdict in both if verdict is not None]


def _curves_words(records: Sequence[Record], drawn: int) -> str:
    what = "each run" if drawn == len(records) else f"{drawn} of {len(records)} runs"
    more = max((len(record.evaluations) for record in records), default=0) > MAX_VERDICTS
    thinned_to = f", thinned to {MAX_VERDICTS} a run" if more else ""
    cut = f" (at most {MAX_RUNS} are drawn)" if len(records) > MAX_RUNS else ""
    return f"Verdicts of the referee over time, of {what}{cut}{thinned_to}. The axis begins near the target."


# ---- against the baseline


def _comparison(
    around: Surroundings, track: TrackContent, place: Place, records: Sequence[Record]
) -> tuple[Decomposition | None, str | None]:
    baseline = track.baseline_of(place)
    if baseline is None:
        return (
            None,
            f"There is nothing to compare with: no run of the baseline {place.table.baseline} reached the target here.",
        )
    if baseline.slug == place.slug:
        return None, "This entry is the baseline that the others on this track are compared with."
    comparison, because = compared(around.runs_of_baseline(baseline), records, place.label, around.profiles)
    return comparison, None if because is None else f"No comparison with the baseline: {because}."


def _waterfall_words(comparison: Decomposition) -> str:
    a, b = comparison.a, comparison.b
    gain = (
        f"{ratio(comparison.speedup.ratio)} times as fast"
        if comparison.speedup.ratio >= 1
        else (f"{ratio(1 / comparison.speedup.ratio)} times as slow")
    )
    return (
        f"The baseline takes {a.time_s:.3g} s in the median of {a.runs} runs on {a.device}, this entry "
        f"{b.time_s:.3g} s on {b.device}: {gain}. Each bar is one factor of that; grey ones cannot be told from 1."
    )


def _flat(factors: Sequence[Factor], depth: int = 0) -> Iterator[tuple[Factor, int]]:
    for factor in factors:
        yield factor, min(depth, 2)
        yield from _flat(factor.split, depth + 1)


# ---- arithmetic and energy


def _operators_words(record: Record) -> str:
    flops = record.flops
    how = {"replay": "counted in a replay of the run", "sampled": "counted in a replay, like steps once"}
    words = (
        f"{si(flops.train_total, 'FLOP')} in training and {si(flops.evaluation_total, 'FLOP')} in evaluations, "
        f"{how.get(flops.method, flops.method)}, of the run with the median time."
    )
    if flops.recomputed_total:
        words += f" {si(flops.recomputed_total, 'FLOP')} of it repeat a forward pass."
    if flops.not_rated_because is not None:
        words += f" Not rated: {flops.not_rated_because}."
    return words


def _power(run_dir: Path, record: Record) -> tuple[Sequence[PowerSamples], str | None]:
    """The meters' samples of a run, or why there are none to show."""
    if record.trace is None:
        because = record.energy.unavailable_because
        return (), f"Not measured: {because}." if because is not None else "The meters' samples were not kept."
    try:
        samples = read_power(run_dir, record.trace)
    except KitError as error:
        return (), f"The meters' samples are not shown: {without_place(error, f'{run_dir}/')}."
    return samples, None if samples else "The meters' samples have no power in them."


def _power_figure(power: Sequence[PowerSamples], record: Record) -> figures.Figure:
    curves = []
    for samples in power:
        keep = thinned(range(len(samples.elapsed_s)), MAX_POWER_POINTS)
        curves.append(([samples.elapsed_s[at] for at in keep], [samples.power_w[at] for at in keep]))
    idle_w = record.energy.idle_w
    each_idle_w = None if idle_w is None else idle_w / record.device.count
    return figures.power(curves, record.time.to_target_s, each_idle_w)


def _energy_facts(record: Record) -> Facts:
    energy = record.energy
    if energy.device_j is None and energy.host_j is None:
        return []
    error = "" if energy.uncertainty_j is None else f" ± {energy.uncertainty_j:.1f} J"
    facts: Facts = [("Device", None if energy.device_j is None else f"{energy.device_j:.1f} J{error}")]
    facts.append(("Method", energy.method))
    if energy.sampled_j is not None:
        facts.append(("By sampled power", f"{energy.sampled_j:.1f} J"))
    host = energy.host_unavailable_because if energy.host_j is None else f"{energy.host_j:.1f} J"
    facts.append(("Processors", host))
    if energy.flags:
        facts.append(("Doubtful", ", ".join(ENERGY_FLAGS[flag] for flag in energy.flags)))
    return facts


# ---- machine


def _machine(record: Record) -> Facts:
    device, software, conditions = record.device, record.software, record.conditions
    facts: Facts = [("Device", f"{device.count} × {device.name}" if device.count > 1 else device.name)]
    if device.cores is not None:
        facts.append(("Cores, threads", f"{device.cores}, {device.threads}"))
    if device.driver is not None:
        facts.append(("Driver", device.driver))
    if device.power_limit_w is not None:
        facts.append(("Power limit", f"{device.power_limit_w:g} W"))
    if conditions is not None:
        start, end = (shown(value) for value in (conditions.temperature_start_c, conditions.temperature_end_c))
        facts.append(("Temperature", f"{start} to {end} °C"))
        if conditions.clock_sm_mean_mhz is not None:
            facts.append(("Mean clock", f"{conditions.clock_sm_mean_mhz:.0f} MHz"))
    facts.append(("Python, torch", f"{software.python}, {software.torch}"))
    facts.append(("Loader", f"{record.loader}{'' if software.dali is None else f' (DALI {software.dali})'}"))
    if software.cuda_driver is not None:
        facts.append(("CUDA driver", software.cuda_driver))
    git = record.git
    commit = "" if git is None else f", commit {git.commit[:12]}{' (changed since)' if git.dirty else ''}"
    facts.append(("Kit", f"{record.kit_version}{commit}"))
    facts.append(("Isolation", f"{record.isolation.mode}: {', '.join(record.isolation.defences)}"))
    if record.cost is not None:
        cost = record.cost
        facts.append(("Price", f"{dollars(cost.usd_per_hour)} per hour on {cost.price_date}, {cost.price_source}"))
    return facts
