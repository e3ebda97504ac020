"""What is done already: known from the records themselves, so that there is no second book to get out of step."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from kit.errors import KitError
from kit.results.record import Cost, Device, IsolationMode, Record, Split
from kit.results.store import EVENTS_FILE, RECORD_FILE, read_results
from kit.track import Track

LOCK_FILE = ".scoring.lock"
RUN_FOLDER = re.compile(r"\d{8}T\d{6}Z-.+-s\d+-[0-9a-f]{6}")
KILLED_DIR = ".killed"
"""Below the results: what runs left that were killed before they had a record."""


class RunKey(NamedTuple):
    """What is run once."""

    source_sha256: str
    split: Split
    seed_index: int


@dataclass(frozen=True)
class Terms:
    """What all runs of one scoring share."""

    track: Track
    seeds: tuple[int, ...]
    fingerprints: dict[tuple[Split, int], str]
    """Of the data, by split and seed."""
    device: Device | None
    """None where the runs are made elsewhere and none is there yet that would say."""
    isolation: IsolationMode
    loader: Literal["dali", "torch"]
    cost: Cost | None


@dataclass
class Ledger:
    """The official runs below a folder of results."""

    done: dict[RunKey, tuple[Path, Record]] = field(default_factory=dict)


@contextmanager
def exclusive(results_dir: Path) -> Iterator[None]:
    """Be the only scoring in a folder of results.

    Raises:
        KitError: Another one is at work, or the folder cannot be written to.
    """
    lock = FileLock(results_dir / LOCK_FILE)
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise KitError(
            f"{results_dir}: another kit score is at work here; wait for it, or give other --results"
        ) from None
    except OSError as error:
        raise KitError(f"cannot write results to {results_dir}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def put_aside_killed(results_dir: Path, say: Callable[[str], None], live: Collection[str] | None = ()) -> None:
    """Move what killed official runs left out of the way. Nobody else's runs are touched: they may be going on.

    Args:
        results_dir: Where.
        say: Told of each.
        live: Ids of jobs that may be making runs here; None where that is not known.
    """
    for folder in sorted(results_dir.iterdir()):
        if folder.is_dir() and not folder.name.startswith(".") and _was_killed(folder, live):
            say(f"{folder.name} was killed, and is made again; what it left is in {put_aside(folder)}")


def put_aside(folder: Path) -> Path:
    """Move a run's folder to what killed runs left; that place."""
    aside = folder.parent / KILLED_DIR
    aside.mkdir(exist_ok=True)
    os.rename(folder, aside / folder.name)
    return aside


def _was_killed(folder: Path, live: Collection[str] | None) -> bool:
    """Whether it is what an official run leaves that ended without a record."""
    if not RUN_FOLDER.fullmatch(folder.name) or os.path.lexists(folder / RECORD_FILE):
        return False
    try:
        began = _first_event(folder)
        if began is None:  # between its first file and its first event, if somebody is at work
            return live is not None and not live
        job = began.get("job")
        of_the_dead = job is None or (live is not None and job["id"] not in live)
        return began.get("official") is not None and of_the_dead
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return False


def job_of(folder: Path) -> str | None:
    """Id of the job that began a run, where one did and that is known."""
    try:
        began = _first_event(folder)
        return None if began is None else str(began["job"]["id"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _first_event(folder: Path) -> Any:
    """How a run began, or None where it had not come so far."""
    try:
        with (folder / EVENTS_FILE).open("rb") as file:
            line = file.readline()
    except FileNotFoundError:
        return None
    # A line that was not finished is of a run that had not begun.
    return json.loads(line) if line.endswith(b"\n") else None


def read_ledger(results_dir: Path, terms: Terms, say: Callable[[str], None]) -> Ledger:
    """Find what is done.

    Raises:
        KitError: The folder holds runs of another scoring; the message says what differs.
    """
    ledger = Ledger()
    for folder, found in read_results(results_dir):
        if isinstance(found, KitError):
            if os.path.lexists(folder / RECORD_FILE):
                say(f"{found}; if it was an official run, it is made again")
            continue
        official = found.official
        if official is None or found.outcome == "cancelled":
            continue
        if (difference := _difference(found, terms)) is not None:
            raise KitError(
                f"{results_dir} holds runs of another scoring ({folder.name}): {difference}; "
                "call it as before, or give other --results"
            )
        key = RunKey(found.submission.source_sha256, official.split, official.seed_index)
        ledger.done.setdefault(key, (folder, found))
    return ledger


def _difference(record: Record, terms: Terms) -> str | None:
    """What sets a run apart from this scoring's, or None."""
    official, track = record.official, terms.track
    assert official is not None
    index = official.seed_index
    expected_seed = terms.seeds[index] if index < len(terms.seeds) else None
    fingerprint = terms.fingerprints.get((official.split, index), record.track.dataset_fingerprint)
    raced, wanted = record.track.as_track(), track
    pairs: dict[str, tuple[object, object]] = {
        "track": (f"{raced.name} version {raced.version}", f"{wanted.name} version {wanted.version}"),
        "target": (raced.target, wanted.target),
        "limits": (raced.limits, wanted.limits),
        "number of seeds": (official.seeds, len(terms.seeds)),
        f"seed {index} (another secret)": (record.seed, expected_seed),
        f"data of the {official.split} split": (record.track.dataset_fingerprint[:12], fingerprint[:12]),
        "device": (device_words(record.device), device_words(terms.device or record.device)),
        "isolation": (record.isolation.mode, terms.isolation),
        "loader": (record.loader, terms.loader),
        "price": (_price(record.cost), _price(terms.cost)),
    }
    return next((f"{what} was {was}, now {now}" for what, (was, now) in pairs.items() if was != now), None)


def device_words(device: Device) -> str:
    """What kind of machine it is: runs on two of a kind are compared."""
    cores = f", {device.cores} cores" if device.cores is not None else ""
    limit = f", at most {device.power_limit_w:g} W" if device.power_limit_w is not None else ""
    ranks = f", {device.ranks} ranks" if device.ranks > device.count else ""
    return f"{device.count} x {device.name}{cores}{limit}{ranks}"


def _price(cost: Cost | None) -> str:
    return "none" if cost is None else f"${cost.usd_per_hour:g} per hour ({cost.price_date}, {cost.price_source})"
