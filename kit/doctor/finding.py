"""What one check found."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from kit.errors import escaped
from kit.track import Model

Status = Literal["ok", "warning", "missing"]
"""`warning`: it works, but not as a measurement needs it, or nobody could tell. `missing`: it does not work."""


def _in_one_line(text: str) -> str:
    """Others' words (process names, error messages) neither break the table nor reach the terminal's controls."""
    return escaped(" ".join(text.split()))


Line = Annotated[str, AfterValidator(_in_one_line)]


class Finding(Model):
    """One row of the doctor's table."""

    name: str
    status: Status
    found: Line
    advice: Line | None
    """What to do about it; None where all is well."""


def ok(name: str, found: str) -> Finding:
    """It works."""
    return Finding(name=name, status="ok", found=found, advice=None)


def warning(name: str, found: str, advice: str) -> Finding:
    """It works with a reservation, or it is not known whether it does."""
    return Finding(name=name, status="warning", found=found, advice=advice)


def missing(name: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(name=name, status="missing", found=found, advice=advice)
