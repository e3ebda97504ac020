"""A small run from start to record: the proof that runs work here."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kit.doctor.apart import environment, how_it_ended
from kit.doctor.finding import Finding, missing, ok
from kit.errors import KitError
from kit.results.store import read_record

NAME = "trial run"
TIMEOUT_S = 600
ADVICE = "kit run device=cpu loader=torch shows more; the rows above may say why"


def trial_run(submission: str = "baselines/digits_cnn", *overrides: str) -> Iterator[Finding]:
    """Train on the processor, with the torch loader, in folders that vanish."""
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        places = [f"data_dir={folder}/data", f"results_dir={folder}/results"]
        chosen = [f"submission={submission}", "track=digits", "device=cpu", "loader=torch", "count_flops=false"]
        command = [sys.executable, "-P", "-m", "kit.cli", "run", *chosen, *places, *overrides]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield missing(NAME, f"not over after {TIMEOUT_S} s", ADVICE)
            return
        try:
            (path,) = Path(folder).glob("results/*/record.json")
            record = read_record(path)
        except (ValueError, KitError):
            yield missing(NAME, f"no record ({how_it_ended(done.returncode, done.stderr)})", ADVICE)
            return
    if record.outcome in ("reached", "missed") and record.best_value is not None:
        time = record.time
        found = f"{record.submission.name}: setup {time.setup_s:.1f} s, training {time.total_s:.1f} s, "
        yield ok(NAME, f"{found}{record.best_value:.1%} right")
    else:
        yield missing(NAME, f"{record.outcome}: {record.reason}", ADVICE)
