"""`kit run --multirun hydra/launcher=slurm`: Hydra's submitit launcher with a job that becomes `kit run`.

Hydra's own way (hydra-submitit-launcher 1.2) pickles the task and waits for pickled results: without `sacct` it waits
for ever when a job dies, one such job hides the results of all others, and SLURM takes failed runs for completed ones.
"""

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher import submitit_launcher  # type: ignore[import-untyped]
from rich.console import Console

from kit.results.arrivals import Arrivals
from kit.results.record import Record
from kit.slurm.fleet import Ended, Fleet, Settled, Submitted
from kit.slurm.settings import SlurmSettings, read_settings
from kit.slurm.submit import last_words, require_slurm, submit, tidy

UNREACHED = "unreached"
"""An attribute of the task that Hydra was given: told of every run that came to no good, for the exit status."""
PLUGIN_MODULE = "hydra_plugins.kit"
"""Hydra takes launchers from that package alone; a module that lay there would be imported by everybody's programs."""


class SlurmLauncher(submitit_launcher.SlurmLauncher):  # type: ignore[misc]
    """One job per run."""

    __module__ = PLUGIN_MODULE

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Called by Hydra."""
        assert self.config is not None
        require_slurm()
        console = Console()

        def say(line: str) -> None:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

        common = set.intersection(*map(set, job_overrides))
        runs = [self._run(list(overrides), common) for overrides in job_overrides]
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        sweep = _Sweep(runs, read_settings(self.params), folder, say)
        numbers = range(len(runs))
        later = f"their records come to {', '.join(sorted({str(run.results_dir) for run in runs}))}"
        Fleet(sweep.settings, sweep, say, say, later).make(numbers)
        getattr(self.task_function, UNREACHED).extend(number for number in numbers if number in sweep.unreached)
        return [JobReturn(overrides=run.overrides, status=JobStatus.COMPLETED) for run in runs]

    def _run(self, overrides: list[str], common: set[str]) -> "_Run":
        assert self.config is not None
        assert self.hydra_context is not None
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        options = [
            f"--config-dir={source.path}"
            for source in self.config.hydra.runtime.config_sources
            if source.provider == "command-line"
        ]
        title = " ".join(override for override in overrides if override not in common) or " ".join(overrides)
        return _Run(title, overrides, options, Path(str(composed.results_dir)))


@dataclass(frozen=True)
class _Run:
    title: str
    overrides: list[str]
    options: list[str]
    results_dir: Path


def known_to_hydra() -> type[SlurmLauncher]:
    """The launcher, where Hydra looks for it by its name."""
    sys.modules.setdefault(PLUGIN_MODULE, sys.modules[__name__])
    return SlurmLauncher


class _Sweep:
    """The runs of one sweep, known by their numbers."""

    def __init__(self, runs: Sequence[_Run], settings: SlurmSettings, folder: Path, say: Any) -> None:
        self._runs = runs
        self.settings = settings
        self._folder = folder
        self._say = say
        self._arrivals = {run.results_dir: Arrivals(run.results_dir) for run in runs}
        self._left: dict[str, Record] = {}
        """By the job that left it."""
        self._sizes: dict[str, int] = {}
        self.unreached: set[int] = set()

    def submit(self, tasks: Sequence[int]) -> Submitted:
        name = f"kit-{secrets.token_hex(4)}"
        self._sizes[name] = len(tasks)
        commands = []
        for number in tasks:
            run = self._runs[number]
            commands.append([sys.executable, "-m", "kit.cli", "run", *run.options, *run.overrides])
        return Submitted(name, submit(commands, self.settings, name, self._folder / name))

    def settle(self, task: int, ended: Ended, *, again: bool) -> Settled:
        name, place = ended.place
        found = self._record(task, ended)
        if found is not None and found.outcome != "cancelled":
            reached = found.outcome in ("reached", "partial")
            if not reached:
                self.unreached.add(task)
            self._say(f"{self._runs[task].title}: {found.result} ({found.id})")
            if reached:
                tidy(self._folder / name, place, self._sizes[name])
            return "made"
        if found is None and not ended.late:
            return "unseen"
        words = last_words(self._folder / name, place, self._sizes[name])
        why = f"cancelled: {found.reason}" if found is not None else f"no record: {words or 'nothing was printed'}"
        self._say(
            f"{self._runs[task].title}: {ended}, {why}; {'it is made again' if again else f'see {self._folder / name}'}"
        )
        if not again:
            self.unreached.add(task)
        return "lost"

    def _record(self, task: int, ended: Ended) -> Record | None:
        """What the job left, if it can be seen yet."""
        job = ended.job or ""
        if job not in self._left:
            for _, record in self._arrivals[self._runs[task].results_dir].look():
                if record.job is not None:
                    self._left[record.job.id] = record
        return self._left.get(job)
