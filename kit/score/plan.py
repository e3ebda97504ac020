"""A plan: a file that says of many runs how they are to be made, each by anybody who gives its number.

JSON lines: first what all runs share, then one line per run, so that a job among thousands reads little. The
organizer's secret is not in it, only where it lies.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.record import Cost, IsolationMode, Sha256, Split
from kit.score.ledger import RunKey
from kit.track import Model, Track

M = TypeVar("M", bound=Model)


class Shared(Model):
    """What all runs of a plan share; paths are whole ones, the same on every machine."""

    plan_version: Literal[1] = 1
    track: Track
    seeds: int = Field(ge=1)
    results_dir: Path
    data_dir: Path
    secret: Path
    device: Literal["cpu", "cuda"]
    ranks: int = Field(ge=1)
    loader: Literal["dali", "torch"]
    isolation: IsolationMode
    cost: Cost | None


class Planned(Model):
    """One run."""

    submission: str
    path: Path
    """Of its pack or folder."""
    source_sha256: Sha256
    split: Split
    seed_index: int = Field(ge=0)
    dataset_fingerprint: str

    @property
    def key(self) -> RunKey:
        """What it is known by."""
        return RunKey(self.source_sha256, self.split, self.seed_index)


def write_plan(path: Path, shared: Shared, runs: Sequence[Planned]) -> None:
    """Write a plan where there is none: jobs that wait know their runs by number.

    Raises:
        KitError: There is one already, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.writelines(f"{line.model_dump_json()}\n" for line in (shared, *runs))
    except FileExistsError:
        raise KitError(f"{path}: there is a plan already, which jobs may still be reading; give another name") from None
    except OSError as error:
        raise KitError(f"cannot write a plan to {path}: {error.strerror}") from error


def read_plan(path: Path) -> list[Planned]:
    """All runs of a plan, by their numbers.

    Raises:
        KitError: It cannot be read.
    """
    lines = _lines(path, 1, None)
    return [_parsed(Planned, line, path) for line in lines]


def read_planned(path: Path, number: int) -> tuple[Shared, Planned]:
    """One run of a plan.

    Args:
        path: The plan.
        number: From 0.

    Raises:
        KitError: It cannot be read, or has no such run.
    """
    shared, run = _lines(path, 0, 1), _lines(path, number + 1, number + 2)
    if not shared or not run:
        raise KitError(f"{path}: there is no run {number} in this plan")
    return _parsed(Shared, shared[0], path), _parsed(Planned, run[0], path)


def _lines(path: Path, start: int, stop: int | None) -> list[str]:
    try:
        with path.open() as file:
            return list(itertools.islice(file, start, stop))
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: not a plan that can be read: {error}") from error


def _parsed(kind: type[M], line: str, path: Path) -> M:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise KitError(f"{path}: not a plan of this kit: {first_problem(error)}") from error
