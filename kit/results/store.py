"""Records on disk: one folder per run, safe to merge with git or rsync.

RESULTS/<id>/record.json      the record; absent while a run is in flight and after one that was killed
RESULTS/<id>/audit.json       whether its count of operations was found right, where somebody looked
RESULTS/<id>/record.sig.json  who vouches for all of it, where the run is an organizer's (see `kit.results.signing`)
RESULTS/<id>/events.jsonl     what happened, as it happened
RESULTS/<id>/output.log       what the trainer printed
RESULTS/<id>/trace.parquet    what the meters of a GPU saw
RESULTS/<id>/submission/      the source that ran
"""

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.columns import parse_columns
from kit.results.record import SCHEMA_VERSION, Record
from kit.track import Model

RECORD_FILE = "record.json"
EVENTS_FILE = "events.jsonl"
OUTPUT_FILE = "output.log"
SOURCE_DIR = "submission"
MAX_RECORD_BYTES = 64 << 20
MAX_SHOWN = 60


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


def read_plain(path: Path, at_most: int) -> bytes:
    """Read a file that a stranger may have put there: no link is followed, and no pipe or device waited for.

    Raises:
        FileNotFoundError: There is none.
        KitError: It is something else than a file, too large, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise KitError(f"{path}: not a plain file")
            if facts.st_size <= at_most:
                data = os.read(descriptor, facts.st_size + 1)
                while facts.st_size < len(data) <= at_most and (more := os.read(descriptor, 1 << 16)):
                    data += more  # it grows, or says that it is empty, as files of the kernel do
                if len(data) <= at_most:
                    return data
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise KitError(f"{path}: not a plain file") from None
        raise KitError(f"{path}: {error.strerror}") from error
    raise KitError(f"{path}: too large, larger than {at_most / (1 << 20):g} MiB")


def read_record(path: Path) -> Record:
    """Read a record file, or the one in a run's folder.

    Raises:
        KitError: There is none, it is damaged, or a newer kit wrote it.
    """
    path = record_path(path)
    return parse_record(read_record_file(path), path)


def read_record_file(path: Path) -> bytes:
    """What is in a record file.

    Raises:
        KitError: There is none, or it cannot be one.
    """
    try:
        return read_plain(path, MAX_RECORD_BYTES)
    except FileNotFoundError:
        hint = " (the run is still going, or was killed)" if (path.parent / EVENTS_FILE).exists() else ""
        raise KitError(f"{path}: there is no record here{hint}") from None


def parse_record(data: bytes, path: Path) -> Record:
    """The record in what was read from a file.

    Raises:
        KitError: It is damaged, or a newer kit wrote it.
    """
    record = _parse(Record.model_validate_json, data, path)
    # What the kit wrote is written again alike. Of other files readers could differ: which of two equal keys counts?
    if (record.model_dump_json(indent=2) + "\n").encode() != data and (twice := _key_given_twice(data)) is not None:
        raise KitError(f"{path}: not a valid record: the key {twice!a} is given twice")
    return record


def parse_vouched(data: bytes, path: Path) -> Record:
    """The same of a file that somebody signed, as far as boards look at it, in a quarter of the time.

    Raises:
        KitError: As `parse_record`.
    """
    return _parse(parse_columns, data, path)


def _parse(parse: Callable[[bytes], Record], data: bytes, path: Path) -> Record:
    try:
        record = parse(data)
    except ValidationError as error:
        raise KitError(f"{path}: {_not_a_record(data) or f'not a valid record: {first_problem(error)}'}") from error
    if "schema_version" not in record.model_fields_set:
        raise KitError(f"{path}: not a record")
    return record


def _not_a_record(data: bytes) -> str | None:
    """Why what does not read as a record is none of this kit's; None where it is a damaged one."""
    try:
        version = json.loads(data)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not a record"
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return f"record schema {version} is newer than this kit's ({SCHEMA_VERSION}); update the kit to read it"
    return None


def _key_given_twice(data: bytes) -> str | None:
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> None:
        keys = Counter(key for key, _ in pairs)
        found.extend(key for key, times in keys.items() if times > 1)

    json.loads(data, object_pairs_hook=look)
    return found[0][:MAX_SHOWN] if found else None


def refuse_links(source: Path) -> None:
    """A copy would follow a link to whatever the caller may read, and wait for ever at a pipe.

    Raises:
        KitError: A submission holds something that is neither file nor folder.
    """
    for path in sorted(source.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
        mode = path.lstat().st_mode
        if not hidden and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise KitError(f"{path}: neither a file nor a folder; a submission holds nothing else, links included")


def snapshot_source(source: Path, run_dir: Path) -> Path:
    """Copy a submission's files into the run's folder: what ran is part of what is recorded."""
    target = run_dir / SOURCE_DIR
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return target


def find_runs(results_dir: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Look for runs in a folder and in all folders below; inside runs and hidden folders is not looked.

    Returns:
        Folders of runs, below `results_dir` and in the order of their names; and what cannot be looked into, with why.

    Raises:
        KitError: The folder itself cannot be read.
    """
    runs: list[str] = []
    problems: list[tuple[str, str]] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        place = results_dir / folder
        if os.path.lexists(place / RECORD_FILE) or os.path.lexists(place / EVENTS_FILE):
            runs.append(folder or ".")
            continue
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    name = os.path.join(folder, entry.name)
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                    elif entry.is_symlink() and os.path.isdir(place / entry.name):
                        problems.append((name, "a link to a folder, which is not followed"))
        except FileNotFoundError:
            if not folder:
                raise KitError(f"{results_dir}: there are no results here") from None
        except OSError as error:
            if not folder:
                raise KitError(f"{results_dir}: {error.strerror}") from error
            problems.append((folder, error.strerror or "cannot be read"))
    return sorted(runs), sorted(problems)


def read_results(results_dir: Path) -> Iterator[tuple[Path, Record | KitError]]:
    """Every run right below `results_dir`, by name: its folder, and its record or why that cannot be read.

    Raises:
        KitError: The folder itself cannot be read.
    """
    try:
        folders = sorted(path for path in results_dir.iterdir() if not path.name.startswith(".") and path.is_dir())
    except FileNotFoundError:
        raise KitError(f"{results_dir}: there are no results here") from None
    except OSError as error:
        raise KitError(f"{results_dir}: {error.strerror}") from error
    for folder in folders:
        if os.path.lexists(folder / RECORD_FILE) or os.path.lexists(folder / EVENTS_FILE):
            try:
                yield folder, read_record(folder)
            except KitError as error:
                yield folder, error
