"""An audit for people."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from kit.report.plain import escape
from kit.report.units import quantity, seconds
from kit.results.audit import Audit


def print_audit(audit: Audit, path: Path, console: Console) -> None:
    """The verdict, then what was seen in each window."""
    if audit.agrees:
        console.print("[bold green]agrees[/]", highlight=False)
    for reason in audit.disagrees_because:
        console.print(f"[bold red]disagrees[/] because {escape(reason)}", highlight=False, soft_wrap=True)
    console.print(f"audit   {escape(str(path))}", highlight=False, soft_wrap=True)
    table = Table(title="Windows", title_justify="left", box=None)
    columns = ("ticks", "counter", "profiler", "other threads", "time", "of it counted", "without rule")
    for column in columns:
        table.add_column(column, justify="right")
    for window in audit.windows:
        table.add_row(
            f"{window.first}-{window.first + window.ticks}",
            quantity(sum(window.counted.values()), "FLOP"),
            quantity(sum(window.profiled.values()), "FLOP"),
            quantity(window.elsewhere_flops, "FLOP"),
            seconds(window.busy_s),
            "-" if not window.busy_s else f"{window.with_rule_s / window.busy_s:.0%}",
            f"{window.uncounted_share:.0%}",
        )
    console.print(table)
