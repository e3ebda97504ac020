"""What a check finds."""

from typing import Literal

from kit.errors import escaped
from kit.track import Model

MAX_SAID = 400
"""Characters of a message."""
Severity = Literal["error", "flag"]
"""An error keeps a submission from being packed or from running. A flag is for people: it needs a look, and may be
fine."""


class Problem(Model):
    """One thing that is wrong, or that somebody should look at."""

    severity: Severity
    where: str
    """`submission.py:12`, or what is meant where it is no line of a file."""
    what: str
    fix: str


def error(where: str, what: str, fix: str) -> Problem:
    """It has to be changed."""
    return Problem(severity="error", where=printable(where), what=printable(what), fix=printable(fix))


def flag(where: str, what: str, fix: str) -> Problem:
    """Somebody should look at it."""
    return Problem(severity="flag", where=printable(where), what=printable(what), fix=printable(fix))


def printable(text: str) -> str:
    """One line without what a terminal would obey: names and messages come from strangers."""
    line = escaped(" ".join(text.split()))
    return line if len(line) <= MAX_SAID else f"{line[: MAX_SAID - 4]} ..."
