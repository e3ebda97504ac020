"""Numbers for people."""

import math

PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def quantity(value: float, unit: str) -> str:
    """Three digits and an SI prefix: `quantity(2.9e14, "FLOP")` is "290 TFLOP"."""
    step, value = 0, float(f"{value:.3g}")  # rounded first: 999.6 is a thousand
    while abs(value) >= 1000 and step < len(PREFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g} {PREFIXES[step]}{unit}"


def seconds(value: float | None) -> str:
    """Seconds to the millisecond, or a dash."""
    return "-" if value is None else f"{value:.3f} s"


def dollars(value: float) -> str:
    """Cents, and three digits of what is less: `dollars(0.0001234)` is "$0.000123"."""
    decimals = 2 if value == 0 else max(2, 2 - math.floor(math.log10(value)))
    return f"${value:,.{decimals}f}"
