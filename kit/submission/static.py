"""Everything that can be said of a submission without running it."""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from kit.submission import manifest
from kit.submission.files import collect
from kit.submission.hyperparameters import hyperparameter_problems
from kit.submission.imports import import_problems
from kit.submission.literals import literal_problems, text_problems, value_problem
from kit.submission.manifest import MANIFEST_FILE, SOURCE_FILE, Manifest, ManifestError
from kit.submission.plain_yaml import YamlProblem, line_of, read_yaml
from kit.submission.problem import Problem, error, flag
from kit.submission.source import entry_problems, parse

PLACEHOLDER = "your name"
"""What `kit new` writes as the author where git knows none."""


@dataclass(frozen=True)
class Examined:
    """A submission as far as reading it goes."""

    files: dict[str, bytes]
    """Content by path: what is packed, and what runs."""
    problems: tuple[Problem, ...]
    manifest: Manifest | None
    """None where it cannot be read."""
    runs: bool
    """Whether there is anything that could be run."""


def examine_folder(folder: Path, tracks: Collection[str]) -> Examined:
    """Read a submission's folder, and say all that can be said of it.

    Args:
        folder: The submission.
        tracks: Names of those that there are.

    Raises:
        KitError: The folder cannot be read.
    """
    return examine(*collect(folder), tracks)


def examine(files: dict[str, bytes], found: Iterable[Problem], tracks: Collection[str]) -> Examined:
    """Say all that can be said of files, beside what was found while reading them."""
    read, of_manifest = _read_manifest(files)
    modules, of_sources = _read_sources(files)
    entries = entry_problems(modules[SOURCE_FILE]) if SOURCE_FILE in modules else []
    problems = [*found, *of_manifest, *of_sources, *entries]
    for name, content in files.items():
        problems += [] if name.endswith(".py") else text_problems(name, content)
    if read is not None:
        lines = _Lines(files[MANIFEST_FILE])
        problems += _manifest_problems(read, lines, tracks)
        problems += hyperparameter_problems(modules, {name: lines.of("config", name) for name in read.config})
    runs = read is not None and SOURCE_FILE in modules and not entries
    return Examined(files, tuple(sorted(problems, key=_errors_first)), read, runs)


def _read_manifest(files: Mapping[str, bytes]) -> tuple[Manifest | None, list[Problem]]:
    if MANIFEST_FILE not in files:
        return None, []
    try:
        return manifest.parse(files[MANIFEST_FILE]), []
    except ManifestError as failure:
        fix = "see docs/submission.md for what stands there"
        return None, [error(_at(MANIFEST_FILE, it.line), it.what, fix) for it in failure.complaints]


def _read_sources(files: Mapping[str, bytes]) -> tuple[dict[str, ast.Module], list[Problem]]:
    modules: dict[str, ast.Module] = {}
    problems: list[Problem] = []
    for name in (name for name in files if name.endswith(".py")):
        module = parse(name, files[name])
        if isinstance(module, Problem):
            problems.append(module)
        else:
            modules[name] = module
            problems += [*import_problems(name, module, files), *literal_problems(name, module)]
    return modules, problems


class _Lines:
    def __init__(self, content: bytes) -> None:
        try:
            self._root = read_yaml(content)[1]
        except YamlProblem:
            self._root = None

    def of(self, *loc: str | int) -> int | None:
        return line_of(self._root, loc)


def _manifest_problems(read: Manifest, lines: _Lines, tracks: Collection[str]) -> list[Problem]:
    problems = []
    try:
        canonicalize_license_expression(read.license)
    except InvalidLicenseExpression:
        what = f"license: '{read.license}' is no SPDX licence expression"
        fix = "write one of https://spdx.org/licenses, such as Apache-2.0 or MIT"
        problems.append(error(_at(MANIFEST_FILE, lines.of("license")), what, fix))
    for index, track in enumerate(read.tracks):
        if track not in tracks:
            fix = f"known: {', '.join(tracks)}; a track of your own: kit check --track FILE.yaml"
            where = _at(MANIFEST_FILE, lines.of("tracks", index))
            problems.append(flag(where, f"no track '{track}' ships with the kit", fix))
    for name, value in read.config.items():
        problem = value_problem(_at(MANIFEST_FILE, lines.of("config", name)), value)
        problems += [] if problem is None else [problem]
    if any(author.casefold() == PLACEHOLDER for author in read.authors):
        problems.append(
            flag(_at(MANIFEST_FILE, lines.of("authors")), "authors: still a placeholder", "write who made it")
        )
    if read.date > (datetime.now(UTC) + timedelta(days=1)).date():
        problems.append(
            flag(_at(MANIFEST_FILE, lines.of("date")), f"date: {read.date} is to come", "write when it was made")
        )
    if read.base is not None and not read.changes.strip():
        what = f"changes: nothing is said of what is different from {read.base}"
        problems.append(flag(_at(MANIFEST_FILE, lines.of("base")), what, "write a line under changes:"))
    return problems


def _at(name: str, line: int | None) -> str:
    return name if line is None else f"{name}:{line}"


def _errors_first(problem: Problem) -> tuple[bool, str, int]:
    name, _, line = problem.where.rpartition(":")
    return problem.severity != "error", name or problem.where, int(line) if line.isdecimal() else 0
