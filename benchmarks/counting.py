"""What does counting cost? A training step uncounted, under the kit's counter and under torch's FlopCounterMode.

The three take turns in one process, in an order that rotates; reported are medians of paired ratios to the uncounted
step.

    python benchmarks/counting.py [--rounds 10] [--seconds 0.5]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18, vit_b_16

from kit.trainer.flops import OperatorCounter

Step = Callable[[], None]
MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "uncounted": nullcontext,
    "kit": OperatorCounter,
    "FlopCounterMode": lambda: FlopCounterMode(display=False),
}


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


def seconds_per_step(step: Step, mode: str, steps: int) -> float:
    """Mean over `steps` steps inside a fresh counter."""
    with MODES[mode]():
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
    print("| step | uncounted | kit | FlopCounterMode |\n| --- | --- | --- | --- |")
    for name, make in CASES.items():
        torch.manual_seed(0)
        step = make()
        steps = max(2, round(arguments.seconds / seconds_per_step(step, "uncounted", 2)))
        modes = list(MODES)
        measured: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(arguments.rounds):
            for mode in modes:
                measured[mode].append(seconds_per_step(step, mode, steps))
            modes = modes[1:] + modes[:1]
        ratios = {
            mode: statistics.median(a / b for a, b in zip(measured[mode], measured["uncounted"], strict=True))
            for mode in MODES
        }
        base_ms = 1000 * statistics.median(measured["uncounted"])
        print(f"| {name} | {base_ms:.2f} ms | {ratios['kit']:.2f} x | {ratios['FlopCounterMode']:.2f} x |", flush=True)


if __name__ == "__main__":
    main()
