"""A device profile, and a drift, for people."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from kit.hardware.drift import Change, Drift
from kit.hardware.profile import Curve, Profile
from kit.report.plain import escape
from kit.report.units import quantity

VERDICT_STYLES = {"steady": "bold green", "drifted": "bold red", "unclear": "bold yellow"}


def print_profile(profile: Profile, path: Path, console: Console) -> None:
    """Print what a calibration found."""
    noise = profile.noise
    repeated = f"repetitions differ by {noise.median_spread:.1%} (median), {noise.p90_spread:.1%} (90th percentile)"
    threads = f", {profile.settings.threads} threads" if profile.device.type == "cpu" else ""
    lines = [
        f"device  {escape(profile.device.name)}{threads}, torch {profile.software.torch}",
        f"noise   {repeated}, {noise.rounds} rounds",
        f"launch  {profile.launch_overhead_s * 1e6:.2f} µs",
    ]
    if noise.because is not None:
        lines.append(f"[bold red]noisy[/]   [red]{escape(noise.because)}; calibrate again on a machine left alone[/]")
    lines += [f"refused {escape(point.what)}: {escape(point.because)}" for point in noise.refused]
    lines += [f"left out {escape(item.what)}: {escape(item.because)}" for item in profile.left_out]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
    console.print(_rates(profile))
    console.print(_workloads(profile))
    console.print(f"profile {escape(str(path))} ({profile.took_s:.0f} s)", highlight=False, soft_wrap=True)


def print_drift(drift: Drift, console: Console) -> None:
    """Print how a machine compares with what it was."""
    table = Table(title="Time now / time then", title_justify="left", box=None)
    table.add_column("class")
    for column in ("points", "ratio", "95 % interval"):
        table.add_column(column, justify="right")
    for change in (*drift.classes, drift.overall):
        table.add_row(
            change.what,
            str(change.points),
            f"{change.ratio:.3f}",
            f"{change.low:.3f} to {change.high:.3f}",
            style=_style(change),
        )
    console.print(table)
    for line in drift.changed:
        console.print(f"changed {escape(line)}", highlight=False, soft_wrap=True)
    style = VERDICT_STYLES[drift.verdict]
    console.print(f"[{style}]{drift.verdict}[/]: {escape(drift.because)}", highlight=False, soft_wrap=True)


def _style(change: Change) -> str:
    return "red" if change.drifted else ""


def _rates(profile: Profile) -> Table:
    table = Table(title="Best rates", title_justify="left", box=None)
    table.add_column("class")
    for dtype in profile.dtypes:
        table.add_column(dtype, justify="right")
    rows: dict[str, dict[str, Curve]] = {}
    for curve in profile.curves:
        rows.setdefault(f"{curve.operator_class}{' backward' if curve.backward else ''}", {})[curve.dtype] = curve
    for kind, curves in rows.items():
        table.add_row(kind, *(best_rate(curves[dtype]) if dtype in curves else "-" for dtype in profile.dtypes))
    return table


def best_rate(curve: Curve) -> str:
    """Of classes that are counted in operations, operations per second; of the others, bytes."""
    if any(point.flops_per_call for point in curve.points):
        return quantity(max(point.flops_per_call / point.seconds for point in curve.points), "FLOP/s")
    return quantity(max(point.bytes_per_call / point.seconds for point in curve.points), "B/s")


def _workloads(profile: Profile) -> Table:
    table = Table(title="Reference workloads", title_justify="left", box=None)
    for column in ("workload", "dtype", ""):
        table.add_column(column)
    for column in ("step", "spread"):
        table.add_column(column, justify="right")
    for workload in profile.workloads:
        table.add_row(
            workload.name,
            workload.dtype,
            "compiled" if workload.compiled else "eager",
            f"{workload.step_s * 1e3:.2f} ms",
            f"{workload.spread:.1%}",
        )
    return table
