"""What a check found, for people."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kit.report.units import seconds
from kit.submission.check import Checked
from kit.submission.smoke import SmokeRun

STYLES = {"error": "red", "flag": "yellow"}


def print_check(checked: Checked, console: Console) -> None:
    """What was tried, a row per problem with its fix below, and the verdict."""
    name = checked.name or "no submission that can be read"
    _line(console, f"{checked.path}: {name}, {checked.files} files, {checked.bytes:,} bytes")
    for run in checked.smoke_runs:
        _line(console, _tried(run))
    if checked.problems:
        table = Table(box=None, pad_edge=False, show_header=False)
        for column in ("severity", "where"):
            table.add_column(column, no_wrap=True)
        table.add_column("what", overflow="fold")
        for problem in checked.problems:
            said = Text(problem.what)
            said.append(f"\n→ {problem.fix}", style="dim")
            table.add_row(Text(problem.severity, style=STYLES[problem.severity]), Text(problem.where), said)
        console.print(table)
    errors = sum(problem.severity == "error" for problem in checked.problems)
    flags = len(checked.problems) - errors
    verdict = "passed" if checked.passed else "not passed"
    console.print(
        f"{verdict}: {_count(errors, 'error')}, {_count(flags, 'flag')}",
        style="bold green" if checked.passed else "bold red",
        highlight=False,
    )


def _tried(run: SmokeRun) -> str:
    sealed = "sealed" if run.isolation == "sandbox" else f"not sealed: {run.unsealed_because}"
    setup = "setup did not end" if run.setup_s is None else f"setup {seconds(run.setup_s)}"
    reached = run.evaluated_after_s
    evaluated = "no evaluation" if reached is None else f"an evaluation after {seconds(reached)}"
    steps = f"{run.optimizer_steps} optimizer steps"
    return f"smoke run on {run.track}, random data, {run.device}, {sealed}: {setup}, {evaluated}, {steps}"


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
