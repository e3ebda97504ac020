"""A folder that is written whole or not at all, and that holds nothing but what was written by this module."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from kit.errors import KitError

MARK_FILE = "kit-site.txt"
"""Lists the files of a site, below a first line that says whose it is."""
MARK = "Written by kit site, with all files below; the next kit site replaces them."


class Folder:
    """A folder being written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, str] = {}

    def write(self, name: str, content: str | bytes) -> None:
        """Add one file.

        Args:
            name: Below the folder, with `/` between parts.
            content: Text is written as UTF-8.

        Raises:
            KitError: The disk is full, or the like.
        """
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or parts[0] == "/" or ".." in parts:
            raise ValueError(f"not a name below the site: {name!r}")
        if name.lower() in self._names:
            raise ValueError(f"written twice, where case does not count: {name!r}")
        self._names[name.lower()] = name
        path = self._root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        except OSError as error:
            raise KitError(f"cannot write {name} of the site: {error.strerror}") from error

    @property
    def names(self) -> list[str]:
        """What was written, sorted."""
        return sorted(self._names.values())


@contextmanager
def whole_folder(output: Path) -> Iterator[Folder]:
    """Gives a folder to write into; it takes the place of `output` when all is written, and leaves nothing otherwise.

    Raises:
        KitError: `output` holds something that is not a site's, or cannot be written.
    """
    target = Path(os.path.realpath(output))
    _require_replaceable(target, output)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise KitError(f"{output}: cannot write a site here: {error.strerror}") from error
    try:
        new = beside / "new"
        new.mkdir()
        folder = Folder(new)
        yield folder
        folder.write(MARK_FILE, "\n".join([MARK, *folder.names]) + "\n")
        _require_replaceable(target, output)  # somebody may have put something there meanwhile
        try:
            _take_place(new, target, beside / "old")
        except OSError as error:
            raise KitError(f"{output}: cannot put the site in its place: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _take_place(new: Path, target: Path, aside: Path) -> None:
    if not target.exists():
        os.rename(new, target)
        return
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except BaseException:
        os.rename(aside, target)
        raise


def _require_replaceable(target: Path, output: Path) -> None:
    """Refuse what would be lost."""
    try:
        if not os.path.lexists(target):
            return
        if not target.is_dir():
            raise KitError(f"{output}: this is a file; give a folder for the site")
        found = {
            (Path(folder) / name).relative_to(target).as_posix()
            for folder, folders, names in os.walk(target)
            for name in (*names, *(name for name in folders if (Path(folder) / name).is_symlink()))
        }
        if not found and not any(target.iterdir()):
            return
        mark = target / MARK_FILE
        lines = mark.read_text(encoding="utf-8", errors="replace").splitlines() if mark.is_file() else []
    except OSError as error:
        raise KitError(f"{output}: {error.strerror}") from error
    if not lines or lines[0] != MARK:
        raise KitError(f"{output}: there is something here that kit site did not write; give an empty or new folder")
    strange = sorted(found - {*lines[1:], MARK_FILE})
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise KitError(
            f"{output}: {strange[0]}{more} would be lost, which kit site did not write; "
            "move it away, or give another folder"
        )
