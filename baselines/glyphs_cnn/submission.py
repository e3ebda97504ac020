"""Four convolutions and one linear layer under a one-cycle rate: glyphs in minutes on two cores.

What each part is for:

* Images and weights lie channels last, which convolutions on CPUs prefer.
* The largest values are taken right after a convolution: what follows has a quarter of the work, or a sixteenth.
* Shifts by two pixels are the only augmentation: a mirrored character is another character, or none.
* Large steps (momentum, one-cycle) with batch normalisation: few epochs, and the rate ends low where the target is.
* Evaluations cost time too, so none happens before the network can be good enough.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from kit import Run


def block(inputs: int, outputs: int, pool: int) -> list[nn.Module]:
    """A convolution that sees 3x3 pixels, then the largest of each pool x pool."""
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(pool),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class Net(nn.Module):
    """32x32 -> 16x16 -> 8x8 -> 4x4 -> 1 -> 10 scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *block(3, width, pool=2),
            *block(width, 2 * width, pool=2),
            *block(2 * width, 4 * width, pool=2),
            *block(4 * width, 4 * width, pool=4),
            nn.Flatten(),
            nn.Linear(4 * width, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of images (N, 3, 32, 32)."""
        return cast(torch.Tensor, self.layers(images))


def build(run: Run) -> Net:
    """A fresh network."""
    return Net(run.config.width).to(memory_format=torch.channels_last).to(run.device)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, smoothing: float
) -> None:
    """One optimizer step."""
    loss = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def setup(run: Run) -> nn.Module:
    """Build the network and warm up the libraries on a throw-away copy: the clock is not running."""
    config = run.config
    scratch = build(run)
    step(
        scratch,
        torch.optim.SGD(scratch.parameters(), lr=0.1),
        *run.sample(config.batch_size, channels_last=True),
        config.label_smoothing,
    )
    model = build(run)
    return DistributedDataParallel(model) if run.world_size > 1 else model


def train(run: Run, model: nn.Module) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config = run.config
    loader = run.loader(
        "train", config.batch_size // run.world_size, drop_last=True, crop_padding=2, channels_last=True
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * len(loader), pct_start=0.25, final_div_factor=100
    )
    for epoch in range(2 * config.epochs):
        for images, labels in loader:
            step(model, optimizer, images, labels, config.label_smoothing)
            if epoch < config.epochs:  # afterwards go on at the lowest rate
                schedule.step()
        if epoch >= config.first_evaluation:
            verdict = run.evaluate(model, channels_last=True)
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
