"""Numbers and names as pages show them."""

import re
from datetime import date, datetime
from typing import Any

from markupsafe import Markup

from kit.analysis.board import Flag, Steadiness
from kit.analysis.result import DeviceKind
from kit.analysis.scoring import Measure, Quantity
from kit.protocol import printable
from kit.report.board import FLAGS
from kit.report.compare import ratio
from kit.report.units import dollars, quantity
from kit.results.record import PUBLIC_PAGE

NOTHING = "\N{EN DASH}"
STEADINESS: dict[Steadiness, str] = {
    "drifted": "the machine changed meanwhile",
    "unclear": "whether the machine changed is unclear",
    "open": "the machine was calibrated before the runs, and not yet after them",
    "none": "the machine was not calibrated",
    "steady": "the machine was as fast after the runs as before",
}


def shown(value: Any) -> Any:
    """What a page prints, whoever wrote it: no control characters, and none that turn the text's direction."""
    if value is None:
        return NOTHING
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def duration(value_s: float | None) -> str:
    """Seconds, with about five digits at most."""
    if value_s is None:
        return "∞"
    decimals = 3 if value_s < 100 else 1 if value_s < 10_000 else 0
    return f"{value_s:,.{decimals}f} s"


def amount(value: float | None, what: Quantity) -> str:
    """A number of what boards rank by; None is infinite."""
    if value is None:
        return "∞"
    match what:
        case "time":
            return duration(value)
        case "energy":
            return quantity(value, "J")
        case "flops":
            return quantity(value, "FLOP")
        case "cost":
            return dollars(value)


def median(measure: Measure, what: Quantity) -> str:
    """A measure's median, or a dash."""
    return NOTHING if measure.median is None else amount(measure.median.value, what)


def span(measure: Measure, what: Quantity) -> str:
    """A measure's interval, or nothing."""
    if measure.median is None or measure.median.interval is None or measure.median.interval.low is None:
        return ""
    interval = measure.median.interval
    return f"{amount(interval.low, what)} to {amount(interval.high, what)}"


def sort_value(measure: Measure) -> str:
    """What a table sorts a measure by: the median, after all others where it is infinite, last where there is none."""
    if measure.median is None:
        return ""
    return "1e308" if measure.median.value is None else repr(float(measure.median.value))


def percent(value: float | None, decimals: int = 2) -> str:
    """A share."""
    return NOTHING if value is None else f"{100 * value:.{decimals}f} %"


def factor(value: float | None) -> str:
    """A ratio."""
    return NOTHING if value is None else f"× {ratio(value)}"


def si(value: float | None, unit: str = "") -> str:
    """Three digits and a prefix, or a dash."""
    return NOTHING if value is None else quantity(value, unit)


def device(kind: DeviceKind | None) -> str:
    """A machine, as boards tell them apart."""
    if kind is None:
        return NOTHING
    count = f"{kind.count} × " if kind.count > 1 else ""
    cores = f", {kind.cores} cores" if kind.cores is not None else ""
    limit = f", limited to {kind.power_limit_w:g} W" if kind.power_limit_w is not None else ""
    return f"{count}{kind.name}{cores}{limit}"


def day(moment: datetime | date) -> str:
    """A date."""
    return f"{moment:%Y-%m-%d}"


def minute(moment: datetime) -> str:
    """A time of day in UTC, in which records have theirs."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def web_address(text: str | None) -> str | None:
    """An address that may be a link: whatever is none on the web is only text."""
    return text if text is not None and re.fullmatch(PUBLIC_PAGE, text) else None


def metric(name: str) -> str:
    """top1 as people write it."""
    return name.replace("top", "top-")


def flag(name: Flag) -> str:
    """What speaks against an entry."""
    return FLAGS[name]


def steadiness(name: Steadiness) -> str:
    """What calibrations say of a machine."""
    return STEADINESS[name]


FILTERS = {
    "duration": duration,
    "median": median,
    "span": span,
    "sort_value": sort_value,
    "percent": percent,
    "factor": factor,
    "si": si,
    "device": device,
    "day": day,
    "minute": minute,
    "web_address": web_address,
    "metric": metric,
    "flag": flag,
    "steadiness": steadiness,
    "dollars": dollars,
    "ratio": ratio,
}
