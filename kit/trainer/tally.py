"""Running totals of operations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kit.protocol import Counted, DeclaredOperator, OperatorCount, Phase, Sampling, UncountedOperator

MAX_LISTED = 200


@dataclass
class Tally:
    """What some stretch of a program came to."""

    rows: dict[tuple[str, str, Phase, bool, int, int], list[float]] = field(default_factory=dict)
    """Calls, operations, recomputed operations, bytes and seconds by class, dtype, phase, direction and, in octaves,
    operations and bytes per call."""
    uncounted: dict[str, list[float]] = field(default_factory=dict)
    """Calls, bytes and seconds by operator."""
    declared: dict[str, list[float]] = field(default_factory=dict)
    """Calls and operations by operator, where the submission gave the rule."""

    def add(self, other: "Tally") -> None:
        """Add another's totals."""
        for ours, theirs in zip(self._totals, other._totals, strict=True):
            for key, values in theirs.items():
                ours[key] = [a + b for a, b in zip(ours.get(key, [0] * len(values)), values, strict=True)]

    def times(self, number: int, of: int) -> "Tally":
        """What `number` steps come to where `of` steps came to this."""

        def share(value: float) -> float:
            whole, rest = divmod(value * number, of)
            return whole if rest == 0 else value * number / of

        return Tally(
            *({key: [share(value) for value in values] for key, values in totals.items()} for totals in self._totals)
        )

    def same(self, other: "Tally") -> bool:
        """Whether both are equal but for times."""
        return self._without_times() == other._without_times()

    @classmethod
    def of(cls, counted: Counted) -> "Tally":
        """What a message says."""
        tally = cls()
        for row in counted.operators:
            octaves = (int(total / max(1, row.calls)).bit_length() for total in (row.flops, row.bytes))
            values = [row.calls, row.flops, row.recomputed_flops, row.bytes, row.busy_s or 0.0]
            key = row.operator_class, row.dtype, row.phase, row.backward, *octaves
            tally.add(cls(rows={key: values}))  # type: ignore[dict-item]
        for listed in counted.uncounted:
            tally.uncounted[listed.operator] = [listed.calls, listed.bytes, listed.busy_s]
        for declared in counted.declared:
            tally.declared[declared.operator] = [declared.calls, declared.flops]
        return tally

    @property
    def _totals(self) -> tuple[dict[Any, list[float]], ...]:
        return self.rows, self.uncounted, self.declared

    def _without_times(self) -> list[dict[Any, list[float]]]:
        return [
            {key: values[:timeless] for key, values in totals.items()}
            for totals, timeless in zip(self._totals, (4, 2, 2), strict=True)
        ]

    def counted(self, *, timed: bool, sampling: Sampling | None = None) -> Counted:
        """As a message, largest first; `timed` where the rows' seconds mean something."""
        rows = sorted(self.rows.items(), key=lambda item: (-item[1][1], -item[1][3], item[0]))
        uncounted = sorted(self.uncounted.items(), key=lambda item: (-item[1][2], item[0]))
        return Counted(
            operators=[
                OperatorCount(
                    operator_class=operator_class,
                    dtype=dtype,
                    phase=phase,
                    backward=backward,
                    calls=round(calls),
                    flops=round(flops),
                    recomputed_flops=round(recomputed),
                    bytes=round(size),
                    busy_s=busy_s if timed else None,
                )
                for (operator_class, dtype, phase, backward, _, _), (calls, flops, recomputed, size, busy_s) in rows
            ],
            uncounted=[
                UncountedOperator(operator=name[:128], calls=round(calls), bytes=round(size), busy_s=busy_s)
                for name, (calls, size, busy_s) in uncounted[:MAX_LISTED]
            ],
            declared=[
                DeclaredOperator(operator=name[:128], calls=round(calls), flops=round(flops))
                for name, (calls, flops) in sorted(self.declared.items())[:MAX_LISTED]
            ],
            sampling=sampling,
        )


def together(counts: Sequence[Counted]) -> Counted:
    """What several processes counted, as the count of one."""
    total = Tally()
    for counted in counts:
        total.add(Tally.of(counted))
    samplings = [counted.sampling for counted in counts if counted.sampling is not None]
    return total.counted(
        timed=all(row.busy_s is not None for counted in counts for row in counted.operators),
        sampling=Sampling(**{name: sum(getattr(one, name) for one in samplings) for name in Sampling.model_fields})
        if samplings
        else None,
    )
