"""A record for people."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kit.report.units import quantity, seconds
from kit.results.record import Energy, Flops, Record


def summary(record: Record, path: Path) -> Iterator[str]:
    """What a run came to, in a few lines of rich markup."""
    style = "bold green" if record.outcome == "reached" else "bold red"
    line = f"[{style}]{record.outcome}[/]"
    if record.time.to_target_s is not None:
        line += f" {record.track.target:.2%} in [bold]{record.time.to_target_s:.3f} s[/]"
    if record.reason is not None:
        line += f": {escape(record.reason)}"
    yield line
    yield f"energy  {energy(record.energy)}"
    yield f"compute {flops(record.flops)}"
    yield f"record  {escape(str(path))}"


def show(record: Record, path: Path, console: Console) -> None:
    """Print a record."""
    for line in summary(record, path):
        console.print(line, highlight=False, soft_wrap=True)
    if record.traceback:
        console.print(escape(record.traceback), highlight=False)
    console.print(_facts(record))
    if record.evaluations:
        console.print(_evaluations(record))
    if record.flops.operators:
        console.print(_operators(record))


def energy(value: Energy) -> str:
    """Joules with their error, or why there are none."""
    if value.device_j is None:
        return f"not measured: {escape(value.unavailable_because or 'no reason given')}"
    return f"{value.device_j:.1f} J ± {value.uncertainty_j:.1f} J ({value.method})"


def flops(value: Flops) -> str:
    """Operations, or why there are none."""
    if value.method == "absent":
        return "not counted: training did not return"
    if value.train_total is None:
        return "not counted yet"
    line = f"{quantity(value.train_total, 'FLOP')} training, {quantity(value.evaluation_total or 0, 'FLOP')} evaluation"
    if value.recomputed_total:
        line += f", {quantity(value.recomputed_total, 'FLOP')} of it recomputed"
    if value.sampling is not None:
        line += f", {value.sampling.counted:,} of {value.sampling.steps:,} steps counted"
    if value.not_rated_because is not None:
        line += f" [red](not rated: {escape(value.not_rated_because)})[/]"
    elif value.uncounted:
        line += f" [yellow]({len(value.uncounted)} operators without a rule)[/]"
    return line


def _facts(record: Record) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    config = "  ".join(f"{name}={value}" for name, value in record.submission.config.items())
    git = "-" if record.git is None else record.git.commit[:12] + (" (changed since)" if record.git.dirty else "")
    device = record.device.name + (f", {record.device.threads} threads" if record.device.threads else "")
    memory = record.memory
    rows = {
        "submission": f"{record.submission.name} by {', '.join(record.submission.authors)}",
        "config": config or "-",
        "track": f"{record.track.name} version {record.track.version}: {record.track.title}",
        "seed": str(record.seed),
        "started": record.started_at.isoformat(timespec="seconds"),
        "time": f"setup {seconds(record.time.setup_s)}, training {seconds(record.time.total_s)}, "
        f"of which evaluation {seconds(record.time.evaluation_s)}",
        "steps": "-"
        if record.steps is None
        else f"{record.steps.optimizer_steps:,} optimizer steps, {record.steps.loader_batches:,} batches",
        "memory": f"host {quantity(memory.host_peak_bytes, 'B') if memory.host_peak_bytes else '-'}, "
        f"device {quantity(memory.device_peak_bytes, 'B') if memory.device_peak_bytes else '-'}",
        "device": device,
        "software": f"Python {record.software.python}, torch {record.software.torch}, "
        f"DALI {record.software.dali or '-'}, kit {record.kit_version}",
        "isolation": f"{record.isolation.mode}: {', '.join(record.isolation.defences)}",
        "commit": git,
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _evaluations(record: Record) -> Table:
    table = Table(title="Evaluations", title_justify="left", box=None)
    for column in ("elapsed", "of it evaluating", record.track.metric):
        table.add_column(column, justify="right")
    for evaluation in record.evaluations:
        style = "green" if evaluation.reached else ""
        table.add_row(
            seconds(evaluation.elapsed_s),
            seconds(evaluation.evaluation_s),
            f"{evaluation.value:.3%}",
            style=style,
        )
    return table


def _operators(record: Record) -> Table:
    table = Table(title="Operations", title_justify="left", box=None)
    for column in ("class", "dtype", "phase"):
        table.add_column(column)
    for column in ("calls", "FLOP", "bytes"):
        table.add_column(column, justify="right")
    totals: dict[tuple[str, str, str], list[float]] = {}
    for row in record.flops.operators:
        total = totals.setdefault((row.operator_class, row.dtype, row.phase), [0, 0, 0])
        for at, value in enumerate((1, row.flops_per_call, row.bytes_per_call)):
            total[at] += row.calls * value
    for key, (calls, operations, size) in sorted(totals.items(), key=lambda item: (-item[1][1], -item[1][2])):
        table.add_row(*key, f"{calls:,}", quantity(operations, ""), quantity(size, ""))
    return table
