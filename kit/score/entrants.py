"""What races: packs, or submission folders, opened and checked before the first run."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kit.errors import KitError
from kit.results.record import SubmissionInfo
from kit.submission import manifest
from kit.submission.pack import read_pack, unpack
from kit.submission.static import examine
from kit.track import Track


@dataclass(frozen=True)
class Entrant:
    """A submission that may race on the track."""

    folder: Path
    info: SubmissionInfo
    pack_sha256: str | None
    """None of a folder."""
    path: Path
    """Where it came from: a pack or a folder."""


def open_entrants(paths: Sequence[Path], track: Track, scratch: Path, refuse: Callable[[str], None]) -> list[Entrant]:
    """Every submission that can race; why another cannot is told to `refuse`, and stops nobody else.

    Args:
        paths: Packs and folders.
        track: What is raced.
        scratch: An empty folder that packs are unpacked into.
        refuse: Told one line for each that is left out.

    Raises:
        KitError: None can race.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    entrants: dict[str, Entrant] = {}
    for number, path in enumerate(paths):
        try:
            entrant = open_entrant(path, track, scratch / str(number))
        except KitError as error:
            refuse(str(error))
            continue
        known = entrants.setdefault(entrant.info.source_sha256, entrant)
        if known is not entrant:
            refuse(f"{path}: the same submission as one before; it races once")
    if not entrants:
        raise KitError("none of the submissions can race")
    return list(entrants.values())


def open_entrant(path: Path, track: Track, target: Path) -> Entrant:
    """One submission that can race.

    Raises:
        KitError: It cannot; `open_submission` says why, or it does not enter the track.
    """
    folder, pack_sha256 = open_submission(path, target)
    submission = manifest.load(folder)
    if track.name not in submission.tracks:
        raise KitError(
            f"{path}: submission '{submission.name}' enters {', '.join(submission.tracks)}, not track '{track.name}'"
        )
    info = manifest.describe(folder, submission, submission.config)
    return Entrant(folder, info, pack_sha256, path.absolute())


def open_submission(path: Path, target: Path) -> tuple[Path, str | None]:
    """The folder of a submission, and the hash of its pack where it came in one.

    Args:
        path: A pack, or a folder.
        target: Where it is unpacked or copied to: what is changed during the scoring changes nothing of it.

    Raises:
        KitError: It is neither, the pack is not as it was packed, or `kit check` finds an error in it.
    """
    if path.is_dir():
        _copy(path, target)
        return target, None
    packed = read_pack(path)
    # `kit pack` packs nothing that the check refuses, but packs can be written by hand.
    for problem in examine(packed.files, [], packed.manifest.tracks).problems:
        if problem.severity == "error":
            raise KitError(f"{path}: {problem.where}: {problem.what}; see kit check")
    return unpack(packed, target), packed.sha256


def _copy(folder: Path, target: Path) -> None:
    try:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    except shutil.Error as error:
        (source, _, why), *_ = error.args[0]
        raise KitError(f"{source}: {why}") from None
    except OSError as error:
        raise KitError(f"{error.filename or folder}: {error.strerror}") from error
