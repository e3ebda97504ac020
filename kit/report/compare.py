"""The factors of a speed-up as a table."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from kit.analysis.decomposition import Decomposition, Factor, SideSummary
from kit.report.plain import escape
from kit.report.units import quantity, seconds


def print_comparison(comparison: Decomposition, console: Console) -> None:
    """Both sides, the factors, their product, and what to know before using them."""
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        console.print(f"[bold]{letter}[/]  {side_line(side)}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("factor")
    table.add_column("A to B", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("from", style="dim")
    for factor in comparison.factors:
        for row, depth in _rows(factor):
            table.add_row("  " * depth + row.name, f"× {ratio(row.ratio)}", interval(row), escape(row.basis))
    total = comparison.speedup
    table.add_section()
    table.add_row(
        "[bold]speed-up[/]",
        f"[bold]× {ratio(total.ratio)}[/]",
        interval(total),
        "the product: median times to the target",
    )
    console.print(table)
    for line in _remarks(comparison):
        console.print(line, highlight=False, soft_wrap=True)


def ratio(value: float) -> str:
    """Two decimals of an everyday number, else three digits or more."""
    if 0.095 <= value < 1000:
        return f"{value:.2f}"
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def interval(factor: Factor) -> str:
    """Its interval, or why there is none."""
    if factor.exact:
        return "exact"
    if factor.low is None:
        return "-"
    text = f"{ratio(factor.low)} to {'∞' if factor.high is None else ratio(factor.high)}"
    return text if factor.separable else f"{text}, not separable"


def side_line(side: SideSummary) -> str:
    """A side in one line of rich markup."""
    runs = "" if side.runs == 1 else f", median of {side.runs} runs"
    devices = "" if side.devices is None else f"{side.devices} × "
    line = f"{escape(side.name)}: {seconds(side.time_s)}{runs}, {devices}{escape(side.device)}"
    if side.train_flops is not None:
        line += f", {quantity(side.train_flops, 'FLOP')} {side.flops_method}"
    if side.attained is not None:
        source = "as measured" if side.attained_of == "measured" else "by its spec sheet"
        line += f", {side.attained:.1%} of what its devices can attain {source}"
    return line


def _rows(factor: Factor, depth: int = 0) -> Iterator[tuple[Factor, int]]:
    yield factor, depth
    for part in factor.split:
        yield from _rows(part, depth + 1)


def _remarks(comparison: Decomposition) -> Iterator[str]:
    if comparison.interaction_log is not None:
        yield (
            "[dim]interaction: hardware at A's operators is "
            f"{comparison.interaction_log:+.3f} in logs from hardware at B's[/]"
        )
    efficiency = comparison.algorithmic_efficiency
    if efficiency is not None:
        yield (
            f"algorithmic efficiency of B against A: × {ratio(efficiency.ratio)} ({interval(efficiency)}), "
            "training operations as executed, a multiply-add counted as two"
        )
    for note in comparison.notes:
        yield f"[dim]{escape(note)}[/]"
