"""A run as a row of the table of "AI and Efficiency" (`kit.results.published.ai_and_efficiency`)."""

from decimal import Decimal, localcontext

from pydantic import ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.published.ai_and_efficiency import COLUMNS, EXACT, TERAFLOPS_S_DAY, EfficiencyRow
from kit.results.record import Record
from kit.results.table import as_csv

LEVEL_OF_TARGET = {("imagenet", "top5", 0.791): "AlexNet"}
"""What the table calls the target of a track; one that it does not have is called as its track."""


def efficiency_csv(record: Record) -> str:
    """The row, below the table's header.

    The record's training operations (forward, backward and optimizer as executed, evaluation apart) are halved: a
    multiply-add is one operation there. Left blank: links, and the reduction factor, which takes a baseline.

    Raises:
        KitError: The run has no operations to a target that may be compared.
    """
    because = record.flops.not_rated_because
    if record.outcome != "reached":
        because = f"the target was not reached: {record.outcome}, {record.reason or 'no reason given'}"
    if because is None and not record.flops.train_total:
        because = "the count is 0"
    if because is not None:
        raise KitError(f"record {record.id} has no training compute that may be compared: {because}")
    with localcontext(EXACT):
        compute = Decimal(record.flops.train_total or 0) / (2 * TERAFLOPS_S_DAY)
    track = record.track
    try:
        row = EfficiencyRow.model_validate(
            {
                "level": LEVEL_OF_TARGET.get((track.dataset, track.metric, track.target), track.name),
                "date": record.submission.date,
                "model": record.submission.name,
                "teraflops_s_days": compute,
                "analysis": f"counted by kit {record.kit_version}, record {record.id}",
            }
        )
    except ValidationError as error:
        raise KitError(f"record {record.id} is no row of that table: {first_problem(error)}") from error
    return as_csv(COLUMNS | {"Publication Date": "published_date"}, [row])
