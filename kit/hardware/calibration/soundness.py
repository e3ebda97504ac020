"""Points that make no sense: a machine does not do more work in less time, nor a little more work in very much more."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

GROWTH = 2.0
"""Two points of a series are compared when work and bytes grow at least so much."""
TOLERANCE = 0.1
"""A fall of time within this, or within both spreads, is no contradiction: kernels are chosen by size."""
SUPERLINEAR = 8.0
"""Time may grow so many times faster than work, as caches are left behind and slower kernels chosen, and no more."""
MAX_SPREAD = 0.5
"""A point whose slots disagree more than this is not known."""


@dataclass(frozen=True)
class Candidate:
    """A point before it is believed."""

    series: str
    flops: float
    size_bytes: float
    seconds: float
    spread: float

    @property
    def _work(self) -> float:
        return self.flops or self.size_bytes

    def _much_smaller_than(self, other: "Candidate") -> bool:
        return self._work * GROWTH <= other._work and self.flops <= other.flops and self.size_bytes <= other.size_bytes

    def _contradicts(self, larger: "Candidate") -> bool:
        tolerance = max(TOLERANCE, self.spread + larger.spread)
        return larger.seconds < self.seconds * (1 - tolerance)


def suspects(candidates: Sequence[Candidate]) -> dict[int, str]:
    """Indices of points that cannot be right, with the reason. Disturbances add time: the slow one is suspected."""
    found: dict[int, str] = {}
    series: dict[str, list[int]] = defaultdict(list)
    for index, candidate in enumerate(candidates):
        series[candidate.series].append(index)
        if candidate.spread > MAX_SPREAD:
            found[index] = f"its timings differ by {candidate.spread:.0%}"
    for members in series.values():
        members.sort(key=lambda index: candidates[index]._work)
        for smaller, larger in combinations(members, 2):
            small, large = candidates[smaller], candidates[larger]
            if small._much_smaller_than(large) and small._contradicts(large):
                found[smaller] = f"{small.seconds:.3g} s, but {large.seconds:.3g} s for a larger one"
        for smaller, larger in pairwise(members):
            small, large = candidates[smaller], candidates[larger]
            if smaller in found or not small._work:
                continue
            work = large._work / small._work
            if large.seconds > small.seconds * SUPERLINEAR * max(1.0, work):
                reason = f"{large.seconds:.3g} s, but {small.seconds:.3g} s for {1 / work:.2g} of the work"
                found.setdefault(larger, reason)
    return found
