"""The source that ran, as pages show it: coloured where that is safe, named where it is not text."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup

from kit.errors import KitError, without_place
from kit.protocol import printable
from kit.results.source import digest
from kit.results.store import SOURCE_DIR, read_plain

MAX_FILES = 40
MAX_BYTES = 256 << 10
"""Of one file; a longer one is shown to this length."""
MAX_READ_BYTES = 16 << 20
"""Of all files together, to see whether they are what ran."""
LEXERS = {".py": "PythonLexer", ".yaml": "YamlLexer", ".yml": "YamlLexer", ".json": "JsonLexer", ".toml": "TOMLLexer"}
FIRST = ("submission.py", "submission.yaml")


@dataclass(frozen=True)
class SourceFile:
    """One file of a submission."""

    name: str
    bytes: int
    html: Markup | None
    """None of what is no text."""
    note: str | None


@dataclass(frozen=True)
class Source:
    """A submission's files."""

    files: tuple[SourceFile, ...]
    warning: str | None
    """Why what is shown may not be what ran."""


def read_source(run_dir: Path, sha256: str) -> Source:
    """Read a run's copy of its submission. Never follows a link, and never fails.

    Args:
        run_dir: The run's folder.
        sha256: What the record says that ran.
    """
    try:
        contents, strange = _contents(run_dir / SOURCE_DIR)
    except OSError as error:
        return Source((), f"the source cannot be read: {error.strerror}")
    if not contents and not strange:
        return Source((), "the run's folder holds no copy of the source")
    warning = None
    if strange:
        warning = f"{strange[0]}: neither shown nor compared with what ran"
    elif digest(contents) != sha256:
        warning = "these files are not those that ran: their hash is another than the record's"
    ordered = sorted(contents, key=lambda name: (name not in FIRST, FIRST.index(name) if name in FIRST else 0, name))
    shown = tuple(_shown(name, contents[name]) for name in ordered[:MAX_FILES])
    if len(ordered) > MAX_FILES:
        warning = f"{warning + '; ' if warning else ''}{len(ordered) - MAX_FILES} more files are not shown"
    return Source(shown, warning)


def _contents(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Plain files by their names, and why others are not read."""
    contents: dict[str, bytes] = {}
    strange: list[str] = []
    budget = MAX_READ_BYTES
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            contents[name] = read_plain(path, budget)
            name.encode()
        except UnicodeEncodeError:
            del contents[name]
            strange.append(f"{name!a} is not a name in UTF-8")
        except KitError as error:
            strange.append(without_place(error, f"{folder}/"))
        else:
            budget -= len(contents[name])
    return contents, strange


def _files(folder: Path) -> list[Path]:
    """Files that count as a submission's, by name: caches and hidden ones aside."""
    found: list[Path] = []
    folders = [folder]
    while folders:  # which may lie in each other deeper than calls may
        for path in folders.pop().iterdir():
            if path.name == "__pycache__" or path.name.startswith("."):
                continue
            (folders if path.is_dir() and not path.is_symlink() else found).append(path)
    return sorted(found)


@lru_cache(maxsize=256)  # the runs of many entries have files in common
def _shown(name: str, content: bytes) -> SourceFile:
    try:
        text = content[:MAX_BYTES].decode("utf-8", "strict" if len(content) <= MAX_BYTES else "ignore")
    except UnicodeDecodeError:
        return SourceFile(name, len(content), None, "no text, and not shown")
    note = f"shown to {MAX_BYTES >> 10} KiB" if len(content) > MAX_BYTES else None
    return SourceFile(name, len(content), _coloured(name, printable(text.replace("\r\n", "\n"))), note)


def _coloured(name: str, text: str) -> Markup:
    """The text with its tokens in spans: pygments escapes everything else."""
    from pygments import highlight, lexers  # type: ignore[import-untyped]
    from pygments.formatters import HtmlFormatter  # type: ignore[import-untyped]

    lexer = getattr(lexers, LEXERS.get(Path(name).suffix, "TextLexer"))(stripnl=False)
    html: str = highlight(text, lexer, HtmlFormatter(nowrap=True, classprefix="t-"))
    return Markup(html)
