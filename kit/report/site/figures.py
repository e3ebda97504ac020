"""Plots as plotly's JSON, built by hand: importing plotly takes longer than a site.

A colour is the name of one of the style sheet's variables, which the page's script looks up, so that plots follow the
reader's dark mode. Whatever a stranger wrote goes through `label`: plotly reads a little HTML in its texts.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kit.analysis.decomposition import Decomposition, Factor
from kit.protocol import printable
from kit.report.compare import interval as factor_interval
from kit.report.compare import ratio
from kit.report.units import quantity

Figure = dict[str, Any]
SERIES = ("--s1", "--s2", "--s3", "--s4", "--s5", "--s6", "--s7", "--s8")
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down")
MAX_LABEL = 32
MAX_LABELS = 12
"""Direct labels in one plot; the other points tell their names to the pointer."""
MAX_TICKS = 7
LOG_ABOVE = 20
"""A time axis is logarithmic where values lie farther apart than this."""
NOISE_BELOW = 5
"""A score axis begins so many times as far below the target as perfection lies above it."""


def label(text: str) -> str:
    """A stranger's words as plotly shows them: in one line, of bearable length, and no markup."""
    line = " ".join(printable(text).split())
    short = line if len(line) <= MAX_LABEL else f"{line[: MAX_LABEL - 1]}…"
    return short.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def figure(data: Sequence[Mapping[str, Any]], x: Figure, y: Figure, **layout: Any) -> Figure:
    """Traces and axes in the site's layout."""
    return {"data": list(data), "layout": {"xaxis": x, "yaxis": y} | layout}


def axis(title: str, **more: Any) -> Figure:
    """An axis with a title."""
    return {"title": {"text": title}} | more


def log_axis(values: Iterable[float], title: str, unit: str = "", **more: Any) -> Figure:
    """A logarithmic axis around positive values, with some room and few round ticks.

    Args:
        values: What is drawn.
        title: Of the axis.
        unit: Behind the SI prefix of each tick; plain numbers without one.
        more: What else plotly is told.
    """
    inside = [value for value in values if value > 0 and math.isfinite(value)]
    if not inside:
        return axis(title, type="log", **more)
    low, high = math.log10(min(inside)), math.log10(max(inside))
    room = max(0.08 * (high - low), 0.06)
    low, high = low - room, high + room
    ticks = _round_values(low, high)
    texts = [quantity(value, unit) if unit else f"{value:,.12g}" for value in ticks]
    return axis(title, type="log", range=[low, high], tickvals=ticks, ticktext=texts, **more)


def _round_values(low_log: float, high_log: float) -> list[float]:
    """Values of few digits between two logs: the finest scale that has no more of them than a phone has room for."""
    scales: tuple[tuple[float, ...], ...] = (
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
        (1, 1.5, 2, 3, 5, 7),
        (1, 2, 5),
        (1,),
    )
    decades = range(math.floor(low_log), math.ceil(high_log) + 1)
    found: list[float] = []
    for digits in scales:
        powers = (digit * 10.0**decade for decade in decades for digit in digits)
        found = [value for value in powers if value > 0 and low_log <= math.log10(value) <= high_log]
        if len(found) <= MAX_TICKS:
            return found
    return found[:: math.ceil(len(found) / MAX_TICKS)]


# ---- of a track


@dataclass(frozen=True)
class ParetoPoint:
    """One entry: two medians with their intervals, an infinite end as None."""

    name: str
    x: float
    x_interval: tuple[float | None, float | None] | None
    y: float
    y_interval: tuple[float | None, float | None] | None
    on_front: bool


def pareto(points: Sequence[ParetoPoint], x_title: str, y_title: str, y_unit: str) -> Figure:
    """Entries in two costs, both logarithmic, and the front of those that none beats in both."""
    ordered = sorted(points, key=lambda point: (point.x, point.y))
    front = [point for point in ordered if point.on_front]
    named = set(map(id, front[:MAX_LABELS]))
    named |= set(map(id, [point for point in ordered if not point.on_front][: MAX_LABELS - len(named)]))
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Pareto front",
            "x": [point.x for point in front],
            "y": [point.y for point in front],
            "line": {"color": "--accent", "width": 1.5, "shape": "vh", "dash": "dot"},
            "hoverinfo": "skip",
        }
    ]
    for on_front, name, colour in ((True, "on the front", "--accent"), (False, "beaten in both", "--open")):
        some = [point for point in ordered if point.on_front == on_front]
        if not some:
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": name,
                "x": [point.x for point in some],
                "y": [point.y for point in some],
                "error_x": _bars([(point.x, point.x_interval) for point in some], colour),
                "error_y": _bars([(point.y, point.y_interval) for point in some], colour),
                "text": [label(point.name) if id(point) in named else "" for point in some],
                "textposition": "top right",
                "textfont": {"color": "--ink"},
                "customdata": [label(point.name) for point in some],
                "hovertemplate": f"%{{customdata}}<br>{x_title} %{{x:.4~g}}<br>{y_title} %{{y:.4~s}}<extra></extra>",
                "marker": {"color": colour, "size": 11, "symbol": "circle" if on_front else "circle-open"},
                "cliponaxis": False,
            }
        )
    xs = [value for point in points for value in (point.x, *(point.x_interval or ())) if value is not None]
    ys = [value for point in points for value in (point.y, *(point.y_interval or ())) if value is not None]
    return figure(traces, log_axis(xs, x_title), log_axis(ys, y_title, y_unit))


def _bars(values: Sequence[tuple[float, tuple[float | None, float | None] | None]], colour: str) -> Figure:
    """Error bars; an infinite end reaches out of the plot."""
    up, down = [], []
    for value, ends in values:
        low, high = (value, value) if ends is None else ends
        up.append(value * 1e6 if high is None else high - value)
        down.append(0.0 if low is None else value - low)
    return {
        "type": "data",
        "symmetric": False,
        "array": up,
        "arrayminus": down,
        "color": colour,
        "thickness": 1,
        "width": 3,
    }


@dataclass(frozen=True)
class LearningCurve:
    """The verdicts of one run, in order."""

    entry: str
    elapsed_s: tuple[float, ...]
    values: tuple[float, ...]
    emphasized: bool
    """The run that stands for its entry."""
    group: int
    """Which of the plot's entries."""
    run: str = ""


def learning_curves(curves: Sequence[LearningCurve], metric: str, target: float) -> Figure:
    """Score over time on the clock, with the target as a line."""
    traces: list[Figure] = []
    for curve in sorted(curves, key=lambda curve: (curve.group, curve.emphasized)):
        colour, dash = SERIES[curve.group % len(SERIES)], DASHES[curve.group // len(SERIES) % len(DASHES)]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers+text" if curve.emphasized else "lines",
                "name": label(curve.entry),
                "legendgroup": str(curve.group),
                "showlegend": curve.emphasized,
                "x": list(curve.elapsed_s),
                "y": list(curve.values),
                "line": {"color": colour, "width": 2.5 if curve.emphasized else 1, "dash": dash},
                "opacity": 1 if curve.emphasized else 0.45,
                "marker": {"color": colour, "size": 5, "symbol": SYMBOLS[curve.group % len(SYMBOLS)]},
                "text": [""] * (len(curve.values) - 1) + [label(curve.entry)] if curve.emphasized else "",
                "textposition": "top right",
                "textfont": {"color": colour},
                "customdata": [label(curve.run)] * len(curve.values),
                "hovertemplate": "%{customdata}<br>%{y:.3%} after %{x:.4~g} s<extra>" + label(curve.entry) + "</extra>",
                "cliponaxis": False,
            }
        )
    times = [time for curve in curves for time in curve.elapsed_s if time > 0]
    values = [value for curve in curves for value in curve.values]
    end = max(times, default=1.0)
    finals = [curve.elapsed_s[-1] for curve in curves if curve.elapsed_s and curve.elapsed_s[-1] > 0]
    far_apart = bool(finals) and max(finals) > LOG_ABOVE * min(finals)
    x = (
        log_axis(times, "seconds on the clock, log")
        if far_apart
        else axis("seconds on the clock", range=[0, end * 1.04])
    )
    lowest = max(min(values, default=0.0), target - NOISE_BELOW * max(1 - target, 0.01))
    highest = max([target, *values])
    room = 0.06 * max(highest - lowest, 0.001)
    y = axis(f"{metric} on the test images", range=[lowest - room, highest + 2 * room], tickformat=".1%")
    shapes = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": target,
            "y1": target,
            "line": {"color": "--ink", "width": 1.5, "dash": "dash"},
            "layer": "below",
        }
    ]
    note = {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "y": target,
        "yanchor": "bottom",
        "text": f"target {target:.2%}",
        "showarrow": False,
        "font": {"color": "--ink"},
    }
    return figure(traces, x, y, shapes=shapes, annotations=[note], margin={"r": 90})


# ---- of an entry


def waterfall(comparison: Decomposition) -> Figure:
    """From the baseline's time to the entry's, one bar per factor, on a logarithmic axis."""
    times_s = [comparison.a.time_s]
    for factor in comparison.factors:
        times_s.append(times_s[-1] / factor.ratio)
    reach = [
        before / end
        for factor, before in zip(comparison.factors, times_s, strict=False)
        for end in (factor.low, factor.high)
        if end
    ]
    inside = [*times_s, *reach]
    left, right = min(inside) / 1.2, max(inside) * 1.2
    rows = ["baseline", *(label(factor.name) for factor in comparison.factors), "this entry"]
    bars: list[tuple[float, float, str, str, Factor | None]] = [
        (left, comparison.a.time_s, "--ink", f"{comparison.a.time_s:.3g} s", None)
    ]
    for factor, before, after in zip(comparison.factors, times_s, times_s[1:], strict=False):
        bars.append((before, after, _factor_colour(factor), f"× {ratio(factor.ratio)}", factor))
    bars.append((left, comparison.b.time_s, "--ink", f"{comparison.b.time_s:.3g} s", None))
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(rows))),
        "base": [start for start, *_ in bars],
        "x": [end - start for start, end, *_ in bars],
        "marker": {"color": [colour for *_, colour, _, _ in bars]},
        "width": 0.6,
        "hovertext": [
            f"{row}: {text}" + ("" if factor is None else f"<br>{factor_interval(factor)}")
            for row, (*_, text, factor) in zip(rows, bars, strict=True)
        ],
        "hoverinfo": "text",
        "showlegend": False,
    }
    lines = [
        {
            "type": "line",
            "x0": time_s,
            "x1": time_s,
            "y0": row + 0.3,
            "y1": row + 0.7,
            "line": {"color": "--muted", "width": 1, "dash": "dot"},
        }
        for row, time_s in enumerate(times_s)
    ]
    whiskers = []
    for row, (factor, before) in enumerate(zip(comparison.factors, times_s, strict=False), start=1):
        if factor.low is not None:
            low_s = left if factor.high is None else before / factor.high
            high_s = right if not factor.low else before / factor.low
            whiskers.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "x": [low_s, high_s],
                    "y": [row, row],
                    "line": {"color": "--ink", "width": 1.2},
                    "marker": {"symbol": "line-ns-open", "size": 9, "color": "--ink"},
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
    notes = [
        {
            "xref": "paper",
            "x": 1.01,
            "xanchor": "left",
            "y": row,
            "text": text,
            "showarrow": False,
            "font": {"color": "--ink"},
        }
        for row, (*_, text, _) in enumerate(bars)
    ]
    x = log_axis([left, right], "seconds to the target, factor by factor")
    x["range"] = [math.log10(left), math.log10(right)]
    y = {
        "tickvals": list(range(len(rows))),
        "ticktext": rows,
        "range": [len(rows) - 0.4, -0.6],
        "showgrid": False,
        "automargin": True,
    }
    return figure(
        [trace, *whiskers],
        x,
        y,
        shapes=lines,
        annotations=notes,
        height=110 + 44 * len(rows),
        margin={"r": 80},
        meta={"keepMargin": True},
    )


def _factor_colour(factor: Factor) -> str:
    if factor.separable is False or factor.ratio == 1:
        return "--open"
    return "--good" if factor.ratio > 1 else "--bad"


def operators(totals: Mapping[tuple[str, str, str], float]) -> Figure:
    """Operations by class, stacked by dtype and phase.

    Args:
        totals: Operations by class, dtype and phase.
    """
    by_class: dict[str, float] = {}
    for (operator_class, _, _), flops in totals.items():
        by_class[operator_class] = by_class.get(operator_class, 0) + flops
    classes = sorted((name for name, flops in by_class.items() if flops), key=lambda name: (by_class[name], name))
    kinds = sorted({(phase, dtype) for (_, dtype, phase), flops in totals.items() if flops}, reverse=True)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(f"{dtype}, {phase}"),
            "y": [label(name) for name in classes],
            "x": [totals.get((name, dtype, phase), 0) for name in classes],
            "marker": {
                "color": SERIES[index % len(SERIES)],
                "pattern": {
                    "shape": "/" if phase == "evaluation" else "",
                    "fillmode": "overlay",
                    "fgcolor": "--bg",
                    "fgopacity": 1,
                    "size": 6,
                },
            },
            "hovertemplate": "%{x:.4~s}FLOP<extra>%{fullData.name}</extra>",
        }
        for index, (phase, dtype) in enumerate(kinds)
    ]
    y = {"automargin": True, "showgrid": False, "type": "category"}
    x = axis("operations, a multiply-add counted as two", tickformat="~s")
    return figure(traces, x, y, barmode="stack", height=130 + 40 * len(classes), showlegend=True)


def power(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]], to_target_s: float | None, idle_w: float | None
) -> Figure:
    """Power over time, with the scored window marked.

    Args:
        curves: Of each GPU: seconds since the clock started, watts.
        to_target_s: Where the window ends.
        idle_w: Of one GPU.
    """
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(elapsed_s),
            "y": list(power_w),
            "line": {"color": "--accent", "width": 1.5},
            "name": f"GPU {gpu}",
            "hovertemplate": "%{y:.1f} W after %{x:.3f} s" + ("" if len(curves) > 1 else "<extra></extra>"),
            "showlegend": False,
        }
        for gpu, (elapsed_s, power_w) in enumerate(curves)
    ]
    shapes, notes = [], []
    if to_target_s is not None:
        shapes.append(
            {
                "type": "rect",
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "x0": 0,
                "x1": to_target_s,
                "fillcolor": "--accent",
                "opacity": 0.08,
                "line": {"width": 0},
                "layer": "below",
            }
        )
    if idle_w is not None:
        line = {"color": "--muted", "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": idle_w, "y1": idle_w, "line": line})
        notes.append(
            {
                "xref": "paper",
                "x": 1,
                "xanchor": "right",
                "y": idle_w,
                "yanchor": "bottom",
                "text": f"idle {idle_w:.0f} W",
                "showarrow": False,
                "font": {"color": "--muted"},
            }
        )
    y = axis("watts", rangemode="tozero")
    return figure(traces, axis("seconds on the clock"), y, shapes=shapes, annotations=notes)


# ---- of a device, and over the years


@dataclass(frozen=True)
class Line:
    """Points of one thing."""

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    group: int = 0
    dash: int = 0
    texts: tuple[str, ...] = field(default=())
    mode: str = "lines+markers"
    named: bool = False
    """Whether each point's text stands beside it."""


def lines(series: Sequence[Line], x: Figure, y: Figure, hover: str, **layout: Any) -> Figure:
    """Several lines of points, each with its own colour, symbol and dash.

    Args:
        series: What is drawn.
        x: An axis.
        y: An axis.
        hover: Plotly's template of what the pointer is told; `%{customdata}` is the point's own text.
        layout: What else.
    """
    traces = [
        {
            "type": "scatter",
            "mode": f"{line.mode}+text" if line.named else line.mode,
            "text": [label(text) for text in line.texts] if line.named else "",
            "textposition": "top right",
            "cliponaxis": not line.named,
            "name": label(line.name),
            "x": list(line.x),
            "y": list(line.y),
            "line": {"color": SERIES[line.group % len(SERIES)], "width": 1.8, "dash": DASHES[line.dash % len(DASHES)]},
            "marker": {
                "color": SERIES[line.group % len(SERIES)],
                "size": 7,
                "symbol": SYMBOLS[line.group % len(SYMBOLS)] + ("-open" if line.dash else ""),
            },
            "customdata": [label(text) for text in line.texts] or [label(line.name)] * len(line.x),
            "hovertemplate": f"{hover}<extra></extra>",
        }
        for line in series
    ]
    return figure(traces, x, y, showlegend=len(series) > 1, **layout)
