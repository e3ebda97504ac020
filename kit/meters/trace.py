"""What the meters saw, as columns in a file beside the record."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.results.record import Trace

TRACE_FILE = "trace.parquet"
Table = dict[str, NDArray[np.int64]]

SAMPLES = """
    SELECT (at_ns - $zero) / 1e9 AS elapsed_s,
        nullif(power_mw, -1)::INTEGER AS power_mw,
        nullif(clock_sm_mhz, -1)::INTEGER AS clock_sm_mhz,
        nullif(clock_memory_mhz, -1)::INTEGER AS clock_memory_mhz,
        nullif(temperature_c, -1)::INTEGER AS temperature_c,
        nullif(throttled_power_ns, -1) / 1e9 AS throttled_power_s,
        nullif(throttled_heat_ns, -1) / 1e9 AS throttled_heat_s
    FROM samples"""
"""-1 is poll.ABSENT."""
TICKS = """
    SELECT ((since_ns + seen_ns) / 2 - $zero) / 1e9 AS elapsed_s, (seen_ns - since_ns) / 1e9 AS counter_slack_s,
        mj AS counter_mj
    FROM ticks"""


def write_trace(run_dir: Path, *, samples: Table, ticks: Table, zero_ns: int) -> Trace | None:
    """Write samples and counter steps in order of time; a column is null in a row that has no such reading.

    None where the file cannot be written: the record is worth more.

    Args:
        run_dir: The run's folder.
        samples: A Sampler's columns.
        ticks: A CounterFollower's columns.
        zero_ns: When `go` was sent.
    """
    import duckdb

    path = run_dir / TRACE_FILE
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
