"""The scoring program, as a worker of Codabench calls it: `python3 -m kit.score.codabench.program INPUT OUTPUT`.

INPUT/ref    the bundle's reference data: how to score
INPUT/res    what was handed in, unpacked by the worker: a pack's files, or one pack
OUTPUT       scores.json, and records/ with every run
"""

import json
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from kit.analysis.result import result_of
from kit.analysis.scoring import Entry, summarize
from kit.data.preparation import prepare
from kit.data.sources import Request
from kit.errors import KitError
from kit.hardware.machine import choose_device
from kit.protocol import first_problem
from kit.results.record import Record
from kit.results.store import read_results
from kit.score.codabench.settings import DATASET_DIR, SETTINGS_FILE, Settings
from kit.score.entrants import open_entrants
from kit.score.race import Scoring
from kit.score.score import score as make_runs
from kit.submission.files import collect
from kit.submission.pack import CONTENTS, SUFFIX, encode
from kit.version import __version__

RECORDS_DIR = "records"
SCORES_FILE = "scores.json"
LARGEST_SCORE = 1e10
"""A score there has 20 digits, ten of them decimals."""


def score_submission(source: Path, output: Path) -> dict[str, float]:
    """Run what was handed in with every seed, and write its scores.

    Args:
        source: With `ref` and `res`.
        output: Where scores and records go.

    Returns:
        The scores, by the keys of the board's columns; one that there is none of is left out.

    Raises:
        KitError: The settings are of another kit, the submission is refused, or runs cannot be started.
    """
    settings = read_settings(source / "ref" / SETTINGS_FILE)
    device = choose_device(settings.device)
    records_dir = output / RECORDS_DIR
    with tempfile.TemporaryDirectory(prefix="kit-") as name:
        scratch = Path(name)
        refused: list[str] = []
        handed_in = _as_pack(source / "res", scratch / f"handed-in{SUFFIX}")
        try:
            entrants = open_entrants([handed_in], settings.track, scratch / "entrants", refused.append)
        except KitError:
            raise KitError(refused[0] if refused else "the submission cannot race") from None
        dataset = source / "ref" / DATASET_DIR
        request = Request(path=dataset if dataset.is_dir() else None)
        prepared = prepare(settings.track, scratch / "data", request)
        make_runs(
            entrants,
            Scoring(
                track=settings.track,
                prepared=prepared,
                seeds=settings.seeds,
                secret=bytes.fromhex(settings.secret),
                splits=["published"],
                device=device,
                loader=settings.loader,
                isolation=settings.isolation,
                results_dir=records_dir,
            ),
            print,
        )
    results = [result_of(found) for _, found in read_results(records_dir) if isinstance(found, Record)]
    scores = scores_of(summarize(results), sealed=settings.isolation == "sandbox")
    (output / SCORES_FILE).write_text(json.dumps(scores, indent=2, allow_nan=False) + "\n")
    return scores


def read_settings(path: Path) -> Settings:
    """What the bundle says.

    Raises:
        KitError: It cannot be read, or is of another version of the kit.
    """
    try:
        settings = Settings.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}; expected the reference data of a bundle of kit export") from error
    except ValidationError as error:
        raise KitError(f"{path}: {first_problem(error)}") from error
    if settings.kit_version != __version__:
        raise KitError(
            f"the bundle was written by kit {settings.kit_version} and this image has kit {__version__}; take an image "
            "with that version, or export the bundle anew"
        )
    return settings


def _as_pack(folder: Path, target: Path) -> Path:
    """What was handed in as a pack that is checked like any other: the worker has unpacked it."""
    packs = sorted(folder.glob(f"*{SUFFIX}"))
    if len(packs) == 1:
        return packs[0]
    files, problems = collect(folder)
    files.pop(CONTENTS, None)
    errors = [problem for problem in problems if problem.severity == "error" and problem.where != CONTENTS]
    if errors:
        raise KitError(f"not a pack: {errors[0].where}: {errors[0].what}; hand in what kit pack writes")
    target.write_bytes(encode(files))
    return target


def scores_of(entry: Entry, *, sealed: bool) -> dict[str, float]:
    """An entry as numbers that a board there can hold."""
    energy, flops = entry.energy_j.median, entry.train_flops.median
    found: Mapping[str, float | None] = {
        "seconds": None if entry.time_s.median is None else entry.time_s.median.value,
        "reached": entry.success.value,
        "expected_s": entry.expected_s,
        "device_j": None if energy is None else energy.value,
        "train_teraflop": None if flops is None or flops.value is None else flops.value / 1e12,
        "sealed": float(sealed),
    }
    return {
        key: round(value, 10)
        for key, value in found.items()
        if value is not None and math.isfinite(value) and abs(value) < LARGEST_SCORE
    }


def main() -> None:
    """Entry point; what is wrong with a submission or a bundle is one line and status 1."""
    if len(sys.argv) != 3:
        sys.exit("usage: python3 -m kit.score.codabench.program INPUT OUTPUT")
    try:
        print(json.dumps(score_submission(Path(sys.argv[1]), Path(sys.argv[2]))))
    except KitError as error:
        sys.exit(f"kit: {error}")


if __name__ == "__main__":
    main()
