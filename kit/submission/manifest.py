"""`submission.yaml`: who, what, for which tracks, and the hyperparameters that may be set."""

import datetime
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from kit.errors import KitError
from kit.track import Model, Name

MANIFEST_FILE = "submission.yaml"
SOURCE_FILE = "submission.py"


class Manifest(Model):
    """The content of `submission.yaml`."""

    name: Name
    title: str = ""
    authors: tuple[str, ...] = Field(min_length=1)
    date: datetime.date
    license: str
    tracks: tuple[Name, ...] = Field(min_length=1)
    base: str | None = None
    """The submission that this one was made from."""
    changes: str = ""
    config: dict[Name, Any] = Field(default_factory=dict)
    """Hyperparameters and their defaults; a default's type is the hyperparameter's type."""
    ranges: dict[Name, tuple[float, float]] = Field(default_factory=dict)
    """Smallest and largest value of numeric hyperparameters."""

    @model_validator(mode="after")
    def _defaults_fit(self) -> "Manifest":
        if unknown := sorted(set(self.ranges) - set(self.config)):
            raise ValueError(f"ranges for what config does not declare: {', '.join(unknown)}")
        for name, default in self.config.items():
            if problem := self.problem(name, default):
                raise ValueError(problem)
        return self

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with a hyperparameter's value, or None."""
        if name not in self.config:
            declared = ", ".join(self.config) or "none"
            return f"config.{name}: submission '{self.name}' declares no such hyperparameter; declared: {declared}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"config.{name}: expected a finite number, got {value!r}"
        default = self.config[name]
        wanted = type(default)
        fits = default is None or (isinstance(value, wanted) and isinstance(value, bool) == isinstance(default, bool))
        if not fits and not (wanted is float and isinstance(value, int) and not isinstance(value, bool)):
            return f"config.{name}: expected {wanted.__name__}, got {value!r}"
        if name in self.ranges:
            low, high = self.ranges[name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                return f"config.{name}: only a number can have a range, got {value!r}"
            if not low <= value <= high:
                return f"config.{name}: expected {low:g} to {high:g}, got {value!r}"
        return None


def load(folder: Path) -> Manifest:
    """Read a submission's manifest.

    Raises:
        KitError: The folder is no submission, or its manifest is wrong; the message names file and line.
    """
    path = folder / MANIFEST_FILE
    for needed in (path, folder / SOURCE_FILE):
        if not needed.is_file():
            raise KitError(f"{folder}: not a submission: {needed.name} is missing")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, bytes that are no text
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise KitError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        raise KitError(f"{path}: {where}: {what}" if where else f"{path}: {what}") from error


def source_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of a submission's files, caches and hidden files aside."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in inside.parts):
            content = path.read_bytes()
            digest.update(f"{inside.as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def find(roots: list[Path]) -> Iterator[str]:
    """Submissions below `roots`, as they are named on the command line: `baselines/digits_cnn`."""
    for root in roots:
        for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
            yield f"{root.name}/{manifest.parent.name}"
