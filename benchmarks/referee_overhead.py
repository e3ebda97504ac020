"""What does being refereed cost? The baseline's own training loop as a bare script, against `kit run`.

Both train in a process of their own, from the same seed, with the same loader on the same prepared files, and are
timed from the start of training (data not yet read) to the evaluation that reaches the target. They alternate, and so
does which of them goes first.

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
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kit.data.loaders import Kind

ROOT = Path(__file__).parents[1]
SUBMISSION = ROOT / "baselines" / "digits_cnn"


class BareRun:
    """What a script would do for itself: read the data, make a loader, compare predictions with labels it has."""

    def __init__(self, seed: int, loader: Kind, prepared: Any, config: dict[str, Any]) -> None:
        import torch

        self.config = SimpleNamespace(**config)
        self.device = torch.device("cpu")
        self.seed = seed
        self._loader = loader
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

    def loader(self, split: str, batch_size: int, **options: Any) -> Any:
        """The kit's loader, without the kit around it."""
        from kit.data.augment import ArrayOptions
        from kit.data.loaders import array_loader

        return array_loader(
            self._loader,
            self._data.train_images,
            self._data.train_labels,
            self._prepared.spec,
            ArrayOptions(batch_size=batch_size, shuffle=True, **options),
            seed=self.seed,
            device=self.device,
        )

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


def bare(seed: int, loader: Kind, data_dir: Path) -> None:
    """Train once and print the seconds from start to target."""
    if loader == "dali":
        import nvidia.dali.plugin.pytorch  # noqa: F401

    from kit.data.prepared import read
    from kit.submission.manifest import load
    from kit.trainer.run import seed_everything

    seed_everything(seed)
    spec = importlib.util.spec_from_file_location("submission", SUBMISSION / "submission.py")
    assert spec is not None
    assert spec.loader is not None
    submission = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(submission)
    run = BareRun(seed, loader, read(data_dir / "digits"), load(SUBMISSION).config)
    model = submission.setup(run)
    start = time.monotonic()
    run.start()
    submission.train(run, model)
    print(json.dumps(time.monotonic() - start))


def time_bare(seed: int, loader: str, data_dir: Path) -> float:
    """Seconds of one bare script."""
    command = [sys.executable, __file__, "--bare", str(seed), "--loader", loader, "--data-dir", str(data_dir)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(json.loads(done.stdout))


def time_refereed(seed: int, loader: str, data_dir: Path) -> float:
    """Seconds of one `kit run`, from its record."""
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
        bare(arguments.bare, arguments.loader, arguments.data_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        data_dir = arguments.data_dir or Path(folder)
        time_refereed(0, arguments.loader, data_dir)  # prepares the data and warms the page cache
        pairs: list[tuple[float, float]] = []
        for seed in range(arguments.pairs):
            order = [time_bare, time_refereed] if seed % 2 else [time_refereed, time_bare]
            seconds = {timed: timed(seed, arguments.loader, data_dir) for timed in order}
            pairs.append((seconds[time_bare], seconds[time_refereed]))
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
