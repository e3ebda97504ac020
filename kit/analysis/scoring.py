"""What the official runs of one entry come to. Pure functions.

Every seed counts. A run that does not reach its target is infinitely slow, and so are its energy, operations and cost;
None stands for infinity, since JSON has none.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from statistics import fmean, median
from typing import Any, Literal

from kit.analysis.estimate import CONFIDENCE, QUANTILE, coverage, interval_rank
from kit.analysis.result import DeviceKind, EntryKey, Result
from kit.results.record import EnergyFlag, Outcome
from kit.track import Model

Quantity = Literal["time", "energy", "flops", "cost"]


class Interval(Model):
    """Order statistics around a median."""

    low: float | None
    """None is infinite."""
    high: float | None
    confidence: float
    """How often such an interval holds the true median, exactly: five runs cannot give more than 93.75 %."""


class Median(Model):
    """The median of an entry's runs."""

    value: float | None
    """None is infinite: half of the runs or more missed the target."""
    interval: Interval | None
    """None of one run: what another would give is not known."""


class Proportion(Model):
    """A share of runs, with its Wilson interval."""

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE


class Measure(Model):
    """A median, or why there is none."""

    median: Median | None
    unavailable_because: str | None = None


class Entry(Model):
    """One submission on one track and machine."""

    submission: str
    authors: tuple[str, ...]
    date: str
    base: str | None
    source_sha256: str
    config: dict[str, Any]
    pack_sha256: str | None
    loader: Literal["dali", "torch"]
    device: DeviceKind
    started_at: datetime
    """When the first of the runs was."""
    runs: int
    seeds: int
    """How many runs there were to be."""
    outcomes: dict[Outcome, int]
    time_s: Measure
    """To the target."""
    success: Proportion
    expected_s: float | None
    """Expected running time to one success: the time of all runs over the number that reached. Setup is not counted;
    None is infinite."""
    energy_j: Measure
    energy_flags: tuple[EnergyFlag, ...]
    """What speaks against the energy of any of the runs."""
    train_flops: Measure
    usd: Measure
    olympic_mean_s: float | None
    """As MLPerf scores: without the fastest and the slowest run; None is infinite, or fewer than three runs."""
    best_s: float | None
    """As DAWNBench scored: the fastest run; None is infinite."""
    records: tuple[str, ...]

    def measure(self, quantity: Quantity) -> Measure:
        """What a board by this quantity ranks."""
        return {"time": self.time_s, "energy": self.energy_j, "flops": self.train_flops, "cost": self.usd}[quantity]


def by_entry(results: Iterable[Result]) -> dict[EntryKey, list[Result]]:
    """Runs by the entry that they belong to, in order of their seeds."""
    groups: dict[EntryKey, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.entry].append(result)
    for group in groups.values():
        group.sort(key=_order)
    return dict(groups)


def _order(result: Result) -> tuple[int, int, str]:
    return (0 if result.official is None else result.official.seed_index), result.seed, result.id


def summarize(results: Sequence[Result]) -> Entry:
    """The statistics of one entry's runs, at least one."""
    first = results[0]
    times_s = [infinite(result.to_target_s) for result in results]
    reached = sum(math.isfinite(time_s) for time_s in times_s)
    packs = {result.official.pack_sha256 for result in results if result.official is not None}
    return Entry(
        submission=first.submission,
        authors=first.authors,
        date=first.date,
        base=first.base,
        source_sha256=first.entry.source_sha256,
        config=json.loads(first.entry.config),
        pack_sha256=packs.pop() if len(packs) == 1 else None,
        loader=first.entry.loader,
        device=first.entry.device,
        started_at=min(result.started_at for result in results),
        runs=len(results),
        seeds=max((result.official.seeds for result in results if result.official is not None), default=len(results)),
        outcomes=dict(sorted(Counter(result.outcome for result in results).items())),
        time_s=Measure(median=median_of(times_s)),
        success=wilson(reached, len(results)),
        expected_s=expected_running_time_s(results),
        energy_j=_measure(results, lambda result: result.device_j, lambda result: result.no_energy_because),
        energy_flags=tuple(sorted({flag for result in results for flag in result.energy_flags})),
        train_flops=_measure(results, lambda result: result.train_flops, lambda result: result.no_flops_because),
        usd=_measure(results, lambda result: result.usd, lambda result: result.no_cost_because),
        olympic_mean_s=olympic_mean(times_s),
        best_s=finite(min(times_s)),
        records=tuple(result.id for result in results),
    )


# ---- statistics


OLYMPIC_RUNS = 3
"""The fewest of which something is left without the smallest and the largest."""


def median_of(values: Sequence[float]) -> Median:
    """The median with its order-statistic interval; values may be infinite."""
    if len(values) == 1:
        return Median(value=finite(values[0]), interval=None)
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    interval = Interval(low=finite(ordered[rank - 1]), high=finite(ordered[-rank]), confidence=coverage(len(ordered)))
    return Median(value=finite(median(ordered)), interval=interval)


def wilson(successes: int, runs: int) -> Proportion:
    """A proportion with its score interval (Wilson, Journal of the American Statistical Association 22, 1927)."""
    share, z2 = successes / runs, QUANTILE**2
    middle = (share + z2 / (2 * runs)) / (1 + z2 / runs)
    half = QUANTILE * math.sqrt(share * (1 - share) / runs + z2 / (4 * runs**2)) / (1 + z2 / runs)
    # At the ends the interval reaches 0 or 1 exactly; rounding must not take it past the proportion.
    low = 0.0 if successes == 0 else min(share, middle - half)
    high = 1.0 if successes == runs else max(share, middle + half)
    return Proportion(value=share, low=low, high=high)


def expected_running_time_s(results: Sequence[Result]) -> float | None:
    """The time of all runs over the number that reached the target; None where none did."""
    reached = [result.to_target_s for result in results if result.to_target_s is not None]
    failed = [result.total_s or 0.0 for result in results if result.to_target_s is None]
    return math.fsum(reached + failed) / len(reached) if reached else None


def olympic_mean(values: Sequence[float]) -> float | None:
    """The mean without the smallest and the largest; None where it is infinite, or there are fewer than three."""
    return None if len(values) < OLYMPIC_RUNS else finite(fmean(sorted(values)[1:-1]))


def overlap(one: Median, other: Median) -> bool:
    """Whether two intervals have a point in common; one run has no interval that could keep it apart from another."""
    if one.interval is None or other.interval is None:
        return True
    (low, high), (other_low, other_high) = _ends(one.interval), _ends(other.interval)
    return low <= other_high and other_low <= high


def infinite(value: float | None) -> float:
    """None as the infinity that it stands for."""
    return math.inf if value is None else value


def finite(value: float) -> float | None:
    """An infinity as the None that stands for it."""
    return value if math.isfinite(value) else None


def _ends(interval: Interval) -> tuple[float, float]:
    return infinite(interval.low), infinite(interval.high)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points of two costs no other point beats in one and equals in the other; infinite ones are on no front."""
    on = [False] * len(points)
    least, previous = math.inf, (math.inf, math.inf)
    for index in sorted(range(len(points)), key=points.__getitem__):
        point = points[index]
        if math.isfinite(point[0]) and (point[1] < least or point == previous):
            on[index] = True
            least, previous = point[1], point
    return on


# ---- what is measured


def _measure(
    results: Sequence[Result], value: Callable[[Result], float | None], refusal: Callable[[Result], str | None]
) -> Measure:
    """The median over all runs, infinite where one missed; one that reached and has no value leaves none to give."""
    values: list[float] = []
    refusals: list[tuple[str, str]] = []
    for result in results:
        if result.to_target_s is None:
            values.append(math.inf)
            continue
        because, found = refusal(result), value(result)
        if because is not None or found is None:
            refusals.append((because or "not measured", result.id))
        else:
            values.append(float(found))
    if not refusals:
        return Measure(median=median_of(values))
    because, run = refusals[0]
    reached = sum(result.to_target_s is not None for result in results)
    of_all = len(refusals) == reached and all(reason == because for reason, _ in refusals)
    return Measure(median=None, unavailable_because=because if of_all else f"run {run}: {because}")
