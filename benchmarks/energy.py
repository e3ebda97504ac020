"""How exact is the energy of a window? By real clocks, on scripted GPUs of known energy, with idle power around it.

Compared are the counter's plain difference, its steps inside the window scaled to the window, the kit's counter and the
kit's integral of sampled power. The curves are played side by side, one process each, windows one after another at
random lengths; needs a C compiler and no GPU.

    python benchmarks/energy.py [--windows 0.5:40 2:20 10:8]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_nvml import FakeNvml, build
from scenario import UUID

from kit.meters.by_counter import by_counter
from kit.meters.by_samples import by_samples
from kit.meters.counter import CounterFollower
from kit.meters.nvml import Gpu
from kit.meters.readings import Samples, Ticks, Unusable
from kit.meters.sampler import Sampler

CURVES = {
    "constant 350 W": "constant 350",
    "square 250-450 W, 37 ms": "square 250 450 0.037",
    "ramp 100-400 W": "ramp 100 400 {seconds}",
    "noise 250-450 W, 10 ms": "noise 350 100 0.01 {seed}",
}
IDLE = "constant 70"
SCRIPT = f"device\ncounter_jitter 0.001\npower 0 {IDLE}"
REST_S = 0.8
"""Of idle power between two windows."""
Method = Callable[[Ticks, Samples, float], float]


def difference(ticks: Ticks, _: Samples, stop_s: float) -> float:
    """What two readings at the ends of the window differ by."""
    shown = [ticks.mj[ticks.seen_s <= at_s][-1] for at_s in (0.0, stop_s)]
    return float(shown[1] - shown[0]) / 1000


def scaled(ticks: Ticks, _: Samples, stop_s: float) -> float:
    """From the first step in the window to the last, as if the rest were like that."""
    inside = np.flatnonzero((ticks.seen_s >= 0) & (ticks.seen_s <= stop_s))
    first, last = inside[0], inside[-1]
    span_s = ticks.seen_s[last] - ticks.seen_s[first]
    return float(ticks.mj[last] - ticks.mj[first]) / 1000 * stop_s / float(span_s)


METHODS: dict[str, Method] = {
    "difference": difference,
    "steps inside, scaled": scaled,
    "kit, counter": lambda ticks, _, stop_s: by_counter(ticks, stop_s).joules,
    "kit, sampled": lambda _, samples, stop_s: by_samples(samples, stop_s).joules,
}


def play(library: Path, folder: Path, curve: str, windows: dict[float, int]) -> dict[str, list[list[float]]]:
    """Errors, relative to the truth, by length of the window: one list per window, in the order of METHODS."""
    fake = FakeNvml(library, folder / "nvml.script", SCRIPT)
    os.environ["FAKE_NVML"] = str(fake.script)
    gpu = Gpu(UUID)
    errors: dict[str, list[list[float]]] = {}
    for length_s, count in windows.items():
        for _ in range(count):
            counter, sampler = CounterFollower(gpu.counter_mj), Sampler(gpu)
            fake.rewrite(f"{SCRIPT}\npower {fake.now_s} {IDLE}")
            counter.start()
            sampler.start()
            time.sleep(REST_S * random.uniform(0.9, 1.1))
            seconds = length_s * random.uniform(0.95, 1.05)
            counter.await_tick()
            go_ns = monotonic_ns()
            go_s = go_ns / 1e9 - fake.origin_s
            fake.add(
                f"power {go_s} {CURVES[curve].format(seconds=seconds, seed=random.randrange(10**6))}",
                f"power {go_s + seconds} {IDLE}",
            )
            time.sleep(seconds + REST_S)
            counter.stop()
            sampler.stop()
            true_j = fake.true_j(go_s, go_s + seconds)
            ticks, samples = counter.ticks(go_ns), sampler.samples(go_ns)
            row = []
            for method in METHODS.values():
                try:
                    row.append(method(ticks, samples, seconds) / true_j - 1)
                except Unusable:
                    row.append(float("nan"))
            errors.setdefault(str(length_s), []).append(row)
    return errors


def main() -> None:
    """Play all curves and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", nargs="+", default=["0.5:40", "2:20", "10:8"], help="seconds:how many")
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    windows = {float(seconds): int(count) for seconds, count in (item.split(":") for item in arguments.windows)}
    if arguments.play:
        library, folder, curve = arguments.play
        print(json.dumps(play(Path(library), Path(folder), curve, windows)))
        return
    with tempfile.TemporaryDirectory() as name:
        library = build(Path(name))
        playing = {}
        for number, curve in enumerate(CURVES):
            folder = Path(name) / str(number)
            folder.mkdir()
            environment = FakeNvml(library, folder / "nvml.script", SCRIPT).environment
            command = [sys.executable, __file__, "--windows", *arguments.windows, "--play", library, folder, curve]
            playing[curve] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        found = {curve: json.loads(process.communicate()[0]) for curve, process in playing.items()}
    print("error in percent: mean, and what 95 % of the windows stay within")
    print(f"| window | curve | windows | {' | '.join(METHODS)} |")
    print("| --- " * (3 + len(METHODS)) + "|")
    for seconds in windows:
        for curve, by_length in found.items():
            errors = 100 * np.array(by_length[str(seconds)])
            cells = [
                f"{np.nanmean(column):+.2f}, {np.nanquantile(np.abs(column), 0.95):.2f}"
                if not np.isnan(column).all()
                else "-"
                for column in errors.T
            ]
            print(f"| {seconds:g} s | {curve} | {len(errors)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
