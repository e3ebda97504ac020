"""What the meters saw, as columns in a file beside the record."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError
from kit.results.record import Trace
from kit.results.store import read_plain

TRACE_FILE = "trace.parquet"
MAX_TRACE_BYTES = 64 << 20
Table = dict[str, NDArray[np.int64]]

SAMPLES = """
    SELECT gpu::UTINYINT AS gpu, (at_ns - $zero) / 1e9 AS elapsed_s,
        nullif(power_mw, -1)::INTEGER AS power_mw,
        nullif(clock_sm_mhz, -1)::INTEGER AS clock_sm_mhz,
        nullif(clock_memory_mhz, -1)::INTEGER AS clock_memory_mhz,
        nullif(temperature_c, -1)::INTEGER AS temperature_c,
        nullif(throttled_power_ns, -1) / 1e9 AS throttled_power_s,
        nullif(throttled_heat_ns, -1) / 1e9 AS throttled_heat_s
    FROM samples"""
"""-1 is poll.ABSENT."""
TICKS = """
    SELECT gpu::UTINYINT AS gpu, ((since_ns + seen_ns) / 2 - $zero) / 1e9 AS elapsed_s,
        (seen_ns - since_ns) / 1e9 AS counter_slack_s, mj AS counter_mj
    FROM ticks"""


def write_trace(run_dir: Path, gpus: Sequence[tuple[Table, Table]], *, zero_ns: int) -> Trace | None:
    """Write samples and counter steps in order of time; a column is null in a row that has no such reading.

    None where the file cannot be written: the record is worth more.

    Args:
        run_dir: The run's folder.
        gpus: A Sampler's columns and a CounterFollower's, for each GPU.
        zero_ns: When `go` was sent.
    """
    import duckdb

    path = run_dir / TRACE_FILE
    samples, ticks = (_numbered(tables) for tables in zip(*gpus, strict=True))
    rows = len(samples["at_ns"]) + len(ticks["mj"])
    try:
        with duckdb.connect(config={"threads": 1}) as database:
            database.register("samples", samples)
            database.register("ticks", ticks)
            query = f"{SAMPLES} UNION ALL BY NAME {TICKS} ORDER BY elapsed_s"
            database.sql(query, params={"zero": zero_ns}).write_parquet(str(path))
    except duckdb.Error:
        return None
    return Trace(file=TRACE_FILE, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), rows=rows)


def _numbered(tables: Sequence[Table]) -> Table:
    """One below the other, with a column that says of which GPU, from 0."""
    together = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    counts = [len(next(iter(table.values()))) for table in tables]
    return together | {"gpu": np.repeat(np.arange(len(tables)), counts)}


@dataclass(frozen=True)
class PowerSamples:
    """Power of one GPU over time, as it was sampled."""

    elapsed_s: tuple[float, ...]
    """Since `go`; negative before."""
    power_w: tuple[float, ...]


def read_power(run_dir: Path, trace: Trace) -> tuple[PowerSamples, ...]:
    """The power samples of a run, in order of time, of each GPU that has some.

    Raises:
        KitError: The file is gone, or is not what the record says.
    """
    import duckdb

    path = run_dir / TRACE_FILE
    try:
        content = read_plain(path, MAX_TRACE_BYTES)
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    if trace.file != TRACE_FILE or hashlib.sha256(content).hexdigest() != trace.sha256:
        raise KitError(f"{path}: not the file that the record was written with")
    try:
        with duckdb.connect(config={"threads": 1, "memory_limit": "1GB"}) as database:
            query = """WITH samples AS (
                    SELECT gpu, elapsed_s::DOUBLE AS elapsed_s, power_mw::INTEGER AS power_mw FROM read_parquet($path)
                )
                SELECT list(elapsed_s ORDER BY elapsed_s), list(power_mw / 1000 ORDER BY elapsed_s)
                FROM samples WHERE power_mw IS NOT NULL AND isfinite(elapsed_s) GROUP BY gpu ORDER BY gpu"""
            rows = database.execute(query, {"path": str(path)}).fetchall()
    except duckdb.Error as error:
        raise KitError(f"{path}: not the columns of a meter: {str(error).splitlines()[0]}") from error
    return tuple(PowerSamples(tuple(elapsed_s), tuple(power_w)) for elapsed_s, power_w in rows)
