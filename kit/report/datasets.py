"""Tracks with the state of their data, as a table or as JSON."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from kit.data.prepared import MANIFEST_FILE, read
from kit.errors import KitError
from kit.track import Model, Track


class DataState(Model):
    """A track and what there is of its data."""

    track: str
    title: str
    dataset: str
    state: Literal["prepared", "interrupted", "absent", "damaged", "other"]
    """`other` is data that the track refuses: of another fingerprint, or a rehearsal's."""
    path: Path
    total_bytes: int | None = None
    fingerprint: str | None = None
    rehearsal: bool | None = None
    problem: str | None = None


def states(tracks: Iterable[Track], data_dir: Path) -> list[DataState]:
    """Look, without reading the data itself."""
    return [_state(track, data_dir) for track in tracks]


def _state(track: Track, data_dir: Path) -> DataState:
    root = data_dir / track.dataset
    found = DataState(track=track.name, title=track.title, dataset=track.dataset, state="absent", path=root)
    if not (root / MANIFEST_FILE).exists():
        partial = root.with_name(f".{track.dataset}.partial").is_dir()
        return found.model_copy(update={"state": "interrupted"}) if partial else found
    try:
        prepared = read(root)
    except KitError as error:
        return found.model_copy(update={"state": "damaged", "problem": str(error)})
    refused = prepared.refusal(track)
    return found.model_copy(
        update={
            "state": "prepared" if refused is None else "other",
            "total_bytes": prepared.total_bytes,
            "fingerprint": prepared.fingerprint,
            "rehearsal": prepared.rehearsal,
            "problem": refused,
        }
    )


def as_json(found: list[DataState]) -> str:
    """A list of objects."""
    return TypeAdapter(list[DataState]).dump_json(found, indent=2).decode()


def print_states(found: list[DataState], console: Console) -> None:
    """One row per track, then what is wrong where something is."""
    table = Table(box=None, pad_edge=False)
    for heading in ("track", "what", "data", "state", "size", "fingerprint"):
        table.add_column(heading, justify="right" if heading == "size" else "left", no_wrap=heading != "what")
    for row in found:
        size = "" if row.total_bytes is None else f"{row.total_bytes / 1e6:,.1f} MB"
        state = f"{row.state} (rehearsal)" if row.rehearsal else row.state
        table.add_row(row.track, row.title, row.dataset, state, size, (row.fingerprint or "")[:12])
    console.print(table)
    for problem in dict.fromkeys(row.problem for row in found if row.problem):
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    if any(row.state in ("absent", "interrupted") for row in found):
        console.print("kit data prepare TRACK prepares what is not there", highlight=False)
