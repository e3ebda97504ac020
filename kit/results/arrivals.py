"""Records that appear in a folder of results, each read once."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from kit.errors import KitError
from kit.results.record import Record
from kit.results.store import RECORD_FILE, read_record


class Arrivals:
    """What came since the last look.

    Args:
        results_dir: Need not be there yet.
        known: Names of runs' folders that are no news; by default those that are there.
    """

    def __init__(self, results_dir: Path, known: Collection[str] | None = None) -> None:
        self._results_dir = results_dir
        self._known = set(self._names() if known is None else known)

    def look(self) -> Iterator[tuple[Path, Record]]:
        """Every run whose record can be read now and could not before."""
        for name in self._names():
            folder = self._results_dir / name
            if name in self._known or name.startswith(".") or not os.path.lexists(folder / RECORD_FILE):
                continue
            try:
                record = read_record(folder)
            except KitError:
                continue
            self._known.add(name)
            yield folder, record

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._results_dir))
        except FileNotFoundError:
            return []
