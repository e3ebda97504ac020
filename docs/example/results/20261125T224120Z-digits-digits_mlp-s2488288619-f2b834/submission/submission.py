"""A plain multilayer perceptron on the digits: the honest slower peer of `digits_cnn`.

Without convolutions the network has to be told that a shifted digit is the same digit: by many epochs of random shifts.
Dropout and label smoothing keep the wide layers from memorising a thousand images.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from kit import Run


class Net(nn.Module):
    """64 -> width -> width -> 10 scores."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, 10),
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
    scratch = Net(config.width, config.dropout).to(run.device)
    optimizer = torch.optim.AdamW(scratch.parameters(), lr=config.lr)
    step(scratch, optimizer, *run.sample(config.batch_size), config.label_smoothing)
    return Net(config.width, config.dropout).to(run.device)


def train(run: Run, model: Net) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config = run.config
    loader = run.loader("train", config.batch_size, drop_last=True, crop_padding=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.epochs * len(loader))
    for epoch in range(config.epochs):
        for images, labels in loader:
            step(model, optimizer, images, labels, config.label_smoothing)
            schedule.step()
        if epoch >= config.first_evaluation:
            verdict = run.evaluate(model)
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
