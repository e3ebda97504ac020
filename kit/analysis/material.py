"""What a board is made of: every run below a folder of results, and everything there that is none."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from kit.analysis.result import Result, Shared, result_of
from kit.collector import collector_paused
from kit.errors import KitError, escaped, without_place
from kit.hardware.drift import Drift
from kit.protocol import first_problem
from kit.results.record import Record
from kit.results.signing import Verification, verify
from kit.results.store import RECORD_FILE, find_runs, parse_record, parse_vouched, read_plain, read_record_file
from kit.track import Model

CALIBRATION_DIR = "calibration"
"""Beside runs: device profiles from before and after, and what changed between them."""
DRIFT_SUFFIX = ".drift.json"
"""After the id of the earlier profile."""
MAX_DRIFT_BYTES = 1 << 20
CLOCK_SKEW = timedelta(days=1)
"""By so much another machine's clock may be ahead."""
MAX_REASON = 300
FEW, CHUNK = 1000, 250
"""So many runs are read here; of more, other processes read so many at a time."""


class LeftOut(Model):
    """A file that is on no board."""

    file: str
    because: str


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run as it lies in the results."""

    folder: str
    """Below the results."""
    result: Result
    signature: Verification

    @property
    def place(self) -> str:
        """The folder that it lies in, below the results; its machine's calibrations lie there too."""
        return os.path.dirname(self.folder)


def calibration_files(results_dir: Path, folders: Iterable[str], pattern: str) -> Iterator[tuple[str, Path]]:
    """Files of calibrations beside runs, each with its place (see `FoundRun`), in the order of names."""
    for place in sorted({"", *map(os.path.dirname, folders)}):
        for path in sorted((results_dir / place / CALIBRATION_DIR).glob(pattern)):
            yield place, path


def first_to_count(run: FoundRun, names: Container[str] = ()) -> tuple[bool, bool, bool, datetime, str]:
    """Orders runs of one id or one seed: a stranger's copy takes no place from what is signed, or official.

    Args:
        run: One of them.
        names: Keys that the reader trusts.
    """
    signed = run.signature.state == "valid"
    trusted = signed and run.signature.public_key in names
    return not trusted, not signed, run.result.official is None, run.result.started_at, run.folder


@dataclass(frozen=True)
class Material:
    """What a board is made of."""

    runs: Sequence[FoundRun]
    unreadable: Sequence[LeftOut] = ()
    drifts: Mapping[tuple[str, str], Drift] = field(default_factory=dict)
    """By the place of runs and the id of the earlier profile: a stranger's folder says nothing of another's machine."""


@collector_paused()
def read_material(results_dir: Path, now: datetime | None = None) -> Material:
    """Everything below a folder of results, in the order of names. Many runs are read by all cores.

    Args:
        results_dir: The folder.
        now: A record of a later day is of no run; the present if nothing else is said.

    Raises:
        KitError: There is no such folder.
    """
    latest = (now or datetime.now(UTC)) + CLOCK_SKEW
    folders, unreadable = find_runs(results_dir)
    runs: list[FoundRun] = []
    left_out = [left_out_because(path, because) for path, because in unreadable]
    for found in _read_runs(results_dir, folders, latest):
        if isinstance(found, LeftOut):
            left_out.append(found)
        else:
            runs.append(found)
    drifts: dict[tuple[str, str], Drift] = {}
    for place, path in calibration_files(results_dir, folders, f"*{DRIFT_SUFFIX}"):
        try:
            drift = Drift.model_validate_json(read_plain(path, MAX_DRIFT_BYTES))
            if path.name != f"{drift.old}{DRIFT_SUFFIX}":
                raise KitError(f"it is about the profile {drift.old!a}, and not called so")
            drifts[place, drift.old] = drift
        except (KitError, OSError, ValidationError) as error:
            because = first_problem(error) if isinstance(error, ValidationError) else str(error)
            left_out.append(
                left_out_because(str(path.relative_to(results_dir)), because.removeprefix(escaped(f"{path}: ")))
            )
    return Material(runs, left_out, drifts)


def left_out_because(file: str, because: str) -> LeftOut:
    """With a name that JSON can hold, and a reason that fits on a page."""
    because = because if len(because) <= MAX_REASON else f"{because[:MAX_REASON]} ..."
    # File names are bytes, which Python shows with surrogates where they are no UTF-8.
    file, because = (text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for text in (file, because))
    return LeftOut(file=file, because=because)


def _read_runs(results_dir: Path, folders: Sequence[str], latest: datetime) -> Iterator[FoundRun | LeftOut]:
    if len(folders) <= FEW:
        yield from _read_chunk(results_dir, folders, latest)
        return
    from joblib import Parallel, delayed  # its processes do not run the caller's script once more

    chunks = (folders[start : start + CHUNK] for start in range(0, len(folders), CHUNK))
    parallel = Parallel(n_jobs=-1, return_as="generator")
    for chunk in parallel(delayed(_read_chunk)(results_dir, chunk, latest) for chunk in chunks):
        yield from chunk


@collector_paused()
def _read_chunk(results_dir: Path, folders: Sequence[str], latest: datetime) -> list[FoundRun | LeftOut]:
    share = Shared()
    return [_read_run(results_dir, folder, latest, share) for folder in folders]


def _read_run(results_dir: Path, folder: str, latest: datetime, share: Shared) -> FoundRun | LeftOut:
    run_dir, file = results_dir / folder, RECORD_FILE if folder == "." else f"{folder}/{RECORD_FILE}"
    path = run_dir / RECORD_FILE
    if not folder.isprintable() and folder.encode(errors="replace").decode() != folder:
        return left_out_because(file, "the name of its folder is not UTF-8")
    try:
        data = read_record_file(path)
        signature = verify(run_dir, data)
        # Who signed vouches for all of it; of others nothing is believed.
        record = parse_vouched(data, path) if signature.state == "valid" else parse_record(data, path)
        because = _objection(record, latest)
    except KitError as error:
        because = without_place(error, f"{path}: ")
    if because is not None:
        return left_out_because(file, because)
    return FoundRun(folder, result_of(record, share), share(signature))


def _objection(record: Record, latest: datetime) -> str | None:
    """Why what a record says cannot be, or None."""
    time = record.time
    if record.started_at > latest:
        return f"it started on {record.started_at:%Y-%m-%d}, which is in the future"
    if (time.to_target_s is not None) != (record.outcome == "reached"):
        had = "no time" if time.to_target_s is None else "a time"
        return f"it says that it ended as '{record.outcome}', and has {had} to the target"
    if time.to_target_s is None:
        return None
    if time.to_target_s == 0:
        return "it reached its target in no time"
    if time.total_s is not None and time.to_target_s > time.total_s:
        return "it took longer to its target than in all"
    if not any(verdict.reached and verdict.value >= record.track.target for verdict in record.evaluations):
        return "it has a time to the target, and no evaluation that reached it"
    return None
