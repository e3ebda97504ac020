"""What does being refereed cost? The baseline's own training loop as a bare script, against `kit run`.

Both train in a process of their own, from the same seed, on the same prepared files, and are timed from the start of
training (data not yet read) to the evaluation that reaches the target. They alternate, and so does which of them goes
first.

    python benchmarks/referee_overhead.py [--pairs 20] [--loader dali]
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
SUBMISSION = ROOT / "baselines" / "digits_cnn"


class BareRun:
    """What a script would do for itself: read the data, compare predictions with labels it has."""

    def __init__(self, prepared: Any, config: dict[str, Any]) -> None:
        import torch

        self.config = SimpleNamespace(**config)
        self.device = torch.device("cpu")
        self.rank, self.world_size = 0, 1
        self._prepared = prepared

    def start(self) -> None:
        """Read the data: the clock is running."""
        import torch

        from kit.data.public import PublicArrays

        descriptor = os.open(self._prepared.public_dir, os.O_RDONLY)
        self._data = PublicArrays(descriptor)
        self._labels = torch.from_numpy(self._prepared.test_labels())
        spec = self._prepared.spec
        images = torch.from_numpy(self._data.test_images).float()
        self._test = (images - 255 * spec.mean[0]) / (255 * spec.std[0])

    def sample(self, n: int) -> Any:
        """Stand-ins to warm up on."""
        import torch

        return torch.randn(n, 1, 8, 8), torch.randint(10, (n,))

    def arrays(self, split: str) -> Any:
        """Training images and labels, as they lie in memory."""
        import torch

        return torch.from_numpy(self._data.train_images), torch.from_numpy(self._data.train_labels)

    def evaluate(self, model: Any) -> Any:
        """Accuracy on the test set."""
        import torch

        model.eval()
        with torch.no_grad():
            right = int((model(self._test).argmax(1) == self._labels).sum())
        model.train()
        value = right / len(self._labels)
        return SimpleNamespace(value=value, reached=value >= 0.99)

    def log(self, **scalars: float) -> None:
        """A script would print."""
        print(scalars, file=sys.stderr)


def bare(seed: int, data_dir: Path) -> None:
    """Train once and print the seconds from start to target."""
    from kit.data.prepared import read
    from kit.submission.manifest import load
    from kit.trainer.run import seed_everything

    seed_everything(seed)
    spec = importlib.util.spec_from_file_location("submission", SUBMISSION / "submission.py")
    assert spec is not None
    assert spec.loader is not None
    submission = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(submission)
    run = BareRun(read(data_dir / "digits"), load(SUBMISSION).config)
    model = submission.setup(run)
    start = time.monotonic()
    run.start()
    submission.train(run, model)
    print(json.dumps(time.monotonic() - start))


def time_bare(seed: int, data_dir: Path) -> float:
    """Seconds of one bare script."""
    command = [sys.executable, __file__, "--bare", str(seed), "--data-dir", str(data_dir)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(json.loads(done.stdout))


def time_refereed(seed: int, loader: str, data_dir: Path, *more: str) -> float:
    """Seconds to the target of one `kit run`, from its record."""
    with tempfile.TemporaryDirectory() as results:
        places = [f"results_dir={results}", f"data_dir={data_dir}"]
        command = [
            sys.executable,
            "-m",
            "kit.cli",
            "run",
            f"seed={seed}",
            f"loader={loader}",
            "count_flops=false",
            *more,
            *places,
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        (record,) = Path(results).glob("*/record.json")
        return float(json.loads(record.read_text())["time"]["to_target_s"])


def main() -> None:
    """Run the pairs and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--loader", choices=["dali", "torch"], default="dali")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare is not None:
        bare(arguments.bare, arguments.data_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        data_dir = arguments.data_dir or Path(folder)
        time_refereed(0, arguments.loader, data_dir)  # prepares the data and warms the page cache
        pairs: list[tuple[float, float]] = []
        for seed in range(arguments.pairs):
            sides = {
                "bare": partial(time_bare, seed, data_dir),
                "refereed": partial(time_refereed, seed, arguments.loader, data_dir),
            }
            seconds = {name: sides[name]() for name in sorted(sides, reverse=bool(seed % 2))}
            pairs.append((seconds["bare"], seconds["refereed"]))
            print(f"seed {seed:3d}   bare {pairs[-1][0]:.3f} s   refereed {pairs[-1][1]:.3f} s", flush=True)
    ratios = sorted(refereed / alone for alone, refereed in pairs)
    quarter = len(ratios) // 4
    print(
        f"{len(pairs)} pairs, loader {arguments.loader}: median bare {statistics.median(a for a, _ in pairs):.3f} s, "
        f"median refereed {statistics.median(b for _, b in pairs):.3f} s, ratio median {statistics.median(ratios):.3f} "
        f"(quartiles {ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})"
    )


if __name__ == "__main__":
    main()
