"""The scoring: every submission with every seed, seed by seed, so that a drift of the machine hits all alike."""

from collections.abc import Sequence

from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.hardware import machine
from kit.results.record import Device, Record, Split
from kit.results.signing import verify
from kit.score.calibration import Calibrations
from kit.score.claims import refuse_jobs
from kit.score.entrants import Entrant
from kit.score.ledger import Ledger, Terms, exclusive, put_aside_killed, read_ledger
from kit.score.race import (
    Race,
    Say,
    Scoring,
    all_data,
    awaits_count,
    count_operations,
    make,
    races,
    seal,
)
from kit.score.seeds import seeds


def score(entrants: Sequence[Entrant], scoring: Scoring, say: Say, begin: Say = lambda line: None) -> None:
    """Make every run that is not there yet; count, sign and complete those that are.

    Whatever ends this, the next call goes on: at most the run in flight is made again.

    Args:
        entrants: What races.
        scoring: How.
        say: Told what is done, one line at a time.
        begin: Told what is being done.

    Raises:
        KitError: Somebody else scores in this folder, it holds another scoring's runs, or a run cannot be started.
        KeyboardInterrupt: Somebody ended it.
    """
    with exclusive(scoring.results_dir):
        refuse_jobs(scoring.results_dir)
        put_aside_killed(scoring.results_dir, say)
        data, terms, ledger = take_stock(scoring, machine.describe(scoring.device, ranks=scoring.ranks), say)
        _Session(scoring, data, ledger, say, begin).make(list(races(entrants, scoring, terms.seeds)))


def take_stock(
    scoring: Scoring, device: Device | None, say: Say
) -> tuple[dict[tuple[Split, int], Prepared], Terms, Ledger]:
    """The data of all runs, what they share, and what is done already.

    Raises:
        KitError: The folder holds another scoring's runs, or a run that was changed after it was signed.
    """
    data = all_data(scoring)
    terms = Terms(
        track=scoring.track,
        seeds=seeds(scoring.secret, scoring.track, scoring.seeds),
        fingerprints={which: prepared.fingerprint for which, prepared in data.items()},
        device=device,
        isolation=scoring.isolation,
        loader=scoring.loader,
        cost=scoring.cost,
    )
    ledger = read_ledger(scoring.results_dir, terms, say)
    _refuse_broken(ledger)
    return data, terms, ledger


def _refuse_broken(ledger: Ledger) -> None:
    """A run that was changed after it was signed is for people to look at, not to go on from."""
    for folder, _ in ledger.done.values():
        verification = verify(folder)
        if verification.state == "invalid":
            raise KitError(
                f"{folder}: the signature does not hold: {verification.because}; find out who changed it, then remove "
                "the folder to have the run made again"
            )


class _Session:
    """The runs of one call."""

    def __init__(
        self,
        scoring: Scoring,
        data: dict[tuple[Split, int], Prepared],
        ledger: Ledger,
        say: Say,
        begin: Say,
    ) -> None:
        self._scoring = scoring
        self._data = data
        self._ledger = ledger
        self._say = say
        self._begin = begin
        self._calibration: str | None = None

    def make(self, races: Sequence[Race]) -> None:
        there = sum(race.key in self._ledger.done for race in races)
        if there:
            self._say(f"{there} of {len(races)} runs are there already")
        timed = [race for race in races if race.split == "published" and race.key not in self._ledger.done]
        calibrations = self._calibrations()
        if calibrations is not None and timed:
            self._calibration = calibrations.measure()
        elif calibrations is not None and calibrations.awaits(self._calibrated_before()):
            self._measure_after(calibrations)
        for number, race in enumerate(races, start=1):
            self._begin(f"{number} of {len(races)}: {race}")
            self._say_made(number, len(races), race, *self._make(race))
            if calibrations is not None and timed and race is timed[-1]:
                self._measure_after(calibrations)

    def _calibrations(self) -> Calibrations | None:
        scoring = self._scoring
        if scoring.calibrate is None:
            return None
        return Calibrations(scoring.results_dir, scoring.device, scoring.calibrate, self._say)

    def _calibrated_before(self) -> set[str]:
        """Profiles that runs which are there were made after."""
        marks = [record.official for _, record in self._ledger.done.values()]
        return {mark.calibration for mark in marks if mark is not None and mark.calibration is not None}

    def _measure_after(self, calibrations: Calibrations) -> None:
        try:
            calibrations.measure()
        except KitError as error:  # the runs stand, and the board says that nothing is known of the machine after them
            self._say(f"no calibration after the runs: {error}")

    def _make(self, race: Race) -> tuple[Record, str | None]:
        """The run's record, complete and signed; and what came in the way of completing it."""
        prepared, found, problem = self._data[race.split, race.seed_index], self._ledger.done.get(race.key), None
        folder, record = found or make(race, self._scoring, prepared, self._say, self._calibration)
        if awaits_count(record):
            record, problem = count_operations(folder, record, self._scoring, prepared, self._say)
        seal(folder, self._scoring)
        return record, problem

    def _say_made(self, number: int, of: int, race: Race, record: Record, problem: str | None) -> None:
        if race.key in self._ledger.done and problem is None:
            return
        self._say(f"{number} of {of}: {race}: {record.result}")
        if problem is not None:
            self._say(f"    its operations are not counted: {problem}")
