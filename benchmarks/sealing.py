"""What does the seal cost? Time to target of `digits_cnn` with `isolation=sandbox`, against `isolation=process`.

Runs alternate, and so does which of a pair goes first.

    python benchmarks/sealing.py [--pairs 10] [--loader torch]
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from referee_overhead import time_refereed


def main() -> None:
    """Run the pairs and print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--loader", choices=["dali", "torch"], default="torch")
    arguments = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, arguments.pairs):  # the first prepares the data and warms caches up
            seconds = {}
            for isolation in ("process", "sandbox") if number % 2 else ("sandbox", "process"):
                seconds[isolation] = time_refereed(0, arguments.loader, Path(folder), f"isolation={isolation}")
            print(f"sandbox {seconds['sandbox']:.3f} s, process {seconds['process']:.3f} s", flush=True)
            if number >= 0:
                ratios.append(seconds["sandbox"] / seconds["process"])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"median ratio {middle:.3f} over {len(ratios)} pairs (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
