"""Whether a machine is as fast as it was: one calibration against an earlier one of the same machine."""

from collections import defaultdict
from collections.abc import Sequence
from math import comb, exp, hypot, log
from statistics import median
from typing import Literal

from kit.errors import KitError
from kit.hardware.profile import Profile
from kit.results.record import Device
from kit.track import Model

CONFIDENCE = 0.95
MIN_DRIFT = 0.03
MIN_CLASS_DRIFT = 0.06
"""Changes of time below these, of all classes together or of one class, are not called drift."""


class Change(Model):
    """New time divided by old time."""

    what: str
    points: int
    ratio: float
    """The median."""
    low: float
    high: float
    """Order statistics around it, at 95 %; of few points their whole range."""
    spread: float
    """What the two profiles' own spreads allow one of these points to differ by, relative."""
    drifted: bool


class Drift(Model):
    """What changed between two calibrations."""

    old: str
    new: str
    classes: tuple[Change, ...]
    overall: Change
    """Over the classes' medians: each class counts once, however many points it has."""
    changed: tuple[str, ...]
    """Versions and settings that are others now: then a drift has an explanation."""
    verdict: Literal["steady", "drifted", "unclear"]
    because: str


def compare(old: Profile, new: Profile) -> Drift:
    """Compare a calibration with an earlier one.

    Raises:
        KitError: They are of two machines, or have no point in common.
    """
    check_same_machine(old, new.device)
    classes = tuple(
        _change(what, ratios, spreads, at_least=MIN_CLASS_DRIFT)
        for what, (ratios, spreads) in _ratios(old, new).items()
    )
    if not classes:
        raise KitError(f"profiles {old.id} and {new.id} have no point in common: measure both with the same kit")
    spread = median(change.spread for change in classes)
    overall = _change("overall", [log(change.ratio) for change in classes], [spread], at_least=MIN_DRIFT)
    verdict, because = _verdict(old, new, classes, overall)
    return Drift(
        old=old.id,
        new=new.id,
        classes=classes,
        overall=overall,
        changed=tuple(_changed(old, new)),
        verdict=verdict,
        because=because,
    )


def check_same_machine(old: Profile, device: Device) -> None:
    """See whether a profile is of this device.

    Raises:
        KitError: It is of another.
    """
    for what in ("type", "name", "count", "uuid_hash"):
        before, after = getattr(old.device, what), getattr(device, what)
        if before != after:
            raise KitError(
                f"profile {old.id} is of another machine ({what} {before}, here {after}): "
                "drift is told from two calibrations of one machine"
            )


def _verdict(
    old: Profile, new: Profile, classes: Sequence[Change], overall: Change
) -> tuple[Literal["steady", "drifted", "unclear"], str]:
    for which, profile in (("earlier", old), ("new", new)):
        if profile.noise.noisy:
            return "unclear", f"the {which} profile is noisy: {profile.noise.because}"
    moved = [change.what for change in classes if change.drifted]
    if overall.drifted:
        word = "longer" if overall.ratio > 1 else "shorter"
        return "drifted", f"everything takes {abs(overall.ratio - 1):.1%} {word}"
    if moved:
        return "drifted", f"other times than before for {', '.join(moved)}"
    return "steady", "no class of operators moved by more than repetitions do"


def _ratios(old: Profile, new: Profile) -> dict[str, tuple[list[float], list[float]]]:
    """Logarithms of the ratios and the spreads of the points that both have, by class and dtype."""
    before, after = _times(old), _times(new)
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for key, (seconds, spread) in after.items():
        if key in before:
            old_seconds, old_spread = before[key]
            ratios, spreads = found[key[0]]
            ratios.append(log(seconds / old_seconds))
            spreads.append(hypot(spread, old_spread))
    return dict(found)


def _times(profile: Profile) -> dict[tuple[str, ...], tuple[float, float]]:
    times: dict[tuple[str, ...], tuple[float, float]] = {}
    for curve in profile.curves:
        what = f"{curve.operator_class}{' backward' if curve.backward else ''} {curve.dtype}"
        for point in curve.points:
            key = (what, point.series, f"{point.flops_per_call:g}", f"{point.bytes_per_call:g}")
            times[key] = (point.seconds, point.spread)
    for workload in profile.workloads:
        times["training steps", workload.name, workload.dtype, str(workload.compiled)] = (
            workload.step_s,
            workload.spread,
        )
    return times


def _change(what: str, ratios: Sequence[float], spreads: Sequence[float], *, at_least: float) -> Change:
    ordered = sorted(ratios)
    rank = _rank(len(ordered))
    low, middle, high = ordered[rank], median(ordered), ordered[-1 - rank]
    spread = median(spreads)
    threshold = max(log(1 + at_least), log(1 + spread))
    return Change(
        what=what,
        points=len(ordered),
        ratio=exp(middle),
        low=exp(low),
        high=exp(high),
        spread=spread,
        drifted=abs(middle) > threshold and low * high > 0,
    )


def _rank(count: int) -> int:
    """The order statistics that hold the median of `count` values with 95 %: these many from either end."""
    rank, outside = 0, 0.0
    while rank < count // 2:
        outside += 2 * comb(count, rank) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        rank += 1
    return max(0, rank - 1)


def _changed(old: Profile, new: Profile) -> list[str]:
    found = []
    for part in ("device", "software", "settings"):
        before, after = getattr(old, part).model_dump(), getattr(new, part).model_dump()
        found += [f"{name}: {before[name]} → {after[name]}" for name in before if before[name] != after[name]]
    return found
