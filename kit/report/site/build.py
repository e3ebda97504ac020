"""`kit site`: from a folder of results to a folder of pages. The same results give the same bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from kit.analysis.board import make_board
from kit.analysis.material import LeftOut, read_material
from kit.report.csv_text import csv_text
from kit.report.site.content import TrackContent, read_profiles, tracks
from kit.report.site.devices import write_devices
from kit.report.site.downloads import json_bytes
from kit.report.site.entries import Surroundings, write_entry
from kit.report.site.folder import Folder, whole_folder
from kit.report.site.progress import write_progress
from kit.report.site.render import render
from kit.report.site.tracks import write_track

ASSETS = Path(__file__).with_name("assets")
PLOTLY = "plotly.min.js"
MAX_LEFT_OUT = 2000
"""Rows of the page of what was left out; the downloads have all."""


@dataclass(frozen=True)
class Built:
    """What a site holds."""

    tracks: int
    entries: int
    files: int
    left_out: int


def build_site(results_dir: Path, output: Path, names: Mapping[str, str] | None = None) -> Built:
    """Write the site of a folder of results, whole or not at all.

    Args:
        results_dir: Results.
        output: A folder that is new, empty or an earlier site.
        names: Of the reader's trusted keys.

    Raises:
        KitError: There are no results, or `output` holds something else or cannot be written.
    """
    with whole_folder(output) as folder:
        material = read_material(results_dir)
        board = make_board(material, names=names)
        profiles, unreadable = read_profiles(results_dir, (run.folder for run in material.runs))
        left_out = sorted([*board.left_out, *unreadable], key=lambda item: (item.file, item.because))
        found = tracks(board)
        around = Surroundings(results_dir, profiles)
        for track in found:
            write_track(folder, results_dir, board, track)
            for place in track.places:
                write_entry(folder, around, track, place)
        write_devices(folder, profiles, material.drifts)
        write_progress(folder, material)
        _write_left_out(folder, left_out, board.unofficial)
        _write_index(folder, found, len(left_out), board.unofficial)
        _write_assets(folder)
    return Built(len(found), sum(len(track.places) for track in found), len(folder.names), len(left_out))


def _write_index(folder: Folder, found: tuple[TrackContent, ...], left_out: int, unofficial: int) -> None:
    entries = [place for track in found for place in track.places]
    page = render(
        "index.html",
        0,
        tracks=found,
        runs=sum(place.row.entry.runs for place in entries),
        entries=len(entries),
        left_out=left_out,
        unofficial=unofficial,
    )
    folder.write("index.html", page)


def _write_left_out(folder: Folder, left_out: list[LeftOut], unofficial: int) -> None:
    page = render("left_out.html", 0, left_out=left_out, shown=left_out[:MAX_LEFT_OUT], unofficial=unofficial)
    folder.write("left-out.html", page)
    folder.write("left-out.csv", csv_text(("file", "because"), ((item.file, item.because) for item in left_out)))
    folder.write("left-out.json", json_bytes(left_out))


def _write_assets(folder: Folder) -> None:
    for path in sorted(ASSETS.iterdir()):
        folder.write(f"assets/{path.name}", path.read_bytes())
    plotly = resources.files("plotly") / "package_data" / PLOTLY
    folder.write(f"assets/{PLOTLY}", plotly.read_bytes())
