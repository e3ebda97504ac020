"""MLPerf Training's result files: events among whatever else a run printed, one `:::MLLOG {...}` in a line.

Facts: github.com/mlcommons/logging (package mlperf-logging 4.1.68), and power_measurement.adoc of training_policies.
Files of rounds before 0.7 have another format.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.imported import Imported, Reading, UnreadableError, open_regular
from kit.results.table import own_columns
from kit.track import Model

TOKEN = b":::MLLOG "
OLD_TOKENS = (b":::MLPv0.5", b":::MLL ")
MAX_LINE_BYTES = 1 << 20
MAX_LOG_BYTES = 4 << 30
MAX_REFUSED_LINES = 20
"""Of one file that are told one by one."""
MAX_EVALUATIONS = 1_000_000
POWER_DIR = "power"
"""Beside a result file, with a folder of its name that holds a log for every node and switch."""


class MlperfRun(Model):
    """One run, as its log tells; what it does not tell is None."""

    file: str
    benchmark: str
    submitter: str | None
    division: str | None
    status: str | None
    """Of the system: onprem, cloud, preview or research."""
    platform: str | None
    outcome: str
    """How the run ended: success, aborted."""
    time_to_target_s: Annotated[float, Field(gt=0)] | None
    """By MLPerf's clock, from run_start to run_stop; None of a run that was aborted."""
    run_s: Annotated[float, Field(gt=0)]
    accuracy: float | None
    """Of the last evaluation before the end, in the benchmark's own metric."""
    evaluations: int
    epoch: float | None
    """Of that evaluation."""
    samples: float | None
    """Training samples until then, repetitions counted: as logged, or epochs times the training set."""
    train_samples: float | None
    eval_samples: float | None
    global_batch_size: float | None
    seed: int | None
    mean_power_w: float | None
    """Of all nodes and switches, as MLPerf computes it: at the power supply, or the wall times its efficiency."""
    energy_j: float | None
    """That times the time to the target."""


COLUMNS = own_columns(MlperfRun)


@dataclass(frozen=True)
class Event:
    """One line."""

    line: int
    time_ms: float
    key: str
    value: Any
    metadata: dict[str, Any]


@dataclass
class Log:
    """The events of one file that matter here."""

    first: dict[str, Event] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    evaluations: list[Event] = field(default_factory=list)
    power: list[Event] = field(default_factory=list)


ONCE = (
    "submission_benchmark",
    "submission_org",
    "submission_division",
    "submission_status",
    "submission_platform",
    "run_start",
    "run_stop",
    "train_samples",
    "eval_samples",
    "global_batch_size",
    "seed",
)
POWER_KEYS = (
    "power_measurement_start",
    "power_measurement_stop",
    "power_reading",
    "conversion_eff",
    "interconnect_power_est",
)


def import_mlperf(paths: list[Path]) -> Imported[MlperfRun]:
    """Read result files, and those called result_*.txt below folders.

    Raises:
        KitError: There is nothing there.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise KitError(f"{path}: there is nothing here; expected MLPerf result files, or folders of them")
        found = sorted(path.rglob("result_*.txt")) if path.is_dir() else [path]
        if not found:
            raise KitError(f"{path}: no MLPerf result files here; expected result_*.txt")
        files += found
    reading = Reading(Path())
    rows = []
    for path in dict.fromkeys(files):
        try:
            rows.append(_run(path, _read(path, reading), reading))
        except UnreadableError as error:
            reading.refuse(path, str(error), error.line)
    return Imported(rows=tuple(rows), refused=tuple(reading.refused), notes=tuple(reading.notes))


# ---- events


def _read(path: Path, reading: Reading) -> Log:
    log, refused = Log(), 0
    for number, line in _lines(path):
        if TOKEN not in line:
            if any(token in line for token in OLD_TOKENS):
                raise UnreadableError(
                    "the format of MLPerf 0.5 and 0.6; :::MLLOG lines are read, of 0.7 and later", number
                )
            continue
        try:
            event = _event(number, line.rpartition(TOKEN)[2])
        except UnreadableError as error:
            refused += 1
            if refused <= MAX_REFUSED_LINES:
                reading.refuse(path, str(error), number)
            continue
        if event.key in ONCE:
            if event.key in log.first:
                log.repeated.add(event.key)
            log.first.setdefault(event.key, event)
        elif event.key == "eval_accuracy":
            log.evaluations.append(event)
        elif event.key in POWER_KEYS:
            log.power.append(event)
        if len(log.evaluations) + len(log.power) > MAX_EVALUATIONS:
            raise UnreadableError(f"more than {MAX_EVALUATIONS:,} evaluations and power readings", number)
    if refused > MAX_REFUSED_LINES:
        reading.refuse(path, f"{refused - MAX_REFUSED_LINES} more lines that cannot be read")
    return log


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines by number, in bounded memory; of an endless one its beginning."""
    with open_regular(path) as file:
        number = read = 0
        try:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield number, line
                while line and not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
                    read += len(line)
                    line = file.readline(MAX_LINE_BYTES)
                read += len(line)
                if read > MAX_LOG_BYTES:
                    raise UnreadableError(f"larger than {MAX_LOG_BYTES >> 30} GiB, which no result file is", number)
        except OSError as error:
            raise UnreadableError(error.strerror or "cannot be read") from error


def _event(number: int, text: bytes) -> Event:
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        what = (
            error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8, nested too deeply, or a huge number"
        )
        raise UnreadableError(f"not JSON after :::MLLOG: {what}") from None
    if not isinstance(found, dict) or not isinstance(found.get("key"), str):
        raise UnreadableError("expected an event with a key after :::MLLOG")
    time_ms, metadata = _finite(found.get("time_ms")), found.get("metadata")
    if time_ms is None:
        raise UnreadableError(f"{found['key']}: expected time_ms as a number, got {found.get('time_ms')!r}")
    return Event(number, time_ms, found["key"], found.get("value"), metadata if isinstance(metadata, dict) else {})


def _finite(value: Any) -> float | None:
    """A number that can be used, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


# ---- a run


def _run(path: Path, log: Log, reading: Reading) -> MlperfRun:
    for key in ("run_start", "run_stop"):
        if key in log.repeated:
            raise UnreadableError(f"{key} is there more than once: expected the log of one run", log.first[key].line)
    for key in ("submission_benchmark", "run_start", "run_stop"):
        if key not in log.first:
            raise UnreadableError(f"there is no {key}: not the log of a whole run")
    start, stop = log.first["run_start"], log.first["run_stop"]
    run_s = (stop.time_ms - start.time_ms) / 1000
    if run_s <= 0:
        raise UnreadableError("run_stop is not after run_start", stop.line)
    for key in sorted(log.repeated):
        reading.note(path, f"{key} is there more than once: the first counts", log.first[key].line)
    outcome = stop.metadata.get("status")
    if not isinstance(outcome, str):
        raise UnreadableError("run_stop does not say how the run ended", stop.line)
    judged = [event for event in log.evaluations if event.time_ms <= stop.time_ms and _finite(event.value) is not None]
    if len(judged) < len(log.evaluations):
        reading.note(path, f"{len(log.evaluations) - len(judged)} evaluations without a number, or after run_stop")
    last = max(judged, key=lambda event: event.time_ms, default=None)
    time_to_target_s = run_s if outcome == "success" else None
    power_w = _mean_power_w(path, log, reading)
    train_samples = _number(log, "train_samples")
    epoch = None if last is None else _finite(last.metadata.get("epoch_num"))
    samples = None if last is None else _finite(last.metadata.get("samples_count"))
    if samples is None and epoch is not None and train_samples is not None:
        samples = epoch * train_samples
    try:
        return MlperfRun(
            file=reading.name(path),
            benchmark=_text(log, "submission_benchmark") or "",
            submitter=_text(log, "submission_org"),
            division=_text(log, "submission_division"),
            status=_text(log, "submission_status"),
            platform=_text(log, "submission_platform"),
            outcome=outcome,
            time_to_target_s=time_to_target_s,
            run_s=run_s,
            accuracy=None if last is None else _finite(last.value),
            evaluations=len(judged),
            epoch=epoch,
            samples=samples,
            train_samples=train_samples,
            eval_samples=_number(log, "eval_samples"),
            global_batch_size=_number(log, "global_batch_size"),
            seed=seed if type(seed := _value(log, "seed")) is int else None,
            mean_power_w=power_w,
            energy_j=None if power_w is None or time_to_target_s is None else power_w * time_to_target_s,
        )
    except ValidationError as error:
        raise UnreadableError(first_problem(error)) from None


def _value(log: Log, key: str) -> Any:
    return log.first[key].value if key in log.first else None


def _text(log: Log, key: str) -> str | None:
    value = _value(log, key)
    return " ".join(value.split()) if isinstance(value, str) and value.strip() else None


def _number(log: Log, key: str) -> float | None:
    return _finite(_value(log, key))


# ---- power


def _mean_power_w(path: Path, log: Log, reading: Reading) -> float | None:
    """Over the measured time, summed over nodes and switches; None without readings, or where a log has none."""
    if log.power:
        parts = {path: log.power}
    else:
        parts = {}
        for file in sorted((path.parent / POWER_DIR / path.stem).glob("*.txt")):
            if file.name.startswith(("node_", "sw_")):
                try:
                    parts[file] = _read(file, reading).power
                except UnreadableError as error:
                    reading.refuse(file, str(error), error.line)
                    return None
    total_w = 0.0
    for file, events in parts.items():
        try:
            total_w += _one_mean_power_w(events)
        except UnreadableError as error:
            reading.refuse(file, f"no power: {error}", error.line)
            return None
    return total_w if parts else None


def _one_mean_power_w(events: list[Event]) -> float:
    """Each reading holds for the time since the one before it (power_measurement.adoc)."""
    ordered = sorted(events, key=lambda event: event.time_ms)
    efficiency = next((_watts(event) for event in reversed(ordered) if event.key == "conversion_eff"), 1.0)
    estimate = next((event for event in ordered if event.key == "interconnect_power_est"), None)
    if estimate is not None:
        return efficiency * _watts(estimate)
    begun = next((event for event in ordered if event.key == "power_measurement_start"), None)
    if begun is None:
        raise UnreadableError("there is no power_measurement_start")
    energy_j, before, end_ms = 0.0, begun.time_ms, begun.time_ms
    for event in ordered:
        if event.key == "power_measurement_stop":
            end_ms = event.time_ms
            break
        if event.key == "power_reading" and event.time_ms >= begun.time_ms:
            energy_j += _watts(event) * (event.time_ms - before) / 1000
            before = end_ms = event.time_ms
    if end_ms <= begun.time_ms or energy_j <= 0:
        raise UnreadableError("no reading after power_measurement_start")
    return efficiency * energy_j / ((end_ms - begun.time_ms) / 1000)


def _watts(event: Event) -> float:
    value = _finite(event.value)
    if value is None or value < 0:
        raise UnreadableError(f"{event.key}: expected a number, got {event.value!r}", event.line)
    return value
