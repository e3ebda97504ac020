"""What the doctor says, for people."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kit.doctor.examine import Examination

STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}


@contextmanager
def watching(console: Console) -> Iterator[Callable[[str], None]]:
    """Gives a function to call with what is looked at; only a terminal shows it."""
    if not console.is_terminal:
        yield lambda name: None
        return
    with console.status("looking") as status:
        yield lambda name: status.update(f"looking at: {name}")


def print_findings(examination: Examination, console: Console) -> None:
    """A row per finding, with the advice below what was found, and whether a run works."""
    table = Table(box=None, pad_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found, and what to do about it", overflow="fold")
    for finding in examination.findings:
        said = Text(finding.found)
        if finding.advice is not None:
            said.append(f"\n→ {finding.advice}", style="dim")
        table.add_row(finding.name, Text(finding.status, style=STYLES[finding.status]), said)
    console.print(table)
    works = "A run on the processor works." if examination.cpu_run_works else "A run on the processor does NOT work."
    console.print(works, style="bold green" if examination.cpu_run_works else "bold red")
