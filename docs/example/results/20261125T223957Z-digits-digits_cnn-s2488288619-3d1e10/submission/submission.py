"""Three convolutions and one linear layer under a one-cycle rate: digits in about a second.

What each part is for:

* Shifts by one pixel are the only augmentation: a mirrored digit is another digit, or none.
* Large steps (momentum, one-cycle) with batch normalisation: few epochs, and the rate ends low where the target is.
* Evaluations cost time too, so none happens before the network can be good enough.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from kit import Run


class Net(nn.Module):
    """8x8 -> 4x4 -> 10 scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of images (N, 1, 8, 8)."""
        return cast(torch.Tensor, self.layers(images))


def step(
    model: Net, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, smoothing: float
) -> None:
    """One optimizer step."""
    loss = F.cross_entropy(model(images), labels, label_smoothing=smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def setup(run: Run) -> Net:
    """Build the network and warm up the libraries on a throw-away copy: the clock is not running."""
    config = run.config
    scratch = Net(config.width).to(run.device)
    step(
        scratch,
        torch.optim.SGD(scratch.parameters(), lr=0.1),
        *run.sample(config.batch_size),
        config.label_smoothing,
    )
    return Net(config.width).to(run.device)


def train(run: Run, model: Net) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config = run.config
    loader = run.loader("train", config.batch_size, drop_last=True, crop_padding=1)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.epochs * len(loader), pct_start=0.3, final_div_factor=100
    )
    for epoch in range(2 * config.epochs):
        for images, labels in loader:
            step(model, optimizer, images, labels, config.label_smoothing)
            if epoch < config.epochs:  # afterwards go on at the lowest rate
                schedule.step()
        if epoch >= config.first_evaluation:
            verdict = run.evaluate(model)
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
