"""The tree of processes, as Linux tells it: cheap enough to look at during a run, however many processes there are."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`, parents before their children."""
    above = [pid]
    while above:
        for child in _children(above.pop()):
            yield child
            above.append(child)


def _children(pid: int) -> list[int]:
    found = []
    with suppress(OSError):  # it ended while we looked
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):  # a thread, and the others are still there
                found += [int(child) for child in (task / "children").read_text().split()]
    return found
