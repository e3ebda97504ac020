"""Checking a count: a replay in which a profiler looks at random windows on all threads, beside the counter.

What stays out of sight: other processes, kernels that are launched without torch, and whatever the submission does to
the process that measures itself. Which windows are looked at is drawn when the audit begins.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.hardware.specs import DTYPES, spec_named
from kit.protocol import AuditedWindow, Window
from kit.referee.replay import doubt, replay, steps_of
from kit.results.audit import AUDIT_FILE, Audit, AuditWindow
from kit.results.events import CountStarted, Event
from kit.results.record import MAX_UNCOUNTED_TIME, Record, Steps, UncountedOperator
from kit.results.store import read_record, write_json
from kit.version import __version__

WINDOWS = 3
MAX_WINDOWS = 100
"""Of all ranks."""
TICKS = 8
"""Of a window: with a loader, four steps of training."""
TOLERANCE = 0.01


def audit(
    path: Path,
    prepared: Prepared,
    tell: Callable[[Event], None],
    *,
    windows: int = WINDOWS,
) -> tuple[Audit, Path]:
    """Replay the run of the record at `path` once more, compare, and write the audit beside the record.

    Args:
        path: Of the record file.
        prepared: The data that the run was on.
        tell: Hears of the start.
        windows: How many to look at, on every rank.

    Raises:
        KitError: The operations are not counted yet, the data is not what the run was on, or the replay failed.
    """
    record = read_record(path)
    if record.flops.method not in ("replay", "sampled") or record.steps is None:
        raise KitError(f"{path}: there is no count to audit; kit count {path} makes one")
    chosen = choose(record.steps, min(windows, MAX_WINDOWS // record.device.ranks))
    tell(CountStarted())
    # Of a sampled record, only the windows are counted: a whole count of so long a run is what sampling avoids.
    seed = 0 if record.flops.method == "sampled" else None
    talk, values = replay(record, path, prepared, tell, output="audit.log", sampling_seed=seed, audit=chosen)
    if talk.done is None or talk.done.counted is None:
        raise KitError(f"{path}: the audit's replay ended as '{talk.fate}': {talk.reason}; audit it again")
    found = tuple(_window(window) for window in talk.done.audited)
    steps = steps_of(talk.done)
    reasons = [
        *_differences(found),
        *filter(None, [doubt(steps, max(values, default=None), record, prepared.spec.test_count)]),
        *above_peak(record),
    ]
    if seed is None:
        again = sum(row.flops for row in talk.done.counted.operators)
        recorded = (record.flops.train_total or 0) + (record.flops.evaluation_total or 0)
        if _apart(again, recorded):
            reasons.append(f"the record has {recorded:.4g} operations, this replay came to {again:.4g}")
    result = Audit(
        record_id=record.id,
        record_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kit_version=__version__,
        audited_at=datetime.now(UTC),
        windows=found,
        disagrees_because=tuple(reasons),
    )
    return result, write_json(result, path.with_name(AUDIT_FILE))


def choose(steps: Steps, windows: int) -> list[Window]:
    """Windows that nobody can know before, apart and in order; of a short run all of it."""
    total = steps.optimizer_steps + steps.loader_batches + steps.evaluations
    blocks = range(max(1, -(-total // TICKS)))
    chosen = secrets.SystemRandom().sample(blocks, min(windows, len(blocks)))
    return [Window(first=block * TICKS, ticks=TICKS) for block in sorted(chosen)]


def _window(window: AuditedWindow) -> AuditWindow:
    rows = tuple(
        UncountedOperator(
            operator=row.operator,
            calls=row.calls,
            bytes=row.bytes,
            time_share=row.busy_s / window.busy_s if window.busy_s else None,
        )
        for row in window.uncounted
    )
    return AuditWindow(
        **window.model_dump(exclude={"uncounted", "unread"}), unread=tuple(window.unread), uncounted=rows
    )


def _differences(windows: tuple[AuditWindow, ...]) -> Iterator[str]:
    if not any(window.profiled for window in windows):
        yield "the profiler saw no counted operator in any window: there is nothing to compare"
    for window in windows:
        where = f"in ticks {window.first} to {window.first + window.ticks}"
        counted, profiled = _total(window.counted), _total(window.profiled)
        if _apart(counted, profiled):
            text = f"{where} the profiler saw {profiled:.4g} operations, the counter {counted:.4g}"
            if window.elsewhere_flops:
                text += f"; {window.elsewhere_flops:.4g} were on other threads"
            yield text
        declared, inside = window.counted.get("declared", 0), window.profiled.get("declared", 0)
        if inside > declared * (1 + TOLERANCE):
            yield f"{where} operators declared {declared:.4g} operations and did {inside:.4g}"
    busy_s = sum(window.busy_s for window in windows)
    share = sum(window.uncounted_share * window.busy_s for window in windows) / busy_s if busy_s else 0.0
    if share > MAX_UNCOUNTED_TIME:
        names = sorted({row.operator for window in windows for row in window.uncounted})
        yield f"{share:.0%} of the time went to operators without a rule: {', '.join(names[:3])}"


def _total(flops: Mapping[str, int]) -> int:
    return sum(value for name, value in flops.items() if name != "declared")


def _apart(one: float, other: float) -> bool:
    return abs(one - other) > TOLERANCE * max(one, other)


def above_peak(record: Record) -> Iterator[str]:
    """More operations than the device can have done while the clock ran say that the count is wrong."""
    spec = spec_named(record.device.name)
    for dtype in DTYPES:
        peak_tflops = None if spec is None else spec.peak_tflops(dtype)
        if peak_tflops is None:
            continue
        flops = sum(row.calls * row.flops_per_call for row in record.flops.operators if row.dtype == dtype)
        possible = peak_tflops * 1e12 * record.device.count * (record.time.total_s or 0.0)
        if flops > possible:
            yield f"{flops:.4g} operations in {dtype} are more than the device can do in that time ({possible:.4g})"
