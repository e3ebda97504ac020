"""Records on disk: one folder per run, safe to merge with git or rsync.

RESULTS/<id>/record.json      the record; absent while a run is in flight and after one that was killed
RESULTS/<id>/audit.json       whether its count of operations was found right, where somebody looked
RESULTS/<id>/events.jsonl     what happened, as it happened
RESULTS/<id>/output.log       what the trainer printed
RESULTS/<id>/trace.parquet    what the meters of a GPU saw
RESULTS/<id>/submission/      the source that ran
"""

import json
import os
import secrets
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.record import SCHEMA_VERSION, Record
from kit.track import Model

RECORD_FILE = "record.json"
EVENTS_FILE = "events.jsonl"
OUTPUT_FILE = "output.log"
SOURCE_DIR = "submission"
MAX_RECORD_BYTES = 64 << 20


def create_run_dir(results_dir: Path, *, started_at: datetime, track: str, submission: str, seed: int) -> Path:
    """A new folder whose name sorts by time and is nobody else's; the name is the record's id."""
    stamp = started_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    run_dir = results_dir / f"{stamp}-{track}-{submission}-s{seed}-{secrets.token_hex(3)}"
    try:
        run_dir.mkdir(parents=True)
    except OSError as error:
        raise KitError(f"cannot write results to {results_dir}: {error.strerror}") from error
    return run_dir


def write_record(record: Record, run_dir: Path) -> Path:
    """Write the record whole or not at all."""
    return write_json(record, run_dir / RECORD_FILE)


def write_json(content: Model, path: Path) -> Path:
    """Write a file whole or not at all: beside its place, to the disk, then renamed."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path


def record_path(path: Path) -> Path:
    """The record file that a person means by a run's folder or by the file itself."""
    return path / RECORD_FILE if path.is_dir() else path


def read_record(path: Path) -> Record:
    """Read a record file, or the one in a run's folder.

    Raises:
        KitError: There is none, it is damaged, or a newer kit wrote it.
    """
    path = record_path(path)
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            raise KitError(f"{path}: larger than {MAX_RECORD_BYTES >> 20} MiB, which no record is")
        data = path.read_bytes()
    except FileNotFoundError:
        hint = " (the run is still going, or was killed)" if (path.parent / EVENTS_FILE).exists() else ""
        raise KitError(f"{path}: there is no record here{hint}") from None
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    try:
        version = json.loads(data)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KitError(f"{path}: not a record") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise KitError(
            f"{path}: record schema {version} is newer than this kit's ({SCHEMA_VERSION}); update the kit to read it"
        )
    try:
        return Record.model_validate_json(data)
    except ValidationError as error:
        raise KitError(f"{path}: not a valid record: {first_problem(error)}") from error


def snapshot_source(source: Path, run_dir: Path) -> Path:
    """Copy a submission's files into the run's folder: what ran is part of what is recorded."""
    target = run_dir / SOURCE_DIR
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return target
