"""Three convolutions and one linear layer under a one-cycle rate: digits in less than a second.

What each part is for:

* The images stay in memory and are shifted by up to one pixel for a whole epoch at a time: on two cores a loader's
  threads would get in the way. No other augmentation: a mirrored digit is another digit, or none.
* Channels last is how convolutions on CPUs are fastest.
* Large steps (momentum, one-cycle) with batch normalisation: few epochs, and the rate ends low where the target is.
* Evaluations cost time too, so none happens before the network can be good enough; and only the few images that it is
  unsure about are looked at from five places instead of one.
* A network that ends just short of the target stays there at a low rate. It goes through another cycle instead.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from kit import Run

VIEWS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
"""Top and left of crops of an image that has a border of one pixel; the first one is the image itself."""
SURE = 0.7
"""Probability above which one look is enough. Label smoothing keeps it at about 0.9 for a clear digit."""


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


class Looks(nn.Module):
    """A network that looks again, from all sides, at what it is unsure about."""

    def __init__(self, model: nn.Module, black: float) -> None:
        super().__init__()
        self.model = model
        self.black = black

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, 10) of images (N, 1, 8, 8)."""
        chances = self.model(images).softmax(1)
        unsure = chances.amax(1) < SURE
        if unsure.any():
            bordered = F.pad(images[unsure], (1, 1, 1, 1), value=self.black)
            views = torch.cat([bordered[:, :, top : top + 8, left : left + 8] for top, left in VIEWS])
            chances[unsure] = self.model(views).softmax(1).unflatten(0, (len(VIEWS), -1)).mean(0)
        return cast(torch.Tensor, chances)


def shifted(bordered: torch.Tensor) -> torch.Tensor:
    """Of each image (N, 1, 10, 10) a crop (N, 1, 8, 8) at a random place."""
    top, left = torch.randint(3, (2, len(bordered)), device=bordered.device)
    crops = bordered.unfold(2, 8, 1).unfold(3, 8, 1)
    return crops[torch.arange(len(bordered), device=bordered.device), :, top, left]


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


def setup(run: Run) -> Net:
    """Build the network and warm up the libraries on a throw-away copy: the clock is not running."""
    config = run.config
    scratch = build(run)
    step(
        scratch,
        torch.optim.SGD(scratch.parameters(), lr=0.1),
        *run.sample(config.batch_size),
        config.label_smoothing,
    )
    with torch.no_grad():
        Looks(scratch.eval(), 0.0)(run.sample(1000)[0])
    return build(run)


def train(run: Run, model: Net) -> None:
    """Train until the referee says that the target is reached, or to the end of the last cycle."""
    config = run.config
    pixels, labels = run.arrays("train")
    assert labels is not None
    images = pixels.float()
    mean, std = images.mean(), images.std(correction=0)  # as in the images that run.evaluate gives
    bordered = (F.pad(images, (1, 1, 1, 1)) - mean) / std
    looks = Looks(model, float(-mean / std))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    learner = DistributedDataParallel(model) if run.world_size > 1 else model
    steps = len(images) // config.batch_size
    for epoch in range(config.cycles * config.epochs):
        in_cycle = epoch % config.epochs
        if in_cycle == 0:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                config.lr,
                total_steps=config.epochs * steps,
                pct_start=0.25,
                anneal_strategy="linear",
                cycle_momentum=False,
            )
        views = shifted(bordered)
        for batch in torch.randperm(len(views), device=run.device).split(config.batch_size)[:steps]:
            mine = batch[run.rank :: run.world_size]  # ranks are seeded alike and draw the same batches
            step(learner, optimizer, views[mine], labels[mine], config.label_smoothing)
            schedule.step()
        if in_cycle >= min(config.first_evaluation, config.epochs - 1):
            verdict = run.evaluate(looks)
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
