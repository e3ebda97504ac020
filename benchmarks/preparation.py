"""What does preparing encoded images cost? Memory of all processes together, and time per image as the number grows.

Draws an ImageNet-like tree (or takes one), and prepares it and a quarter of it in turns, each time anew.

    python benchmarks/preparation.py [--source FOLDER] [--images 20000] [--rounds 3]
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from kit.data.synthesize import write_imagenet
from kit.track import Limits, Track

SAMPLE_S = 0.05


def link_quarter(tree: Path, target: Path) -> Path:
    """Every fourth image of each class, as hard links."""
    for split in ("train", "val"):
        for folder in sorted((tree / split).iterdir()):
            (target / split / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[::4]:
                (target / split / folder.name / path.name).hardlink_to(path)
    return target


def prepare(tree: Path, track_file: Path) -> tuple[float, float]:
    """Seconds, and the highest sum of the processes' proportional set sizes in megabytes."""
    with tempfile.TemporaryDirectory(dir=track_file.parent) as data_dir:
        command = [sys.executable, "-m", "kit.cli", "data", "prepare", str(track_file)]
        start = time.perf_counter()
        process = psutil.Popen([*command, "--source", str(tree), "--data-dir", data_dir], stdout=subprocess.DEVNULL)
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, tree_bytes(process))
            time.sleep(SAMPLE_S)
        if process.returncode != 0:
            raise SystemExit("the preparation failed")
        return time.perf_counter() - start, peak_bytes / 1e6


def tree_bytes(process: psutil.Popen) -> int:
    """Memory of a process and its descendants; shared pages are counted once."""
    total = 0
    try:
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_full_info().pss
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, help="a tree with train/ and val/ that is there already")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.source.parent if arguments.source else None) as folder:
        held_out = arguments.images // 20
        whole = arguments.source or write_imagenet(
            Path(folder) / "tree", classes=100, train=arguments.images - held_out, test=held_out
        )
        quarter = link_quarter(whole, Path(folder) / "quarter")
        track = Track(
            name="jpegs",
            version=1,
            title="JPEGs",
            dataset="jpegs",
            source="folders",
            metric="top1",
            target=0.9,
            limits=Limits(run_s=1),
            baseline="baselines/none",
        )
        file = Path(folder) / "jpegs.yaml"
        file.write_text(json.dumps(track.model_dump(mode="json")))
        counts = [sum(1 for _ in tree.rglob("*.JPEG")) for tree in (quarter, whole)]
        per_image: dict[int, list[float]] = {count: [] for count in counts}
        for _ in range(arguments.rounds):
            for tree, count in zip((quarter, whole), counts, strict=True):
                seconds, megabytes = prepare(tree, file)
                per_image[count].append(seconds / count)
                print(
                    f"{count:6,} images: {seconds:6.1f} s, {1e3 * seconds / count:.3f} ms each, "
                    f"{megabytes:.0f} MB at most",
                    flush=True,
                )
        few, many = (statistics.median(per_image[count]) for count in counts)
        print(f"per image, {counts[1]:,} against {counts[0]:,}: {many / few:.3f} x")
        shutil.rmtree(quarter)


if __name__ == "__main__":
    main()
