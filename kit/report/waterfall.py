"""The factors of a speed-up as a picture: from the time of A to the time of B, one step per factor."""

from pathlib import Path
from typing import TYPE_CHECKING

from kit.analysis.decomposition import Decomposition, Factor
from kit.report.compare import interval, ratio
from kit.report.picture import duration, duration_ticks, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

END, GAIN, LOSS, OPEN = "#33414e", "#2a9d8f", "#d1603d", "#a9b4bd"
"""Times of both sides; factors above 1, below 1, and those that cannot be told from 1."""
BAR_HEIGHT = 0.62
MARGIN = 1.25
"""Of the time axis on both sides, as a factor."""
TITLE_CHARACTERS = 90


def plot_waterfall(comparison: Decomposition, path: Path) -> None:
    """Write the picture; the ending of the name says which format.

    Raises:
        KitError: There is no such format, or the file cannot be written.
    """
    rows = len(comparison.factors) + 2
    with picture(path, 9.6, 1.5 + 0.52 * rows) as figure:
        _draw(comparison, figure.subplots())


def _draw(comparison: Decomposition, axes: "Axes") -> None:
    a, b = comparison.a, comparison.b
    times_s = [a.time_s]
    for factor in comparison.factors:
        times_s.append(times_s[-1] / factor.ratio)
    reach_s = [before / factor.high for factor, before in zip(comparison.factors, times_s, strict=False) if factor.high]
    reach_s += [before / factor.low for factor, before in zip(comparison.factors, times_s, strict=False) if factor.low]
    left, right = min(times_s + reach_s) / MARGIN, max(times_s + reach_s) * MARGIN
    _bar(axes, 0, left, a.time_s, END)
    for row, (factor, before, after) in enumerate(zip(comparison.factors, times_s, times_s[1:], strict=False), start=1):
        _bar(axes, row, before, after, _colour(factor))
        axes.plot([before, before], [row - 1 + BAR_HEIGHT / 2, row - BAR_HEIGHT / 2], color=END, lw=0.8, ls=":")
        if factor.low is not None:
            low_s = left if factor.high is None else before / factor.high
            high_s = right if factor.low == 0 else before / factor.low
            axes.plot([low_s, high_s], [row, row], color="black", lw=1.1, marker="|", ms=9, zorder=4)
    last = len(comparison.factors) + 1
    axes.plot([b.time_s, b.time_s], [last - 1 + BAR_HEIGHT / 2, last - BAR_HEIGHT / 2], color=END, lw=0.8, ls=":")
    _bar(axes, last, left, b.time_s, END)
    _label(comparison, axes, left, right)


def _label(comparison: Decomposition, axes: "Axes", left: float, right: float) -> None:
    a, b, last = comparison.a, comparison.b, len(comparison.factors) + 1
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(last + 0.6, -0.6)
    ticks = duration_ticks(left, right)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set_xlabel("time to the target, after each factor in turn")
    axes.set_yticks(range(last + 1), ["A", *(factor.name for factor in comparison.factors), "B"])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e3e7ea", lw=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    values = [duration(a.time_s), *map(_value, comparison.factors), duration(b.time_s)]
    for row, text in enumerate(values):
        weight = "bold" if row in (0, last) else "normal"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", weight=weight)
    title = f"A  {_end(a.name)}\nB  {_end(b.name)}\nA to B: {_value(comparison.speedup)}"
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)


def _bar(axes: "Axes", row: int, start: float, end: float, colour: str) -> None:
    axes.barh(row, end - start, left=start, height=BAR_HEIGHT, color=colour, zorder=3)
    if start == end:
        axes.plot([end, end], [row - BAR_HEIGHT / 2, row + BAR_HEIGHT / 2], color=colour, lw=2, zorder=3)


def _colour(factor: Factor) -> str:
    if factor.separable is False or factor.ratio == 1:
        return OPEN
    return GAIN if factor.ratio > 1 else LOSS


def _value(factor: Factor) -> str:
    return f"× {ratio(factor.ratio)}" + ("" if factor.low is None else f"   {interval(factor)}")


def _end(name: str) -> str:
    """The end of a name, where a long path differs."""
    return name if len(name) <= TITLE_CHARACTERS else f"…{name[1 - TITLE_CHARACTERS :]}"
