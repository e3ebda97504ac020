"""The run that stands for an entry where only one can."""

import math
from pathlib import Path

from kit.analysis.result import result_of
from kit.analysis.scoring import by_entry
from kit.errors import KitError
from kit.results.record import Record
from kit.results.store import read_record, read_results, record_path


def record_named(path: Path) -> Record:
    """The record that a person means: a file, a run's folder, or of a folder of one entry's runs the median run.

    Runs that missed the target count as infinitely long. Of an even number of runs it is the slower of the middle two:
    no entry looks better than its median.

    Raises:
        KitError: There is none, one of them cannot be read, or they are of several entries.
    """
    if record_path(path).is_file() or not path.is_dir():
        return read_record(path)
    records = []
    for _, found in read_results(path):
        if isinstance(found, KitError):
            raise found
        if found.outcome not in ("partial", "cancelled") and _on_published(found):
            records.append(found)
    if not records:
        raise KitError(f"{path}: there is no record here, nor one in the folders below it")
    entries = by_entry(result_of(record) for record in records)
    if len(entries) > 1:
        names = ", ".join(
            f"{runs[0].submission} on {key.track}, {key.device.name}" for key, runs in list(entries.items())[:4]
        )
        raise KitError(f"{path}: expected one record, or the runs of one entry; these are of {len(entries)}: {names}")
    ordered = sorted(records, key=lambda record: (_time_s(record), record.id))
    return ordered[len(ordered) // 2]


def _on_published(record: Record) -> bool:
    return record.official is None or record.official.split == "published"


def _time_s(record: Record) -> float:
    return math.inf if record.time.to_target_s is None else record.time.to_target_s
