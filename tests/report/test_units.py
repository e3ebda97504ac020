"""Numbers for people."""

import pytest

from kit.report.units import dollars, quantity


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "$0.00"),
        (0.0001234, "$0.000123"),
        (0.0212, "$0.0212"),
        (0.5, "$0.500"),
        (1.005, "$1.00"),
        (1112.644, "$1,112.64"),
    ],
)
def test_dollars_show_cents_and_three_digits_of_what_is_less(value: float, shown: str) -> None:
    assert dollars(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 J"),
        (12.34, "12.3 J"),
        (999.4, "999 J"),
        (999.6, "1 kJ"),
        (999_600, "1 MJ"),
        (2.9e14, "290 TJ"),
        (-999.6, "-1 kJ"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, shown: str) -> None:
    assert quantity(value, "J") == shown
