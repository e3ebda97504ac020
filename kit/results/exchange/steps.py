"""How far training was at a moment, from what a record says."""

from bisect import bisect_right
from typing import Any, TypeGuard

from kit.results.record import Record

MAX_BATCH_SIZE = 10**12


def is_batch_size(value: Any) -> TypeGuard[int]:
    """Whether it is a number of images per optimizer step."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_BATCH_SIZE


def optimizer_steps_at(record: Record, elapsed_s: float) -> float | None:
    """Optimizer steps done so long after `go`: exact where the referee saw a step, straight lines between.

    The referee notes when 1, 2, 4, 8 and so on steps were done, and how many there were in the end. None where the
    record does not say that.
    """
    if record.steps is None or not record.time.total_s:
        return None
    total = record.steps.optimizer_steps
    seen = [(point.elapsed_s, point.optimizer_steps) for point in record.progress if point.optimizer_steps < total]
    points = [(0.0, 0), *sorted(seen), (record.time.total_s, total)]
    after = bisect_right([moment for moment, _ in points], elapsed_s)
    if after == len(points):
        return float(total)
    (t0, n0), (t1, n1) = points[max(after - 1, 0)], points[after]
    return n0 + (n1 - n0) * max(0.0, elapsed_s - t0) / (t1 - t0)
