"""AI and Efficiency: training compute to a fixed quality over the years (Hernandez and Brown, arXiv 2005.04305)."""

import datetime
import re
from decimal import Context, Decimal, localcontext
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer, computed_field

from kit.results.imported import Imported
from kit.results.table import Table, blank_is_none, models, read_table
from kit.track import Model

ROWS_FILE = Path(__file__).with_name("ai_and_efficiency.csv")
MODELS_FILE = Path(__file__).with_name("ai_and_efficiency_models.csv")
SOURCE = (
    "github.com/openai/ai-and-efficiency, commit 1f280d1 (2020-06-01), efficiency_sota.csv; "
    "Hernandez and Brown, arXiv 2005.04305"
)

BASELINE = "AlexNet"
"""The model that others are compared with."""
TERAFLOPS_S_DAY = 10**12 * 86_400
"""Operations in the table's unit: 1e12 a second for a day."""
LEAST_TERAFLOPS_S_DAYS = Decimal("5.7e-18")
"""Of one operation, that of a multiply-add."""
MOST_TERAFLOPS_S_DAYS = 10**15
EXACT = Context(prec=36)
"""Takes the operations of any run through the table's unit and back."""
IMAGES = 1.28e6
"""In an epoch of ImageNet, as the paper has it."""
PASSES = 3
"""Forward and backward passes in units of forward ones."""

COLUMNS = {
    "Metric": "level",
    "Publication Date": "date",
    "Publication": "model",
    "Publication link": "link",
    "Compute (teraflops-s/days)": "teraflops_s_days",
    "Reduction Factor": "listed_ratio",
    "Analysis": "analysis",
    "Analysis link": "analysis_link",
}
"""Fields of a row by the names of the published file's columns."""
COUNTED = COLUMNS | {"operations_per_multiply_add": "operations_per_multiply_add", "train_flops": "train_flops"}
"""With what the kit adds."""

FAULTS = {
    "date": "the table's month is not that of the arXiv number in the same row: doubling times that rest on it are off",
    "forward": "0.75 is 71 epochs x 0.7 G multiply-adds x 1.28 M images without the factor 3 (forward and backward) of "
    "the other rows; with it the row would say 2.2, and the ratio would be 7.7",
    "factor": "the factor that is listed, 10, is not that of the listed computes, 22.7",
    "rounded": "the factor that is listed is of a compute of 7.6, which the table rounds to 8",
    "epochs": "after 62 of these 90 epochs AlexNet has 78.8 %, 0.3 points less: from there the ratio would be 31 "
    "(30 in the paper's footnote)",
    "private": "epochs by private communication from the model's authors, trained with another recipe",
    "twice": "counts a multiply-add as two operations, where the levels of ImageNet count it as one",
    "link": "the link to its analysis leads to the paper on ShuffleNet v2",
}
"""What is wrong with rows, or to be known before they are compared."""

NOTES = (
    "operations are 3 x forward x images; validation, optimizer, searches and failed runs are not counted",
    "levels are not on one scale: ImageNet's count a multiply-add as one operation, those of translation as two; "
    "compare within a level only",
    "every model was trained once; its smoother schedule of learning rates alone often gained 2 to 4 times",
)


class Level(NamedTuple):
    """A quality that models were trained to."""

    title: str
    published_ratio: float
    """By table 2 of the paper."""
    published_doubling_months: float
    operations_per_multiply_add: Literal[1, 2] = 1
    """Translation's levels were taken over from "AI and Compute", where it is two."""


LEVELS = {
    "AlexNet": Level("79.1 % top-5 on ImageNet", 44, 16),
    "ResNet-50": Level("92.9 % top-5 on ImageNet", 10, 17),
    "Seq2Seq": Level("34.8 BLEU on WMT-14 English to French", 61, 6, 2),
    "GNMT": Level("39.92 BLEU on WMT-14 English to French", 9, 4, 2),
}


def _date(value: Any) -> Any:
    """Of ISO 8601, or as the table writes it: 5/28/2019."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", value)
    try:
        if found is None:
            return datetime.date.fromisoformat(value)
        month, day, year = map(int, found.groups())
        return datetime.date(year, month, day)
    except ValueError:
        raise ValueError("expected a date as 5/28/2019 or 2019-05-28") from None


class EfficiencyRow(Model):
    """One model at one level."""

    level: Annotated[str, Field(min_length=1)]
    date: Annotated[datetime.date, BeforeValidator(_date)]
    model: Annotated[str, Field(min_length=1)]
    link: str = ""
    teraflops_s_days: Annotated[
        Decimal,
        Field(ge=LEAST_TERAFLOPS_S_DAYS, le=MOST_TERAFLOPS_S_DAYS),
        PlainSerializer(float, return_type=float, when_used="json"),
    ]
    """Training compute; whether a multiply-add is one operation or two depends on the level."""
    listed_ratio: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(blank_is_none)] = None
    """The level's first compute over this one, as the table gives it; blank in rows that others add."""
    analysis: str = ""
    analysis_link: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def operations_per_multiply_add(self) -> Literal[1, 2]:
        """How the compute was counted (appendix B of the paper)."""
        return LEVELS[self.level].operations_per_multiply_add if self.level in LEVELS else 1

    @computed_field  # type: ignore[prop-decorator]
    @property
    def train_flops(self) -> int:
        """Training operations with a multiply-add as two, as the kit counts."""
        with localcontext(EXACT):
            return round(self.teraflops_s_days * TERAFLOPS_S_DAY * 2 / self.operations_per_multiply_add)

    @property
    def published_date(self) -> str:
        """As the table writes it."""
        return f"{self.date.month}/{self.date.day}/{self.date.year}"

    @property
    def arxiv_month(self) -> tuple[int, int] | None:
        """Year and month of the arXiv number that the row links to."""
        found = re.search(r"arxiv\.org/abs/(\d\d)(\d\d)\.\d{4,5}", self.link)
        return (2000 + int(found[1]), int(found[2])) if found else None

    @property
    def faults(self) -> tuple[str, ...]:
        """Names of what is known of the published row, if this is one."""
        return _faults().get(self, ())


class PaperModel(Model):
    """A model of the paper's own comparison at AlexNet's level; which of them were records is in the table."""

    model: str
    printed: float
    """As the paper prints it under teraflop/s-days: 1e15 operations."""
    epochs: int
    gmac_per_image: float
    """Forward, 1e9 multiply-adds of one operation each."""

    @property
    def teraflops_s_days(self) -> float:
        """3 x forward x images, in the unit that the paper means."""
        return PASSES * self.epochs * self.gmac_per_image * 1e9 * IMAGES / TERAFLOPS_S_DAY


def ai_and_efficiency() -> tuple[EfficiencyRow, ...]:
    """The published table, by level and date."""
    return tuple(_faults())


@cache
def ai_and_efficiency_models() -> tuple[PaperModel, ...]:
    """The 16 models of the paper's appendix B."""
    found = models(read_table(MODELS_FILE), PaperModel)
    assert not found.refused, found.refused
    return found.rows


def efficiency_rows(table: Table) -> Imported[EfficiencyRow]:
    """The rows of a file with the published file's columns.

    Raises:
        KitError: A column is missing, or there twice.
    """
    return models(table, EfficiencyRow, COLUMNS)


@cache
def _faults() -> dict[EfficiencyRow, tuple[str, ...]]:
    table = read_table(ROWS_FILE)
    found = efficiency_rows(table)
    assert not found.refused, found.refused
    faults = (cells[table.columns.index("faults")] for _, cells in table.rows)
    return {row: tuple(filter(None, names.split(";"))) for row, names in zip(found.rows, faults, strict=True)}
