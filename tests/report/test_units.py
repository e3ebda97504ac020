"""Numbers for people."""

import pytest

from kit.report.units import dollars


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
