"""One run of a scoring: what it is, and making it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kit.data import splits
from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.referee.replay import FULLY_BELOW_S, count
from kit.referee.run import Plan, run
from kit.results.events import Event, Waiting
from kit.results.record import Cost, HiddenLabels, IsolationMode, Official, Record, Split
from kit.results.signing import SIGNATURE_FILE, sign
from kit.results.store import RECORD_FILE
from kit.score.calibration import Calibrate
from kit.score.entrants import Entrant
from kit.score.ledger import RunKey
from kit.track import TOP_K, Track

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scoring:
    """What the organizer asks for."""

    track: Track
    prepared: Prepared
    """The track's data."""
    seeds: int
    secret: bytes
    splits: Sequence[Split]
    """In this order."""
    device: Literal["cpu", "cuda"]
    loader: Literal["dali", "torch"]
    isolation: IsolationMode
    results_dir: Path
    key: "Ed25519PrivateKey | None" = None
    """Signs every record."""
    cost: Cost | None = None
    ranks: int = 1
    """Of each run: GPUs, or processes that share the CPU."""
    calibrate: Calibrate | None = None
    """Measures the machine before and after the runs that are timed."""


@dataclass(frozen=True)
class Race:
    """One run to be made."""

    entrant: Entrant
    split: Split
    seed_index: int
    seed: int

    @property
    def key(self) -> RunKey:
        """What it is known by."""
        return RunKey(self.entrant.info.source_sha256, self.split, self.seed_index)

    def __str__(self) -> str:
        which = "" if self.split == "published" else f", {self.split}"
        return f"{self.entrant.info.name}{which}, seed {self.seed_index}"


def races(entrants: Sequence[Entrant], scoring: Scoring, seeds: Sequence[int]) -> Iterator[Race]:
    """All runs, seed by seed, so that a drift of the machine hits all alike."""
    for split in scoring.splits:
        for index, seed in enumerate(seeds):
            for entrant in entrants:
                yield Race(entrant, split, index, seed)


def data_of(scoring: Scoring, split: Split, index: int) -> Prepared:
    """What a run is on, by split and number of its seed; made where it is not there."""
    if split == "published":
        return scoring.prepared
    if split == "resplit":
        return splits.resplit(scoring.prepared, scoring.secret)
    return splits.control(scoring.prepared, scoring.secret, index)


def all_data(scoring: Scoring) -> dict[tuple[Split, int], Prepared]:
    """What each run is on."""
    made: dict[tuple[Split, int], Prepared] = {}
    for split in scoring.splits:
        for index in range(scoring.seeds):
            same = made.get((split, 0)) if split == "resplit" else None
            made[split, index] = same or data_of(scoring, split, index)
    return made


class _Waits:
    """Says whom a run waits for."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def on_event(self, event: Event) -> None:
        if isinstance(event, Waiting):
            self._say(event.message)


def make(
    race: Race, scoring: Scoring, prepared: Prepared, say: Say, calibration: str | None = None
) -> tuple[Path, Record]:
    """Make a run; its folder and record. Its operations are not counted yet.

    Args:
        race: Which.
        scoring: How.
        prepared: Its data.
        say: Told whom the run waits for.
        calibration: Of the machine, where it was measured before.

    Raises:
        KitError: It cannot be started.
        KeyboardInterrupt: Somebody ended it; it has a record.
    """
    chance, groups = splits.guessing(prepared.test_labels(), TOP_K[scoring.track.metric])
    plan = Plan(
        track=scoring.track,
        submission=race.entrant.info,
        submission_dir=race.entrant.folder,
        seed=race.seed,
        device=scoring.device,
        loader=scoring.loader,
        isolation=scoring.isolation,
        count_flops=False,  # afterwards: a count that fails is no run that fails
        max_steps=None,
        allow_busy_device=False,
        count_fully_below_s=FULLY_BELOW_S,
        results_dir=scoring.results_dir,
        cost=scoring.cost,
        ranks=scoring.ranks,
        official=Official(
            pack_sha256=race.entrant.pack_sha256,
            split=race.split,
            seed_index=race.seed_index,
            seeds=scoring.seeds,
            calibration=calibration if race.split == "published" else None,
            labels=HiddenLabels(images=prepared.spec.test_count, chance=chance, groups=groups),
        ),
    )
    record, path = run(plan, prepared, [_Waits(say)])
    return path.parent, record


def awaits_count(record: Record) -> bool:
    """Whether the operations of an official run are still to be counted."""
    return record.official is not None and record.official.split == "published" and record.flops.method == "pending"


def count_operations(
    folder: Path, record: Record, scoring: Scoring, prepared: Prepared, say: Say
) -> tuple[Record, str | None]:
    """The record with its operations counted, or as it is and why they are not."""
    if (problem := unseal(folder, scoring)) is not None:
        return record, problem
    try:
        return count(folder / RECORD_FILE, prepared, _Waits(say).on_event), None
    except KitError as error:
        return record, str(error)


def unseal(folder: Path, scoring: Scoring) -> str | None:
    """Take a signature off a record that is to be completed; why that cannot be, or None.

    Never a moment in which a signature vouches for what it did not see.
    """
    if scoring.key is None and (folder / SIGNATURE_FILE).exists():
        return "the record is signed; give the key that signed it"
    with suppress(FileNotFoundError):
        (folder / SIGNATURE_FILE).unlink()
    return None


def seal(folder: Path, scoring: Scoring) -> None:
    """Sign a run that is not signed yet, where there is a key."""
    if scoring.key is not None and not os.path.lexists(folder / SIGNATURE_FILE):
        sign(folder, scoring.key)
