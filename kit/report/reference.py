"""A reference time for people."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kit.analysis.reference import Reference, ReferenceTime, opened, reference_time
from kit.errors import KitError
from kit.hardware.profile import read_profile
from kit.report.plain import escape
from kit.report.units import seconds
from kit.results.record import Record


def reference_line(time: ReferenceTime) -> str:
    """In one line of rich markup."""
    between = "" if time.low_s is None else f" ({seconds(time.low_s)} to {seconds(time.high_s)})"
    tier = time.tier if time.ranked else f"[yellow]{time.tier}: indicative, never ranked[/]"
    return f"{seconds(time.time_s)}{between} on {escape(time.device)}, {tier}"


def reference_of(reference: Reference, own: Path | None) -> Callable[[Record], str]:
    """A line for each of a configuration's records: its time on the reference device, or why there is none.

    Args:
        reference: The device.
        own: Profile of the device that runs are on.

    Raises:
        KitError: A profile cannot be read, or the reference is unknown: said before anything has run.
    """
    device = opened(reference)
    profile = None if own is None else read_profile(own)

    def line(record: Record) -> str:
        try:
            return reference_line(reference_time(record, device, own=profile))
        except KitError as error:
            return f"[dim]{escape(device.name)}: not known: {escape(str(error))}[/]"

    return line


def print_reference(time: ReferenceTime, console: Console) -> None:
    """The time, what it rests on, and the table that its interval comes from."""
    console.print(f"[bold]{reference_line(time)}[/]", highlight=False, soft_wrap=True)
    console.print(f"from {escape(time.basis)}", highlight=False, soft_wrap=True)
    if not time.checks:
        return
    table = Table(title="Reference workloads, each predicted from the others", title_justify="left", box=None)
    table.add_column("workload")
    for column in ("measured ratio", "predicted", "error"):
        table.add_column(column, justify="right")
    for check in time.checks:
        table.add_row(check.workload, f"{check.ratio:.3f}", f"{check.predicted:.3f}", f"{check.error:.1%}")
    console.print(table)
