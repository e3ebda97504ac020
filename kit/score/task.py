"""One run of a plan, made by a job: `kit task`."""

import glob
from collections.abc import Callable
from pathlib import Path

from kit.data.prepared import Prepared
from kit.errors import KitError
from kit.hardware import machine
from kit.results.record import Record
from kit.results.store import read_record
from kit.score.claims import agree_on_device, claimed
from kit.score.entrants import open_entrant
from kit.score.ledger import RunKey
from kit.score.plan import Planned, Shared, read_planned
from kit.score.race import Race, Say, Scoring, awaits_count, count_operations, data_of, make
from kit.score.seeds import read_secret_file, seeds
from kit.slurm.job import this_job
from kit.track import Track


def make_planned(
    plan: Path, number: int, scratch: Path, prepare: Callable[[Track, Path], Prepared], say: Say
) -> Record:
    """Make one run of a plan, or complete it where it was made before. It is not signed: the key stays where it is.

    Args:
        plan: The plan's file.
        number: Of the run, from 0.
        scratch: An empty folder.
        prepare: Gives a track's data.
        say: Told what came of it.

    Raises:
        KitError: The plan cannot be followed here, or somebody else makes the run.
        KeyboardInterrupt: Somebody ended it; it has a record.
    """
    shared, planned = read_planned(plan, number)
    scoring = _scoring(shared, planned, prepare(shared.track, shared.data_dir))
    race = _race(planned, scoring, scratch)
    data = data_of(scoring, race.split, race.seed_index)
    if data.fingerprint != planned.dataset_fingerprint:
        raise KitError(
            f"{data.root}: other data than planned: expected fingerprint {planned.dataset_fingerprint[:12]}, "
            f"got {data.fingerprint[:12]}"
        )
    agree_on_device(scoring.results_dir, machine.describe(scoring.device, ranks=scoring.ranks))
    with claimed(scoring.results_dir, race.key, this_job()):
        found = find_made(scoring.results_dir, race)
        folder, record = found or make(race, scoring, data, say)
        say(f"{race}: {'made before, ' if found else ''}{record.result}")
        if awaits_count(record):
            record, problem = count_operations(folder, record, scoring, data, say)
            if problem is not None:
                say(f"its operations are not counted: {problem}")
    return record


def find_made(results_dir: Path, race: Race) -> tuple[Path, Record] | None:
    """A run that has a record already, by the names that its folder can have."""
    for folder in folders_of(results_dir, race.entrant.info.name, race.seed):
        try:
            record = read_record(folder)
        except KitError:
            continue
        official = record.official
        if official is None or record.outcome == "cancelled":
            continue
        if RunKey(record.submission.source_sha256, official.split, official.seed_index) == race.key:
            return folder, record
    return None


def folders_of(results_dir: Path, submission: str, seed: int) -> list[Path]:
    """Folders of runs of a submission of this name with this seed."""
    return sorted(results_dir.glob(f"2*-{glob.escape(submission)}-s{seed}-*"))


def _scoring(shared: Shared, planned: Planned, prepared: Prepared) -> Scoring:
    return Scoring(
        track=shared.track,
        prepared=prepared,
        seeds=shared.seeds,
        secret=read_secret_file(shared.secret),
        splits=[planned.split],
        device=shared.device,
        ranks=shared.ranks,
        loader=shared.loader,
        isolation=shared.isolation,
        results_dir=shared.results_dir,
        cost=shared.cost,
    )


def _race(planned: Planned, scoring: Scoring, scratch: Path) -> Race:
    entrant = open_entrant(planned.path, scoring.track, scratch / "entrant")
    if entrant.info.source_sha256 != planned.source_sha256:
        raise KitError(f"{planned.path}: was changed since the runs were planned; plan them anew")
    seed = seeds(scoring.secret, scoring.track, scoring.seeds)[planned.seed_index]
    return Race(entrant, planned.split, planned.seed_index, seed)
