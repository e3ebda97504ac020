"""A board for spreadsheets: one line for each entry, with every number that boards show."""

import json
from collections.abc import Iterator
from itertools import chain

from kit.analysis.board import Board, Row, Table
from kit.analysis.scoring import OLYMPIC_RUNS, Measure
from kit.report.csv_text import Cell, csv_text


def board_csv(content: Board) -> str:
    """Comma-separated values with a heading.

    Units are in the columns' names. What is infinite is `inf`, what is not known is empty, and a text that a
    spreadsheet would compute has a `'` before it.
    """
    lines = [
        dict(chain(_who(table, row), _what(content, row), _seen(row))) for table in content.tables for row in table.rows
    ]
    return csv_text(lines[0] if lines else ["track"], (line.values() for line in lines))


def _who(table: Table, row: Row) -> Iterator[tuple[str, Cell]]:
    """What raced where."""
    entry, device = row.entry, row.entry.device
    yield "track", table.track
    yield "track_version", table.version
    yield "dataset_fingerprint", table.dataset_fingerprint
    yield "metric", table.metric
    yield "target", table.target
    yield "submission", entry.submission
    yield "authors", "; ".join(entry.authors)
    yield "date", entry.date
    yield "base", entry.base
    yield "source_sha256", entry.source_sha256
    yield "pack_sha256", entry.pack_sha256
    yield "config", json.dumps(entry.config, sort_keys=True)
    yield "loader", entry.loader
    yield "device", device.name
    yield "device_type", device.type
    yield "device_count", device.count
    yield "device_cores", device.cores
    yield "device_power_limit_w", device.power_limit_w
    yield "sealed", table.sealed
    yield "started_at", entry.started_at.isoformat()
    yield "records", "; ".join(entry.records)


def _what(content: Board, row: Row) -> Iterator[tuple[str, Cell]]:
    """The place, and what was measured."""
    entry = row.entry
    yield "by", content.by
    yield "rank", row.rank
    yield "tied", row.tied
    yield "unranked_because", row.unranked_because
    yield "runs", entry.runs
    yield "seeds", entry.seeds
    yield "reached", entry.outcomes.get("reached", 0)
    yield "success_rate", entry.success.value
    yield "success_rate_low", entry.success.low
    yield "success_rate_high", entry.success.high
    yield from _measure("time_s", entry.time_s)
    yield "expected_s", _number(entry.expected_s)
    yield "olympic_mean_s", None if entry.runs < OLYMPIC_RUNS else _number(entry.olympic_mean_s)
    yield "best_s", _number(entry.best_s)
    if row.on_reference is not None:
        yield "reference", content.reference
        yield "reference_method", row.on_reference.tier
        yield "reference_basis", row.on_reference.basis
        yield from _measure("reference_time_s", row.on_reference.time_s)
    yield from _measure("energy_j", entry.energy_j)
    yield "energy_flags", "; ".join(entry.energy_flags)
    yield from _measure("train_flops", entry.train_flops)
    yield from _measure("cost_usd", entry.usd)
    yield "algorithmic_efficiency", row.efficiency.value
    yield "algorithmic_efficiency_unavailable_because", row.efficiency.unavailable_because
    yield "pareto_time_energy", row.pareto


def _seen(row: Row) -> Iterator[tuple[str, Cell]]:
    """Who vouches for it, and what speaks against it."""
    yield "signed_runs", row.signed_runs
    yield "signers", "; ".join(signer.name or signer.fingerprint for signer in row.signers)
    yield "resplit", None if row.resplit is None else row.resplit.verdict
    yield "control", None if row.control is None else row.control.verdict
    yield "machine", row.calibration
    yield "flags", "; ".join(row.flags)


def _measure(name: str, measure: Measure) -> Iterator[tuple[str, Cell]]:
    median = measure.median
    interval = None if median is None else median.interval
    yield name, None if median is None else _number(median.value)
    yield f"{name}_low", None if interval is None else _number(interval.low)
    yield f"{name}_high", None if interval is None else _number(interval.high)
    yield f"{name}_confidence", None if interval is None else interval.confidence
    yield f"{name}_unavailable_because", measure.unavailable_because


def _number(value: float | None) -> float | str:
    return "inf" if value is None else value
