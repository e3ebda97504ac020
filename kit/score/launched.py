"""The scoring with every run a job of a cluster: submit what is missing, take in what comes, make again what was lost.

Whoever calls keeps the key and signs; jobs only make records. What is done is known from the records, what is under way
from SLURM's queue by the names of the plans in RESULTS/.jobs: so the caller may be killed, and the next call goes on.
"""

import math
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from kit.errors import KitError
from kit.results.arrivals import Arrivals
from kit.results.record import Record
from kit.results.store import RECORD_FILE, read_record
from kit.score.claims import (
    JOBS_DIR,
    PLAN_SUFFIX,
    Claim,
    Loss,
    agreed_device,
    claim_path,
    held_claims,
    losses,
    note_loss,
    read_claim,
)
from kit.score.entrants import Entrant
from kit.score.ledger import Ledger, RunKey, exclusive, job_of, put_aside, put_aside_killed
from kit.score.plan import Planned, Shared, read_plan, write_plan
from kit.score.race import Race, Say, Scoring, awaits_count, races, seal, unseal
from kit.score.score import take_stock
from kit.score.task import folders_of
from kit.slurm.fleet import Ended, Fleet, Settled, Submitted, runs_are
from kit.slurm.queue import live_jobs
from kit.slurm.settings import SlurmSettings
from kit.slurm.submit import last_words, require_slurm, submit, tidy


@dataclass(frozen=True)
class Places:
    """Where jobs find what this process has at hand."""

    data_dir: Path
    secret: Path


@dataclass
class Stock:
    """What is to be made, what is done, and what is under way."""

    races: dict[RunKey, Race]
    planned: dict[RunKey, Planned]
    ledger: Ledger
    held: set[RunKey] = field(default_factory=set)
    """Being made by jobs that somebody submitted by hand."""

    def missing(self, scoring: Scoring, say: Say) -> list[RunKey]:
        """Runs that are not there, and those whose operations can be counted and are not."""
        missing = []
        for key, race in self.races.items():
            done = self.ledger.done.get(key)
            if done is None:
                missing.append(key)
            elif awaits_count(done[1]):
                if (problem := unseal(done[0], scoring)) is None:
                    missing.append(key)
                else:
                    say(f"{race}: its operations are not counted: {problem}")
            else:
                seal(done[0], scoring)
        return missing


def score_with_slurm(
    entrants: Sequence[Entrant],
    scoring: Scoring,
    places: Places,
    settings: SlurmSettings,
    say: Say,
    begin: Say = lambda line: None,
) -> int:
    """Have every run made that is not there yet; sign those that are.

    Args:
        entrants: What races.
        scoring: How. The machine is not calibrated: jobs are on many.
        places: What jobs need to find.
        settings: What is asked of SLURM.
        say: Told what is done, one line at a time.
        begin: Told what is being done.

    Returns:
        How many runs there are none of, however often they were tried or because they are not waited for.

    Raises:
        KitError: As `score`; or SLURM takes no jobs, or does not answer.
        KeyboardInterrupt: Somebody ended the waiting; the jobs go on.
    """
    require_slurm()
    _check_time(scoring, settings)
    with exclusive(scoring.results_dir):
        live = live_jobs()
        if live is None:
            raise KitError("squeue does not answer: nothing is submitted before it is known what is under way")
        stock = _take_stock(entrants, scoring, live, say)
        work = _Work(scoring, places, settings, stock, say)
        fleet = Fleet(settings, work, say, begin, "the same command goes on")
        under_way = work.adopt(fleet)
        stock.held -= under_way
        there = sum(key in stock.ledger.done for key in stock.races)
        if there:
            say(f"{there} of {len(stock.races)} runs are there already")
        if stock.held:
            say(f"{runs_are(len(stock.held))} being made by jobs that were submitted by hand; call again to collect")
        to_do = [key for key in stock.missing(scoring, say) if key not in under_way | stock.held]
        fleet.make(to_do)
        work.tidy_up()
        return sum(key not in work.done for key in stock.races)


def plan_runs(entrants: Sequence[Entrant], scoring: Scoring, places: Places, path: Path, say: Say) -> int:
    """Write the plan of all runs that are not there yet, for `kit task`; sign those that are.

    Returns:
        How many runs it has; without any, none is written.

    Raises:
        KitError: As `score`; or there is such a file.
    """
    with exclusive(scoring.results_dir):
        stock = _take_stock(entrants, scoring, live_jobs(), say)
        missing = [key for key in stock.missing(scoring, say) if key not in stock.held]
        if stock.held:
            say(f"{runs_are(len(stock.held))} being made, and left out")
        if missing:
            write_plan(path, _shared(scoring, places), [stock.planned[key] for key in missing])
        return len(missing)


def _check_time(scoring: Scoring, settings: SlurmSettings) -> None:
    limits = scoring.track.limits
    needed_s = limits.setup_s + limits.run_s + settings.signal_delay_s
    if settings.timeout_min * 60 < needed_s:
        raise KitError(
            f"hydra.launcher.timeout_min={settings.timeout_min} is less than a run may take: the track's limits allow "
            f"{limits.setup_s + limits.run_s:g} s; give at least {math.ceil(needed_s / 60)}, and more for counting "
            "operations"
        )


def _take_stock(entrants: Sequence[Entrant], scoring: Scoring, live: set[str] | None, say: Say) -> Stock:
    """Look at everything; `live` are ids of jobs, None where no queue can be asked."""
    held = held_claims(scoring.results_dir, live)
    put_aside_killed(scoring.results_dir, say, live)
    data, terms, ledger = take_stock(scoring, agreed_device(scoring.results_dir), say)
    all_races = {race.key: race for race in races(entrants, scoring, terms.seeds)}
    planned = {
        key: Planned(
            submission=race.entrant.info.name,
            path=race.entrant.path,
            source_sha256=key.source_sha256,
            split=race.split,
            seed_index=race.seed_index,
            dataset_fingerprint=data[race.split, race.seed_index].fingerprint,
        )
        for key, race in all_races.items()
    }
    return Stock(
        all_races,
        planned,
        ledger,
        {key for key in all_races if claim_path(scoring.results_dir, key).name in held},
    )


def _shared(scoring: Scoring, places: Places) -> Shared:
    return Shared(
        track=scoring.track,
        seeds=scoring.seeds,
        results_dir=scoring.results_dir.absolute(),
        data_dir=places.data_dir.absolute(),
        secret=places.secret.absolute(),
        device=scoring.device,
        ranks=scoring.ranks,
        loader=scoring.loader,
        isolation=scoring.isolation,
        cost=scoring.cost,
    )


class _Work:
    """The runs of one scoring, known by their keys."""

    def __init__(self, scoring: Scoring, places: Places, settings: SlurmSettings, stock: Stock, say: Say) -> None:
        self._scoring = scoring
        self._places = places
        self._settings = settings
        self._stock = stock
        self._say = say
        self._folder = scoring.results_dir.absolute() / JOBS_DIR
        self._plans: dict[str, list[Planned]] = {}
        known = {folder.name for folder, _ in stock.ledger.done.values()}
        self._arrivals = Arrivals(scoring.results_dir, known)
        self._cancelled: dict[RunKey, list[Record]] = {}
        self._lost = {(loss.plan, loss.place) for loss in losses(scoring.results_dir)}
        self.done = {key: folder for key, (folder, _) in stock.ledger.done.items()}

    def adopt(self, fleet: "Fleet[RunKey]") -> set[RunKey]:
        """Go on with the jobs of earlier calls."""
        under_way: set[RunKey] = set()
        for path in sorted(self._folder.glob(f"*{PLAN_SUFFIX}")):
            runs = self._plans[path.stem] = read_plan(path)
            wanted = {
                place: run.key
                for place, run in enumerate(runs)
                if run.key in self._stock.races and self._is_open(run.key) and (path.stem, place) not in self._lost
            }
            fleet.adopt(path.stem, wanted)
            under_way |= set(wanted.values())
        return under_way

    def _is_open(self, key: RunKey) -> bool:
        done = self._stock.ledger.done.get(key)
        return done is None or awaits_count(done[1])

    def submit(self, tasks: Sequence[RunKey]) -> Submitted:
        name = f"kit-{secrets.token_hex(4)}"
        plan = self._folder / f"{name}{PLAN_SUFFIX}"
        runs = [self._stock.planned[key] for key in tasks]
        write_plan(plan, _shared(self._scoring, self._places), runs)
        command = [sys.executable, "-m", "kit.cli", "task", str(plan)]
        try:
            jobs = submit([[*command, str(n)] for n in range(len(tasks))], self._settings, name, self._folder / name)
        except KitError:
            plan.unlink()
            raise
        self._plans[name] = runs
        return Submitted(name, jobs)

    def settle(self, task: RunKey, ended: Ended, *, again: bool) -> Settled:
        race, (name, place) = self._stock.races[task], ended.place
        if task not in self.done:
            self._look()
        folder = self.done.get(task)
        claim = claim_path(self._scoring.results_dir, task)
        if folder is not None:
            record = read_record(folder)
            seal(folder, self._scoring)
            if _left_by(read_claim(claim), ended.job):
                claim.unlink(missing_ok=True)
            tidy(self._folder / name, place, len(self._plans[name]))
            self._say(f"{race}: {record.result}")
            if awaits_count(record):
                self._say("    its operations are not counted: the next call tries again")
            return "made"
        cancelled = self._cancelled_in(task, ended.job)
        if cancelled is None and not ended.late:
            return "unseen"
        if cancelled is not None:
            why = f"cancelled: {cancelled.reason}"
        else:
            words = last_words(self._folder / name, place, len(self._plans[name]))
            why = f"no record; {f'it last said: {words}' if words else 'it said nothing'}"
        self._clear(race, claim, ended.job)
        loss = Loss(
            plan=name,
            place=place,
            at=datetime.now(UTC),
            submission=race.entrant.info.name,
            source_sha256=task.source_sha256,
            split=task.split,
            seed_index=task.seed_index,
            job=ended.job,
            state=ended.state,
            node=ended.node,
            reason=why,
        )
        note_loss(self._scoring.results_dir, loss)
        self._lost.add((name, place))
        self._say(f"{race}: {ended}, {why}; {'it is made again' if again else 'it is given up for now'}")
        return "lost"

    def tidy_up(self) -> None:
        """Remove plans of which nothing is open; what jobs printed stays where one was lost."""
        for name, runs in self._plans.items():
            made = [run.key in self.done for run in runs]
            if all(is_made or (name, place) in self._lost for place, is_made in enumerate(made)):
                (self._folder / f"{name}{PLAN_SUFFIX}").unlink(missing_ok=True)
            if all(made):
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def _cancelled_in(self, task: RunKey, job: str | None) -> Record | None:
        """The record of a run that somebody ended, in this job where its id is known."""
        for record in self._cancelled.get(task, ()):
            if job is None or (record.job is not None and record.job.id == job):
                return record
        return None

    def _look(self) -> None:
        """See what has come."""
        for folder, record in self._arrivals.look():
            if record.official is None:
                continue
            key = RunKey(record.submission.source_sha256, record.official.split, record.official.seed_index)
            if record.outcome == "cancelled":
                self._cancelled.setdefault(key, []).append(record)
            else:
                self.done.setdefault(key, folder)

    def _clear(self, race: Race, claim: Path, job: str | None) -> None:
        """Put aside what a job left that is dead, so that the run can be made again."""
        holder = read_claim(claim)
        if holder is None or holder.job is None or not _left_by(holder, job):
            return
        for folder in folders_of(self._scoring.results_dir, race.entrant.info.name, race.seed):
            if not (folder / RECORD_FILE).exists() and job_of(folder) == holder.job.id:
                put_aside(folder)
        claim.unlink(missing_ok=True)


def _left_by(holder: Claim | None, job: str | None) -> bool:
    """Whether a claim is of a job that has ended, and not of another one that is making the run."""
    if holder is None or holder.job is None:
        return False
    if holder.job.id == job:
        return True
    live = live_jobs()
    return live is not None and holder.job.id not in live
