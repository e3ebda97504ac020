"""What an import found: the table to a file or to standard output, and remarks to standard error."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from kit.results.imported import Imported, write_text
from kit.results.table import as_csv
from kit.track import Model

RowT = TypeVar("RowT", bound=Model)


def tell(found: Imported[RowT], columns: Mapping[str, str], output: Path | None, *, as_json: bool) -> int:
    """Print and write.

    Args:
        found: What was imported.
        columns: Of the table, with the field of each.
        output: Where the table goes; None is standard output, where JSON does not go there.
        as_json: Whether everything is printed as JSON.

    Returns:
        The status to exit with: 1 where something was refused.

    Raises:
        KitError: The table cannot be written.
    """
    table = as_csv(columns, found.rows)
    if output is not None:
        write_text(output, table)
    if as_json:
        print(found.model_dump_json(indent=2))
    elif output is None:
        print(table, end="")
    for remark in found.notes:
        print(f"note: {remark}", file=sys.stderr)
    for remark in found.refused:
        print(f"refused: {remark}", file=sys.stderr)
    if output is not None and not as_json:
        refused = f", {len(found.refused)} refused" if found.refused else ""
        print(f"{output}: {len(found.rows)} rows{refused}")
    return 1 if found.refused else 0
