"""`kit check`: every problem of a submission or a pack, in one list."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import computed_field

from kit.catalog import load_track, track_names
from kit.errors import KitError
from kit.submission.files import write_files
from kit.submission.manifest import MANIFEST_FILE, Manifest
from kit.submission.pack import read_pack
from kit.submission.problem import Problem, error, flag
from kit.submission.smoke import SmokeRun, smoke_run
from kit.submission.static import Examined, examine, examine_folder
from kit.track import Model, Track


class Checked(Model):
    """What a check found."""

    path: Path
    name: str | None
    """None where the manifest cannot be read."""
    files: int
    bytes: int
    problems: tuple[Problem, ...]
    """Errors first."""
    smoke_runs: tuple[SmokeRun, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def passed(self) -> bool:
        """Whether there is no error; flags are for people."""
        return all(problem.severity != "error" for problem in self.problems)


def check(path: Path, *, track: str | None, data_dir: Path, tell: Callable[[str], None] = lambda what: None) -> Checked:
    """Look at a submission without running it, then try it on random data, one run per data set that it enters.

    Args:
        path: A submission's folder, or a pack.
        track: Try this one alone; a name, or a track file.
        data_dir: Where prepared data may lie.
        tell: Told what is tried.

    Raises:
        KitError: There is nothing at `path`, or no such track.
    """
    asked = None if track is None else load_track(track)
    if not path.exists():
        raise KitError(f"{path}: there is nothing here; expected a submission's folder or a pack")
    tracks = [*track_names(), *([] if asked is None else [asked.name])]
    examined = examine_folder(path, tracks) if path.is_dir() else _examine_pack(path, tracks)
    problems, runs = list(examined.problems), []
    if examined.manifest is not None and examined.runs:
        for found, tried in _try(examined, examined.manifest, asked, data_dir, sealed=not path.is_dir(), tell=tell):
            problems += found
            runs += tried
    return Checked(
        path=path,
        name=None if examined.manifest is None else examined.manifest.name,
        files=len(examined.files),
        bytes=sum(map(len, examined.files.values())),
        problems=tuple(sorted(problems, key=lambda problem: problem.severity != "error")),
        smoke_runs=tuple(runs),
    )


def _examine_pack(path: Path, tracks: Sequence[str]) -> Examined:
    try:
        return examine(read_pack(path).files, [], tracks)
    except KitError as refused:
        what = str(refused).removeprefix(f"{path}: ")
        return Examined({}, (error(path.name, what, "pack the submission again: kit pack"),), None, False)


def _try(
    examined: Examined,
    manifest: Manifest,
    asked: Track | None,
    data_dir: Path,
    *,
    sealed: bool,
    tell: Callable[[str], None],
) -> Iterator[tuple[list[Problem], list[SmokeRun]]]:
    if asked is not None and asked.name not in manifest.tracks:
        what = f"tracks: enters {', '.join(manifest.tracks)}, not {asked.name}"
        yield [error(MANIFEST_FILE, what, f"add {asked.name} to tracks, or check it on another")], []
        return
    by_data_set: dict[str, Track] = {}
    for track in [load_track(name) for name in manifest.tracks if name in track_names()] if asked is None else [asked]:
        by_data_set.setdefault(track.dataset, track)
    with tempfile.TemporaryDirectory(prefix="kit-check-") as scratch:
        folder = Path(scratch)
        write_files(examined.files, folder)  # as out of a pack, and nothing beside it
        for track in by_data_set.values():
            tell(f"it on {track.name}, by a short run")
            try:
                run, problems = smoke_run(folder, manifest, track, data_dir, sealed=sealed)
            except KitError as failure:
                yield [flag(track.name, f"no smoke run: {failure}", "mend that, then check again")], []
            else:
                yield problems, [run]
