"""What do the meters cost a run? Time to target of `digits_cnn` with all meters on, against none.

The trainer runs on the CPU; the meters follow a fake NVML, so their threads, calls and processes compete with it for
the same cores, which on a GPU they would hardly do. Runs alternate, and so does which of a pair goes first; needs a C
compiler.

    python benchmarks/meters_overhead.py [--pairs 10]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_nvml import FakeNvml, build
from scenario import UUID

from kit.catalog import load_track
from kit.data.preparation import prepare
from kit.data.sources import Request
from kit.meters.meters import Meters
from kit.meters.rapl import RaplMeter
from kit.referee.run import Plan, run
from kit.submission import manifest

ROOT = Path(__file__).parents[1]
SUBMISSION = ROOT / "baselines" / "digits_cnn"
SCRIPT = "device\npower 0 noise 250 50 0.01 7"


def referee(results: Path, data: Path, *, meters: Meters) -> float:
    """One run; seconds to the target."""
    submission = manifest.load(SUBMISSION)
    plan = Plan(
        track=load_track("digits"),
        submission=manifest.describe(SUBMISSION, submission, submission.config),
        submission_dir=SUBMISSION,
        seed=0,
        device="cpu",
        loader="torch",
        isolation="process",
        count_flops=False,
        count_fully_below_s=0,
        max_steps=None,
        allow_busy_device=False,
        results_dir=results,
        cost=None,
    )
    record, _ = run(plan, prepare(plan.track, data, Request()), meters=meters)
    if record.time.to_target_s is None:
        raise SystemExit(f"the run ended as {record.outcome}: {record.reason}")
    return record.time.to_target_s


def main() -> None:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        state, results, data = arguments.one
        off = Meters([], "switched off", RaplMeter(Path("/nonexistent")))
        meters = Meters.of([UUID], allow_busy=False) if state == "on" else off
        print(json.dumps(referee(Path(results), Path(data), meters=meters)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = FakeNvml(build(folder), folder / "nvml.script", SCRIPT).environment
        pairs: list[dict[str, float]] = []
        for number in range(arguments.pairs + 1):  # the first warms caches up
            seconds = {}
            for state in ("on", "off") if number % 2 else ("off", "on"):
                command = [sys.executable, __file__, "--one", state, str(folder / "results"), str(folder / "data")]
                done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
                seconds[state] = float(json.loads(done.stdout))
            print(f"on {seconds['on']:.3f} s, off {seconds['off']:.3f} s", flush=True)
            pairs.append(seconds)
    ratios = [pair["on"] / pair["off"] for pair in pairs[1:]]
    print(
        f"median ratio {statistics.median(ratios):.4f} over {len(ratios)} pairs, {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
