"""The files of a submission: which there may be, and reading them without following anything out of the folder."""

import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from kit.errors import KitError
from kit.submission.manifest import MANIFEST_FILE, SOURCE_FILE
from kit.submission.problem import Problem, error, flag

MAX_BYTES = 1 << 20
"""Of all files together."""
MAX_FILES = 100
MAX_NAME = 120
"""Characters of a file's path."""
SUFFIXES = (".py", ".yaml", ".md", ".txt")
PLAIN_NAMES = ("LICENSE",)
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
NEEDED = {MANIFEST_FILE: "who, what and for which tracks", SOURCE_FILE: "setup(run) and train(run, state)"}
LEFT_OUT = "__pycache__"
RENAME = "name it with the letters a to z, digits, '_', '-' and '.'"
KINDS = {
    stat.S_IFLNK: ("a link", "put the file itself here"),
    stat.S_IFIFO: ("a pipe", "remove it"),
    stat.S_IFSOCK: ("a socket", "remove it"),
    stat.S_IFBLK: ("a device", "remove it"),
    stat.S_IFCHR: ("a device", "remove it"),
}


def collect(folder: Path) -> tuple[dict[str, bytes], list[Problem]]:
    """Read a submission's files.

    Returns:
        Content by path below the folder, and what is wrong with the folder. Where there is too much, the rest is not
        read.

    Raises:
        KitError: The folder cannot be read.
    """
    found: dict[str, bytes] = {}
    problems: list[Problem] = []
    left = MAX_BYTES
    try:
        entries = _walk(folder)
        for name, entry in entries:
            kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
            if entry.name.startswith("."):
                what = "hidden: it is left out of packs and runs"
                problems.append(flag(name, what, "remove it, or give it a name without the dot if it is needed"))
            elif kind in KINDS:
                problems.append(error(name, f"{KINDS[kind][0]}, not a file", KINDS[kind][1]))
            elif len(found) == MAX_FILES:
                problems.append(error(str(folder), f"more than {MAX_FILES} files", "keep what the submission needs"))
                break
            else:
                content = _read(Path(entry.path), left + 1)
                if len(content) > left:
                    what = f"more than {MAX_BYTES:,} bytes in all"
                    problems.append(error(name, what, "a submission is text: keep data, weights and logs elsewhere"))
                    break
                left -= len(content)
                found[name] = content
    except OSError as failure:
        raise KitError(f"{failure.filename or folder}: {failure.strerror}") from failure
    return found, [*problems, *name_problems(found), *missing({name for name, _ in entries})]


def _walk(folder: Path) -> "list[tuple[str, os.DirEntry[str]]]":
    """Everything below, what must be there first, without following links; hidden folders are not looked into."""
    found: list[tuple[str, os.DirEntry[str]]] = []
    waiting = [(folder, "")]
    while waiting and len(found) <= 10 * MAX_FILES:
        where, below = waiting.pop()
        with os.scandir(where) as entries:
            for entry in entries:
                name = f"{below}{entry.name}"
                if not entry.is_dir(follow_symlinks=False) or entry.name.startswith("."):
                    found.append((name, entry))
                elif entry.name != LEFT_OUT:
                    waiting.append((Path(entry.path), f"{name}/"))
                if len(found) > 10 * MAX_FILES:
                    break
    return sorted(found, key=lambda item: (item[0] not in NEEDED, item[0].split("/")))


def _read(path: Path, at_most: int) -> bytes:
    """The beginning of a file that is no link; one that became a pipe meanwhile does not block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(at_most)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)


def name_problems(names: Collection[str]) -> list[Problem]:
    """What is wrong with paths of files, whether they lie in a folder or in a pack."""
    problems = []
    seen: dict[str, str] = {}
    for name in sorted(names):
        parts = name.split("/")
        suffix = Path(name).suffix
        if len(name) > MAX_NAME:
            problems.append(error(f"{name[:40]}...", f"a path of {len(name)} characters", f"use {MAX_NAME} at most"))
        elif not all(PART.fullmatch(part) for part in parts):
            problems.append(error(name, "a name that does not mean the same on every machine", RENAME))
        elif suffix not in SUFFIXES and parts[-1] not in PLAIN_NAMES:
            allowed = ", ".join((*SUFFIXES, *PLAIN_NAMES))
            problems.append(error(name, "not a kind of file that a submission holds", f"allowed: {allowed}; remove it"))
        elif (other := seen.setdefault(name.casefold(), name)) != name:
            problems.append(error(name, f"the same name as {other} where case does not count", "rename one of them"))
    return problems


def missing(names: Collection[str]) -> list[Problem]:
    """The files that every submission has."""
    fix = "kit new writes one that works"
    return [error(name, f"is missing: {what}", fix) for name, what in NEEDED.items() if name not in names]
