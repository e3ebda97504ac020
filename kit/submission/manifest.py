"""`submission.yaml`: who, what, for which tracks, and the hyperparameters that may be set."""

import datetime
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from kit.errors import KitError
from kit.results.record import SubmissionInfo
from kit.results.source import source_sha256
from kit.submission.plain_yaml import YamlProblem, line_of, read_yaml
from kit.track import Model, Name

MANIFEST_FILE = "submission.yaml"
SOURCE_FILE = "submission.py"
MAX_MANIFEST_BYTES = 64 << 10
MAX_INTEGER = 2**63 - 1
MAX_SAID = 300
"""Characters of a complaint."""
MAX_COMPLAINTS = 50


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
            raise _wrong(("ranges", unknown[0]), f"ranges for what config does not declare: {', '.join(unknown)}")
        for name, default in self.config.items():
            if problem := self.problem(name, default) or _not_plain(default):
                raise _wrong(
                    ("config", name), problem if problem.startswith("config.") else f"config.{name}: {problem}"
                )
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


class Complaint(NamedTuple):
    """One thing that is wrong with a manifest."""

    line: int | None
    """Counted from 1; None where something is missing that no line could name."""
    what: str


class ManifestError(KitError):
    """A manifest that cannot be taken; the message is the first of the complaints, with file and line."""

    def __init__(self, where: str, complaints: Sequence[Complaint]) -> None:
        first = complaints[0]
        place = where if first.line is None else f"{where}:{first.line}"
        super().__init__(f"{place}: {first.what}")
        self.complaints = tuple(complaints)


def load(folder: Path) -> Manifest:
    """Read a submission's manifest.

    Raises:
        KitError: The folder is no submission, or its manifest is wrong (`ManifestError`); the message names file and
            line.
    """
    path = folder / MANIFEST_FILE
    try:
        for needed in (path, folder / SOURCE_FILE):
            if not needed.is_file():
                raise KitError(f"{folder}: not a submission: {needed.name} is missing")
        with path.open("rb") as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    return parse(content, str(path))


def parse(content: bytes, where: str = MANIFEST_FILE) -> Manifest:
    """Read the content of a manifest.

    Args:
        content: Of the file.
        where: How the file is called in errors.

    Raises:
        ManifestError: It is wrong; the error holds every complaint.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            where, [Complaint(None, f"larger than {MAX_MANIFEST_BYTES >> 10} KiB, which no manifest is")]
        )
    try:
        found, root = read_yaml(content)
    except YamlProblem as problem:
        raise ManifestError(where, [Complaint(problem.line, f"not YAML: {_short(str(problem))}")]) from None
    try:
        return Manifest.model_validate(found)
    except ValidationError as error:
        raise ManifestError(where, _complaints(error, root)) from None


def _complaints(error: ValidationError, root: yaml.Node | None) -> list[Complaint]:
    """In the order of lines, then what is missing; of a key and something inside it, what is said of the inside."""
    problems = [
        (problem.get("ctx", {}).get("loc", problem["loc"]), problem) for problem in error.errors()[:MAX_COMPLAINTS]
    ]
    found = []
    for loc, problem in problems:
        if any(len(other) > len(loc) and other[: len(loc)] == loc for other, _ in problems):
            continue
        name = ".".join(str(part) for part in problem["loc"])
        what = _short(problem["msg"])
        found.append(Complaint(line_of(root, loc), f"{name}: {what}" if name else what))
    return sorted(found, key=lambda complaint: (complaint.line is None, complaint.line or 0))


def _short(text: str) -> str:
    return text if len(text) <= MAX_SAID else f"{text[: MAX_SAID - 4]} ..."


def _wrong(loc: tuple[str, ...], what: str) -> PydanticCustomError:
    """An error of the whole manifest that knows where it is."""
    return PydanticCustomError("manifest", "{what}", {"what": what, "loc": loc})


def _not_plain(value: Any) -> str | None:
    """Why a default would not come back the same from Hydra and from JSON, or None."""
    match value:
        case None | bool():
            return None
        case float():
            return None if math.isfinite(value) else "expected finite numbers"
        case int():
            return None if abs(value) <= MAX_INTEGER else "expected an integer of at most 64 bits"
        case str() if "${" in value:  # with variables of the environment, among others
            return "'${' would be filled in by Hydra; write the value itself"
        case str():
            return "'???' stands for a missing value with Hydra; write another text" if value == "???" else None
        case list():
            return next((problem for item in value if (problem := _not_plain(item))), None)
        case dict():
            if not all(isinstance(key, str) for key in value):
                return "expected names as keys"
            return next((problem for item in (*value, *value.values()) if (problem := _not_plain(item))), None)
        case _:
            return f"expected a number, text, true, false, null, a list or a mapping, got {type(value).__name__}"


def describe(folder: Path, submission: Manifest, config: dict[str, Any]) -> SubmissionInfo:
    """What a record says of a submission that is run with these hyperparameters."""
    return SubmissionInfo(
        name=submission.name,
        authors=submission.authors,
        date=submission.date.isoformat(),
        base=submission.base,
        source_sha256=source_sha256(folder),
        config=config,
    )


def find(roots: list[Path]) -> Iterator[str]:
    """Submissions below `roots`, as they are named on the command line: `baselines/digits_cnn`."""
    for root in roots:
        for manifest in sorted(root.glob(f"*/{MANIFEST_FILE}")):
            yield f"{root.name}/{manifest.parent.name}"
