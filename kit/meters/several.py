"""What the meters of several GPUs come to, as one reading."""

from collections.abc import Callable, Iterable, Sequence
from math import hypot
from typing import TypeVar

from kit.results.record import Conditions, Energy

N = TypeVar("N", int, float)


def energy_of_all(parts: Sequence[Energy]) -> Energy:
    """The sum. One GPU without a reading leaves none for all; errors of different sensors add as squares."""
    if len(parts) == 1:
        return parts[0]
    errors = [part.uncertainty_j for part in parts if part.uncertainty_j is not None]
    known = all(part.device_j is not None for part in parts)
    methods = {part.method for part in parts}
    scopes = {part.power_scope for part in parts}
    return Energy(
        device_j=_sum(part.device_j for part in parts),
        method=(methods.pop() if len(methods) == 1 else "nvml_instant_power") if known else None,
        update_period_s=_of_known(max, (part.update_period_s for part in parts)) if known else None,
        uncertainty_j=hypot(*errors) if known and len(errors) == len(parts) else None,
        unavailable_because=_reason(part.unavailable_because for part in parts),
        counter_unavailable_because=_reason(part.counter_unavailable_because for part in parts),
        sampled_j=_sum(part.sampled_j for part in parts),
        sampled_unavailable_because=_reason(part.sampled_unavailable_because for part in parts),
        power_scope=scopes.pop() if len(scopes) == 1 else None,
        idle_w=_sum(part.idle_w for part in parts),
        flags=tuple(dict.fromkeys(flag for part in parts for flag in part.flags)),
    )


def conditions_of_all(parts: Sequence[Conditions]) -> Conditions:
    """The worst of each: the hottest, the slowest, the longest held down."""

    def worst(choose: Callable[[Iterable[float]], float], name: str) -> float | None:
        return _of_known(choose, (getattr(part, name) for part in parts))

    hot, long = ("temperature_start_c", "temperature_end_c"), ("throttled_power_s", "throttled_heat_s")
    slow = [name for name in Conditions.model_fields if name.startswith("clock_")]
    update = {name: worst(max, name) for name in (*hot, *long)} | {name: worst(min, name) for name in slow}
    foreign = sorted((other for part in parts for other in part.foreign_processes), key=lambda other: other.pid)
    return parts[0].model_copy(update=update | {"foreign_processes": tuple(foreign)})


def _sum(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    return None if None in numbers else sum(number for number in numbers if number is not None)


def _of_known(choose: Callable[[Iterable[N]], N], values: Iterable[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None


def _reason(reasons: Iterable[str | None]) -> str | None:
    return next((f"GPU {number}: {reason}" for number, reason in enumerate(reasons) if reason is not None), None)
