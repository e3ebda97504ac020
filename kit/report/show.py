"""A record for people."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kit.report.plain import escape
from kit.report.units import dollars, quantity, seconds
from kit.results.record import Conditions, Cost, Energy, EnergyFlag, Flops, Memory, Official, Record
from kit.results.signing import Verification

FLAGS: dict[EnergyFlag, str] = {
    "counter_backwards": "the energy counter ran backwards",
    "counter_stalled": "the energy counter stood still",
    "device_lost": "the GPU was lost on the way",
    "inconsistent": "energy counter and sampled power disagree",
    "aliased": "steps are in time with the power sensor",
    "throttled": "clocks were held down",
    "foreign_process": "another process used the GPU",
    "work_before_go": "the GPU was working before the clock started",
    "work_after_stop": "the GPU went on working after the clock stopped",
}


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
    if record.energy.flags:
        yield f"        [yellow]doubtful: {', '.join(FLAGS[flag] for flag in record.energy.flags)}[/]"
    yield f"compute {flops(record.flops)}"
    if record.usd is not None:
        yield f"cost    {dollars(record.usd)}"
    yield f"record  {escape(str(path))}"


def show(record: Record, path: Path, console: Console, signature: Verification, names: Mapping[str, str]) -> None:
    """Print a record, and who vouches for it, by the names of the reader's trusted keys."""
    for line in (*summary(record, path), f"signed  {signed(signature, names)}"):
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
    line = f"{value.device_j:.1f} J ± {value.uncertainty_j or 0:.1f} J ({value.method})"
    if value.counter_unavailable_because is not None:
        line += f", not by the counter: {escape(value.counter_unavailable_because)}"
    return line


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


def signed(value: Verification, names: Mapping[str, str]) -> str:
    """Who vouches for a record, or why nobody does."""
    if value.state == "missing":
        return "by nobody"
    if value.state == "invalid" or value.public_key is None:
        return f"[bold red]does not hold: {escape(value.because or 'no reason given')}[/]"
    name = names.get(value.public_key)
    who = f"by {escape(name)}" if name is not None else "by a key that you do not name"
    return f"{who} ({value.fingerprint}); nothing was changed since"


def price(value: Cost | None) -> str:
    """What the machine costs, as who showed it when."""
    if value is None:
        return "-"
    return f"{dollars(value.usd_per_hour)} per hour ({value.price_date}, {value.price_source})"


def _facts(record: Record) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    config = "  ".join(f"{name}={value}" for name, value in record.submission.config.items())
    git = "-" if record.git is None else record.git.commit[:12] + (" (changed since)" if record.git.dirty else "")
    of = record.device
    device = f"{of.count} x {of.name}" if of.count > 1 else of.name
    device += f", {of.ranks} ranks" if of.ranks > 1 else ""
    device += f", {of.threads} threads" if of.threads else ""
    rows = {
        "submission": f"{record.submission.name} by {', '.join(record.submission.authors)}",
        "config": config or "-",
        "track": f"{record.track.name} version {record.track.version}: {record.track.title}",
        "seed": str(record.seed),
        "official": _official(record.official),
        "started": record.started_at.isoformat(timespec="seconds"),
        "time": f"setup {seconds(record.time.setup_s)}, training {seconds(record.time.total_s)}, "
        f"of which evaluation {seconds(record.time.evaluation_s)}",
        "steps": "-"
        if record.steps is None
        else f"{record.steps.optimizer_steps:,} optimizer steps, {record.steps.loader_batches:,} batches",
        "memory": _memory(record.memory),
        "power": _power(record.energy),
        "conditions": _conditions(record.conditions),
        "device": device,
        "price": price(record.cost),
        "software": f"Python {record.software.python}, torch {record.software.torch}, "
        f"DALI {record.software.dali or '-'}, kit {record.kit_version}",
        "isolation": f"{record.isolation.mode}: {', '.join(record.isolation.defences)}",
        "commit": git,
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _official(value: Official | None) -> str:
    if value is None:
        return "no"
    return f"yes: {value.split} split, run {value.seed_index + 1} of {value.seeds}"


def _memory(value: Memory) -> str:
    host = quantity(value.host_peak_bytes, "B") if value.host_peak_bytes else "-"
    device = quantity(value.device_peak_bytes, "B") if value.device_peak_bytes else "-"
    line = f"host {host}, device {device}"
    if value.device_torch_peak_bytes is not None:
        line += f" ({quantity(value.device_torch_peak_bytes, 'B')} of it tensors, by torch)"
    return line


def _power(value: Energy) -> str:
    sampled = f"{value.sampled_j:.1f} J" if value.sampled_j is not None else "-"
    idle = f"{value.idle_w:.1f} W" if value.idle_w is not None else "-"
    host = f"{value.host_j:.1f} J" if value.host_j is not None else value.host_unavailable_because or "-"
    return f"by samples {sampled}, idle {idle}, host {host}"


def _conditions(value: Conditions | None) -> str:
    if value is None:
        return "-"
    clock = "-" if value.clock_sm_mean_mhz is None else f"{value.clock_sm_mean_mhz:.0f} MHz"
    throttled_s = (value.throttled_power_s or 0) + (value.throttled_heat_s or 0)
    line = f"{value.temperature_start_c or '-'} to {value.temperature_end_c or '-'} °C, {clock}"
    line += f", throttled {seconds(throttled_s)}"
    if value.foreign_processes:
        line += f", {len(value.foreign_processes)} other processes on the GPU"
    return line


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
        table.add_row(*map(escape, key), f"{calls:,}", quantity(operations, ""), quantity(size, ""))
    return table
