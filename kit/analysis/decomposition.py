"""A speed-up as a product of factors.

A run takes T = F / (N R eta): F training operations to the target on N devices, of which each attains at most
R = F / roof(mix, device) operations per second on this mix of operators, and did attain the share eta of that. So

    T_A / T_B = F_A / F_B  x  N_B / N_A  x  R_B / R_A                       x  eta_B / eta_A
              = algorithm  x  scale      x  hardware x precision and mix    x  implementation.

R_B / R_A is the ratio between devices at one mix times the ratio between mixes on one device. Which is taken first
matters a little: each factor is the geometric mean of both orders, and how far the orders are apart is the interaction.
The implementation is what the other factors leave, so the product is exact; a factor that is not known stays in it, and
the name of the product says so.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from kit.analysis.estimate import CONFIDENCE, EXACTLY_ONE, Estimate, coverage, known_within, log_median
from kit.analysis.side import Side, mix_distance, mix_flops, require_same_goal, same_mix
from kit.errors import KitError
from kit.hardware.roof import Roof, SpecRoof, nominal_dtype
from kit.hardware.specs import GpuSpec, relative_speed
from kit.track import Model

Part = Literal["algorithm", "luck", "scale", "hardware", "precision and mix", "implementation"]

NOMINAL_LOG_ERROR = 0.2
"""Standard error of the log of a sqrt(peak x bandwidth) ratio: over 7 NVIDIA GPUs the 90th percentile is 34 %."""

ROUNDING = 1e-9


class Factor(Model):
    """One factor of a speed-up, above 1 where B gains by it."""

    name: str
    parts: tuple[Part, ...]
    """What it holds: more than one where they cannot be told apart."""
    ratio: float
    low: float | None
    """Of the 95 % interval; None where the factor is exact, or no error is known."""
    high: float | None
    """None beside a lower limit: unbounded."""
    exact: bool
    """The same thing on both sides, or a ratio of counts."""
    separable: bool | None
    """Whether the interval leaves out 1; None without an interval."""
    basis: str
    """How it was got."""
    split: tuple["Factor", ...] = ()
    """Factors of this factor."""


class SideSummary(Model):
    """What a side is, in numbers."""

    name: str
    time_s: float
    runs: int
    reached: int
    device: str
    devices: int | None
    train_flops: float | None
    flops_method: Literal["counted", "estimated"] | None
    samples: float | None
    attained: float | None
    """Share of what its devices could attain at best; None where their roof or the operators are not known."""
    attained_of: Literal["measured", "spec"] | None
    clock: str


class Decomposition(Model):
    """Why B takes another time than A."""

    a: SideSummary
    b: SideSummary
    speedup: Factor
    factors: tuple[Factor, ...]
    """Their product is the speed-up."""
    interaction_log: float | None
    """Log of hardware at A's mix less that at B's mix; None where only one is known."""
    algorithmic_efficiency: Factor | None
    no_efficiency_because: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Known:
    """A part that can be told apart."""

    estimate: Estimate
    basis: str
    split: tuple[Factor, ...] = ()


def decompose(a: Side, b: Side) -> Decomposition:
    """Split the speed-up from A to B.

    Raises:
        KitError: They did not race for the same target.
    """
    require_same_goal(a, b)
    total = log_median(a.times_s) - log_median(b.times_s)
    known: dict[Part, _Known] = _algorithm(a, b) | _scale(a, b)
    rates, interaction_log = _rates(a, b)
    known |= rates
    factors = [_factor(part, (part,), it.estimate, it.basis, it.split) for part, it in known.items()]
    factors.append(_rest(a, b, total, known))
    efficiency, refusal = _efficiency_or_reason(a, b)
    return Decomposition(
        a=_summary(a),
        b=_summary(b),
        speedup=_factor("speed-up", (), total, "median times to the target"),
        factors=tuple(factors),
        interaction_log=interaction_log,
        algorithmic_efficiency=efficiency,
        no_efficiency_because=refusal,
        notes=tuple(_notes(a, b, known)),
    )


def algorithmic_efficiency(baseline: Side, entry: Side) -> Factor:
    """Training operations of the baseline over those of the entry, to the same target (Hernandez and Brown, 2020).

    Both are counted as executed, forward, backward and optimizer, a multiply-add as two operations.

    Raises:
        KitError: They did not race for the same target, or one of the counts is missing or not rated.
    """
    require_same_goal(baseline, entry)
    for side in (baseline, entry):
        if side.flops is None or side.flops_method != "counted":
            reason = side.flops_unknown_because or "its operations are estimated, not counted"
            raise KitError(f"{side.name}: algorithmic efficiency needs counted training operations: {reason}")
    estimate = log_median(baseline.flops or ()) - log_median(entry.flops or ())
    return _factor("algorithmic efficiency", ("algorithm",), estimate, "training operations, baseline over entry")


def _efficiency_or_reason(a: Side, b: Side) -> tuple[Factor | None, str | None]:
    try:
        return algorithmic_efficiency(a, b), None
    except KitError as error:
        return None, str(error)


# ---- the parts


def _algorithm(a: Side, b: Side) -> dict[Part, _Known]:
    samples = None
    if a.samples is not None and b.samples is not None:
        samples = Estimate(math.log(a.samples / b.samples), complete=False)
    if a.recipe is not None and a.recipe == b.recipe:
        same: dict[Part, _Known] = {"algorithm": _Known(EXACTLY_ONE, "the same recipe")}
        if samples is not None:
            same["luck"] = _Known(samples, f"samples to the target within one recipe{_between(a.samples, b.samples)}")
        return same
    same_network = a.network is not None and a.network == b.network
    if a.flops is not None and b.flops is not None:
        estimate = log_median(a.flops) - log_median(b.flops)
        variants = 0.0 if same_network else math.hypot(a.flops_log_error, b.flops_log_error)
        if variants:
            estimate += known_within(0.0, variants)
        methods = " and ".join(dict.fromkeys(str(side.flops_method) for side in (a, b)))
        basis = f"training operations, {methods}"
    elif same_network and samples is not None:
        estimate, basis = samples, "samples to the target of the same network"
    else:
        return {}
    split: tuple[Factor, ...] = ()
    if samples is not None:
        per_sample = estimate - samples
        basis_per_sample = basis
        if same_network and abs(per_sample.log) < ROUNDING:
            per_sample, basis_per_sample = EXACTLY_ONE, "the same network"
        split = (
            _samples_factor(a, b, samples),
            _factor("FLOPs per sample", ("algorithm",), per_sample, basis_per_sample),
        )
    return {"algorithm": _Known(estimate, basis, split)}


def _scale(a: Side, b: Side) -> dict[Part, _Known]:
    if a.devices is None or b.devices is None:
        return {}
    log = math.log(b.devices / a.devices)
    return {"scale": _Known(Estimate(log), f"devices{_between(a.devices, b.devices)}")}


def _rates(a: Side, b: Side) -> tuple[dict[Part, _Known], float | None]:
    """Hardware, and precision and mix, as far as they are known; and their interaction."""
    same_device = a.capability.is_as_fast_as(b.capability)
    equal_mix = same_mix(a.operators, b.operators)
    hardware = _Known(EXACTLY_ONE, "the same device") if same_device else None
    precision = _Known(EXACTLY_ONE, "the same operators") if equal_mix else None
    interaction_log = None
    mixes = [side.operators for side in (a, b) if mix_flops(side.operators) > 0]
    roofs = _roofs(a, b)
    if mixes and roofs is not None:
        old, new = roofs
        error = max(old.log_error, new.log_error)
        basis = "measured profiles" if old.method == "measured" else "spec sheets: indicative"
        # One row per mix, one column per device.
        logs = [[math.log(mix_flops(mix) / roof.seconds(mix)) for roof in roofs] for mix in mixes]
        by_mix = [on_new - on_old for on_old, on_new in logs]
        if hardware is None:
            hardware = _Known(known_within(sum(by_mix) / len(by_mix), error), basis)
        if precision is None and len(mixes) == 2:
            by_device = [other - one for one, other in zip(*logs, strict=True)]
            # The error of a roof cancels in what both mixes have in common.
            apart = max(mix_distance(a.operators, b.operators, roof) for roof in roofs)
            precision = _Known(known_within(sum(by_device) / 2, error * apart), basis)
        if not same_device and len(mixes) == 2:
            interaction_log = 0.0 if equal_mix else by_mix[0] - by_mix[1]
    elif hardware is None:
        hardware = _nominal_hardware(a.capability.spec, b.capability.spec)
    parts: dict[Part, _Known | None] = {"hardware": hardware, "precision and mix": precision}
    return {part: it for part, it in parts.items() if it is not None}, interaction_log


def _nominal_hardware(old: GpuSpec | None, new: GpuSpec | None) -> _Known | None:
    """The ratio of two data sheets, where no operators are known."""
    if old is None or new is None:
        return None
    dtypes = [nominal_dtype(spec) for spec in (old, new)]
    log = math.log(relative_speed(new, dtypes[1]) / relative_speed(old, dtypes[0]))
    at = " and ".join(dict.fromkeys(dtypes))
    return _Known(known_within(log, NOMINAL_LOG_ERROR), f"spec sheets, sqrt(peak × bandwidth) at {at}: indicative")


def _roofs(a: Side, b: Side) -> tuple[Roof, Roof] | None:
    """The best that both sides have of one kind: a measured roof and a data sheet's are no pair."""
    if a.capability.profile is not None and b.capability.profile is not None:
        return a.capability.profile, b.capability.profile
    if a.capability.spec is not None and b.capability.spec is not None:
        return SpecRoof(a.capability.spec), SpecRoof(b.capability.spec)
    return None


def _rest(a: Side, b: Side, total: Estimate, known: dict[Part, _Known]) -> Factor:
    """The implementation, with all that could not be told apart from it."""
    unknown: list[Part] = [part for part in ("algorithm", "scale", "hardware") if part not in known]
    mixed: list[Part] = [] if "precision and mix" in known else ["precision and mix"]
    noise = total
    errors = [it.estimate for it in known.values()]
    if a.flops_method == b.flops_method == "counted" and "algorithm" in known:
        # Runs that take more operations take more time: what varies here is the time per operation.
        noise = log_median(a.seconds_per_flop) - log_median(b.seconds_per_flop)
        errors = [it.estimate for part, it in known.items() if part != "algorithm"]
    for error in errors:
        noise -= error
    log = total.log - math.fsum(it.estimate.log for it in known.values())
    estimate = Estimate(log, noise.down, noise.up, noise.complete)
    names = [*unknown, "implementation"]
    split: tuple[Factor, ...] = ()
    if "algorithm" in unknown and a.samples is not None and b.samples is not None:
        samples = Estimate(math.log(a.samples / b.samples), complete=False)
        others = [name for name in names if name != "algorithm"]
        rest = Estimate(estimate.log - samples.log, estimate.down, estimate.up, complete=False)
        name = " × ".join(["FLOPs per sample", *others])
        split = (
            _samples_factor(a, b, samples),
            _factor(name, (*unknown, *mixed, "implementation"), rest, "what is left"),
        )
    basis = "what the other factors leave" + (", precision and mix included" if mixed else "")
    return _factor(" × ".join(names), (*unknown, *mixed, "implementation"), estimate, basis, split)


# ---- for people and programs


def _factor(
    name: str, parts: tuple[Part, ...], estimate: Estimate, basis: str, split: tuple[Factor, ...] = ()
) -> Factor:
    low = high = separable = None
    if estimate.interval is not None:
        low_log, high_log = estimate.interval
        low, high = math.exp(low_log), None if math.isinf(high_log) else math.exp(high_log)
        separable = low_log > 0 or high_log < 0
    return Factor(
        name=name,
        parts=parts,
        ratio=math.exp(estimate.log),
        low=low,
        high=high,
        exact=estimate.exact,
        separable=separable,
        basis=basis,
        split=split,
    )


def _samples_factor(a: Side, b: Side, samples: Estimate) -> Factor:
    basis = f"training images{_between(a.samples, b.samples)}"
    return _factor("samples to target", ("algorithm",), samples, basis)


def _between(a: float | None, b: float | None) -> str:
    return f": {a or 0:,.0f} to {b or 0:,.0f}"


def _summary(side: Side) -> SideSummary:
    attained = method = None
    roofs = _roofs(side, side)
    if roofs is not None and side.devices is not None and side.train_flops and mix_flops(side.operators) > 0:
        rate = mix_flops(side.operators) / roofs[0].seconds(side.operators)
        attained, method = side.train_flops / (side.devices * rate * side.time_s), roofs[0].method
    return SideSummary(
        name=side.name,
        time_s=side.time_s,
        runs=len(side.times_s),
        reached=sum(math.isfinite(time) for time in side.times_s),
        device=side.capability.name,
        devices=side.devices,
        train_flops=side.train_flops,
        flops_method=side.flops_method if side.flops is not None else None,
        samples=side.samples,
        attained=attained,
        attained_of=method,
        clock=side.clock,
    )


def _notes(a: Side, b: Side, known: Collection[Part]) -> Iterator[str]:
    """What a reader must know before using the numbers."""
    single = [letter for letter, side in (("A", a), ("B", b)) if len(side.times_s) == 1]
    if single:
        yield f"{' and '.join(single)}: one run; what another seed would give is not known, and in no interval"
    for letter, side in (("A", a), ("B", b)):
        runs = len(side.times_s)
        missed = sum(math.isinf(time) for time in side.times_s)
        if runs > 1 and coverage(runs) < CONFIDENCE:
            yield f"{letter}: {runs} runs, of which the range holds the true median with {coverage(runs):.0%}"
        if missed:
            yield f"{letter}: {missed} of {runs} runs did not reach the target and count as infinitely slow"
        if side.flops is None and "algorithm" not in known:
            yield f"{letter}: training operations are not known: {side.flops_unknown_because or 'no count'}"
        if "hardware" not in known and side.capability.spec is None and side.capability.profile is None:
            yield f"{letter}: no speed is known of {side.capability.name}"
        if side.capability.assumed is not None:
            yield f"{letter}: what its hardware's description leaves open is assumed: {side.capability.assumed}"
    if a.clock != b.clock:
        yield f"the clocks differ: A by {a.clock}; B by {b.clock}"
