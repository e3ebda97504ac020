"""What does counting cost? A training step uncounted, counted by the kit, skipped by the kit, under FlopCounterMode.

They take turns in one process, in an order that rotates; reported are medians of paired ratios to the uncounted step.
`sampled` is what most steps of a long run cost: the program is observed, and 1 % of the steps are recounted.

    python benchmarks/counting.py [--rounds 10] [--seconds 0.5]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, vit_b_16

from kit.trainer import sampling
from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter

Step = Callable[[], None]
Modes = dict[str, Callable[[], AbstractContextManager[object]]]
KNOWN_STEPS = 5


def modes_for(step: Step) -> Modes:
    """Ways to run a step; the sampler has met it before."""
    sampling.RECOUNTED_AT_FIRST = 0  # as after some thousand steps
    sampler = sampling.Sampler(OperatorCounter(), seed=0)
    with active(sampler):
        for _ in range(KNOWN_STEPS):
            step()
    return {
        "uncounted": nullcontext,
        "kit": lambda: active(Phases(OperatorCounter())),
        "sampled": lambda: active(sampler),
        "FlopCounterMode": lambda: FlopCounterMode(display=False),
    }


@contextmanager
def active(watch: Phases) -> Iterator[None]:
    """As in a replay."""
    with counting(watch), watch.active():
        yield


def training_step(model: nn.Module, batch: int, side: int, *, optimizer: str = "SGD") -> Step:
    """A step of classification on random images."""
    images, labels = torch.randn(batch, 3, side, side), torch.randint(10, (batch,))
    if optimizer == "SGD":
        optim: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    else:
        optim = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optim.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optim.step()

    return step


def small_cnn(width: int) -> nn.Module:
    """Three convolutions with norms and a linear layer."""
    layers: list[nn.Module] = []
    channels = 3
    for factor in (1, 2, 4):
        layers += [nn.Conv2d(channels, factor * width, 3, 2, 1), nn.BatchNorm2d(factor * width), nn.ReLU()]
        channels = factor * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


CASES: dict[str, Callable[[], Step]] = {
    "tiny CNN, batch 1": lambda: training_step(small_cnn(4), 1, 16),
    "small CNN, batch 8": lambda: training_step(small_cnn(32), 8, 32),
    "small CNN, batch 128": lambda: training_step(small_cnn(32), 128, 32),
    "ResNet-18 at 32 px, batch 16": lambda: training_step(resnet18(num_classes=10), 16, 32),
    "ResNet-18 at 32 px, batch 16, AdamW": lambda: training_step(resnet18(num_classes=10), 16, 32, optimizer="AdamW"),
    "ViT-B/16 at 32 px, batch 8": lambda: training_step(vit_b_16(num_classes=10, image_size=32), 8, 32),
}


def seconds_per_step(step: Step, mode: AbstractContextManager[object], steps: int) -> float:
    """Mean over `steps` steps."""
    with mode:
        step()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.5, help="of uncounted steps per measurement")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print("| step | uncounted | kit | kit, sampled | FlopCounterMode |\n| --- | --- | --- | --- | --- |")
    for name, make in CASES.items():
        torch.manual_seed(0)
        step = make()
        steps = max(2, round(arguments.seconds / seconds_per_step(step, nullcontext(), 2)))
        contexts = modes_for(step)
        modes = list(contexts)
        measured: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(arguments.rounds):
            for mode in modes:
                measured[mode].append(seconds_per_step(step, contexts[mode](), steps))
            modes = modes[1:] + modes[:1]
        ratios = {
            mode: statistics.median(a / b for a, b in zip(measured[mode], measured["uncounted"], strict=True))
            for mode in modes
        }
        base_ms = 1000 * statistics.median(measured["uncounted"])
        columns = [f"{ratios[mode]:.2f}" for mode in ("kit", "sampled", "FlopCounterMode")]
        print(f"| {name} | {base_ms:.2f} ms | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
