"""Checks in a process of their own: a library that crashes, hangs or prints there harms nobody."""

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

import kit
from kit.doctor.finding import Finding

FINDINGS = TypeAdapter(list[Finding])


class CheckFailedError(Exception):
    """The check came to no finding; the message says why."""


def environment() -> dict[str, str]:
    """This process's, in which a child finds the same kit."""
    paths = [str(Path(kit.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def apart(module: str, function: str, timeout_s: float) -> list[Finding]:
    """What a function of a module finds in a process of its own.

    Raises:
        CheckFailedError: The process ended without an answer, or took too long.
    """
    command = [sys.executable, "-P", "-m", "kit.doctor.apart", module, function]
    try:
        done = subprocess.run(
            command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise CheckFailedError(f"no answer within {timeout_s:.0f} s") from None
    if done.returncode == 0:
        return FINDINGS.validate_json(done.stdout)
    raise CheckFailedError(how_it_ended(done.returncode, done.stderr))


def how_it_ended(returncode: int, stderr: bytes) -> str:
    """The signal or status of a child, with its last words."""
    try:
        how = f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        how = f"exit status {returncode}"
    said = stderr.decode(errors="replace").strip().splitlines()
    return f"{how}: {said[-1]}" if said else how


def main(arguments: Sequence[str]) -> None:
    """What the child does: only findings reach its standard output, whatever libraries print."""
    module, function = arguments
    answer = os.dup(1)
    os.dup2(2, 1)
    findings = list(getattr(importlib.import_module(module), function)())
    with os.fdopen(answer, "wb") as file:
        file.write(FINDINGS.dump_json(findings))


if __name__ == "__main__":
    main(sys.argv[1:])
