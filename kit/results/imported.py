"""What an importer gives: rows, what could not be read and where, and what was read as something else than it says."""

import io
import os
import stat
from pathlib import Path
from typing import Generic, TypeVar

from kit.errors import KitError, escaped
from kit.track import Model

MAX_FILE_BYTES = 16 << 20
"""Of a table or a description; a million evaluations fit."""
MAX_SAID = 200
"""Characters of a stranger's text in a message."""

RowT = TypeVar("RowT", bound=Model)


class Remark(Model):
    """Something about a file."""

    file: str
    line: int | None
    """Counted from 1; None where it is about the whole file."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}" if self.line is None else f"{self.file}:{self.line}: {self.what}"


class Imported(Model, Generic[RowT]):
    """What was found."""

    rows: tuple[RowT, ...]
    refused: tuple[Remark, ...]
    """Files and rows that are not in it."""
    notes: tuple[Remark, ...]
    """Where something was read other than as it stands, or left out as another kind of result."""


class UnreadableError(Exception):
    """Why a file, or a line of it, cannot be read."""

    def __init__(self, because: str, line: int | None = None) -> None:
        super().__init__(shortened(because))
        self.line = line


class Reading:
    """The remarks on one import as they come; files are called as they lie below the place that was asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: list[Remark] = []
        self.notes: list[Remark] = []

    def refuse(self, path: Path, because: str, line: int | None = None) -> None:
        """Tell what is not imported."""
        self.refused.append(self._remark(path, because, line))

    def note(self, path: Path, what: str, line: int | None = None) -> None:
        """Tell what the reader of the rows should know."""
        self.notes.append(self._remark(path, what, line))

    def name(self, path: Path) -> str:
        """How a file is called."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _remark(self, path: Path, what: str, line: int | None) -> Remark:
        return Remark(file=escaped(self.name(path)), line=line, what=shortened(what))


def shortened(text: str) -> str:
    """A stranger's words in one line that can be read."""
    text = escaped(text)
    return text if len(text) <= MAX_SAID else f"{text[: MAX_SAID - 4]} ..."


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file, and nothing that only looks like one.

    Raises:
        UnreadableError: It is none, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to must not hold us up
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnreadableError("not a file")
        return os.fdopen(descriptor, "rb")
    except OSError as error:
        raise UnreadableError(error.strerror or "cannot be read") from error


def read_text(path: Path) -> str:
    """The text of a small file, whatever ends its lines, without a byte-order mark.

    Raises:
        UnreadableError: It is too large, or no UTF-8.
    """
    with open_regular(path) as file:
        try:
            data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise UnreadableError(error.strerror or "cannot be read") from error
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableError(f"larger than {MAX_FILE_BYTES >> 20} MiB, which no such file is")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"not UTF-8: byte {data[error.start]:#04x}; save it as UTF-8", line) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_text(path: Path, text: str) -> None:
    """Write a new file, or one that says the same already.

    Raises:
        KitError: There is another one, or it cannot be written.
    """
    try:
        if path.exists() and path.read_bytes() != text.encode():
            raise KitError(f"{path}: is there already, and says something else; remove it or give another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    except OSError as error:
        raise KitError(f"cannot write {path}: {error.strerror}") from error
