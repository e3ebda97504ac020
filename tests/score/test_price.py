"""What the machine costs: with source and date, or not at all."""

from datetime import date
from pathlib import Path

import pytest

from kit.errors import KitError
from kit.results.record import Cost
from kit.score.price import read_price

GOOD = "usd_per_hour: 3.5\nprice_source: https://example.com/prices\nprice_date: 2026-11-24\n"


def test_a_price_is_read_with_its_source_and_date(tmp_path: Path) -> None:
    path = tmp_path / "price.yaml"
    path.write_text(GOOD)
    assert read_price(path) == Cost(
        usd_per_hour=3.5, price_source="https://example.com/prices", price_date=date(2026, 11, 24)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected usd_per_hour, price_source and price_date"),
        (GOOD.replace("usd_per_hour: 3.5\n", ""), "usd_per_hour: Field required"),
        (GOOD.replace("3.5", "-1"), "usd_per_hour"),
        (GOOD.replace("3.5", ".nan"), "usd_per_hour"),
        (GOOD.replace("https://", ""), "price_source"),
        (GOOD.replace("24", "31"), "day is out of range"),
        ("a: [", "price.yaml"),
    ],
)
def test_what_is_no_price_is_one_line_that_names_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "price.yaml"
    path.write_text(content)
    with pytest.raises(KitError, match=message) as caught:
        read_price(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_price_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"price\.yaml: No such file"):
        read_price(tmp_path / "price.yaml")
