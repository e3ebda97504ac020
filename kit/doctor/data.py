"""Which tracks have their data."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kit.data.prepared import read
from kit.doctor.finding import Finding, missing, ok, warning
from kit.errors import KitError
from kit.report.datasets import DataState, states
from kit.track import Track


def prepared_data(tracks: Iterable[Track], data_dir: Path) -> Iterator[Finding]:
    """A row per dataset. Arrays are read again; of shards, which can be 150 GB, only the sizes are compared."""
    by_dataset: dict[str, list[DataState]] = {}
    for state in states(tracks, data_dir):
        by_dataset.setdefault(state.dataset, []).append(state)
    for dataset, found in by_dataset.items():
        yield _dataset(f"data {dataset}", found)


def _dataset(name: str, found: list[DataState]) -> Finding:
    tracks = ", ".join(state.track for state in found)
    state = next((state for state in found if state.problem is not None), found[0])
    again = f"kit data prepare {state.track}"
    match state.state:
        case "absent":
            return missing(name, f"not prepared, for {tracks}", f"{again} prepares it, or says what it needs")
        case "interrupted":
            return missing(name, f"half prepared, for {tracks}", f"{again} goes on where it stopped")
        case "damaged" | "other":
            return warning(name, state.problem or state.state, f"remove {state.path}, then {again}")
    try:
        read(state.path).verify(shards=False)
    except KitError as error:
        return warning(name, str(error), f"remove {state.path}, then {again}")
    return ok(name, f"prepared, {(state.total_bytes or 0) / 1e6:,.1f} MB, for {tracks}")
