"""Histories by their names."""

from pathlib import Path

from kit.analysis.history import History
from kit.analysis.progress import By
from kit.analysis.published_history import history_of_dawnbench, history_of_efficiency, paper_models
from kit.analysis.results_history import history_of_results
from kit.errors import KitError
from kit.results.published import ai_and_efficiency as efficiency
from kit.results.published import dawnbench as dawn
from kit.results.table import models, read_table

EFFICIENCY = "ai-and-efficiency"
DAWNBENCH = {f"dawnbench-{task.dataset}": name for name, task in dawn.TASKS.items()}
TABLES = (EFFICIENCY, *DAWNBENCH)


def history_named(name: str, by: By | None = None) -> History:
    """The history that a person means.

    Args:
        name: One of `TABLES`, a table's file (.csv), or a folder of results.
        by: What a result costs; default: operations, and for DAWNBench time.

    Raises:
        KitError: There is nothing of that name, it cannot be read, or it does not know such a cost.
    """
    if name == EFFICIENCY:
        history = history_of_efficiency(name, efficiency.ai_and_efficiency(), (), by)
        return history.model_copy(update={"source": efficiency.SOURCE, "models": paper_models()})
    if name in DAWNBENCH:
        history = history_of_dawnbench(
            name, [entry for entry in dawn.dawnbench() if entry.task == DAWNBENCH[name]], (), by
        )
        return history.model_copy(update={"source": dawn.SOURCE})
    path = Path(name)
    if path.is_dir():
        return history_of_results(path, by or "flops")
    if path.suffix.lower() != ".csv":
        raise KitError(
            f"{name}: expected {', '.join(TABLES)}, a table (.csv) or a folder of results, and there is no such folder"
        )
    table = read_table(path)
    if "metric" in table.columns:
        rows = efficiency.efficiency_rows(table)
        return history_of_efficiency(name, rows.rows, rows.refused, by)
    if "task" in table.columns:
        entries = models(table, dawn.DawnbenchEntry)
        return history_of_dawnbench(name, entries.rows, entries.refused, by)
    known = " or ".join(", ".join(columns) for columns in (efficiency.COLUMNS, dawn.DawnbenchEntry.model_fields))
    raise KitError(f"{name}: expected a table with the columns {known}")
