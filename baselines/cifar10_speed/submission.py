"""94 % of CIFAR-10 in eight epochs: today's generation of recipes, with everything on the device.

What each part is for; where each comes from is in README.md:

* The data set is normalised, flipped and padded once; a batch is one gather of random windows. No loader.
* Every other epoch all images are mirrored: in two epochs each is seen both ways, where drawing would often repeat one.
* The first layer is fixed to whiten patches of 2x2 pixels; only its shifts learn, and only for three epochs.
* Other convolutions begin by passing their inputs on (dirac), so that the network is shallow at first.
* Muon moves filters by the orthogonal matrix nearest to their momentum: all directions learn at one pace. Filters keep
  their length, so that a step is a turn; those of one shape are orthogonalized together.
* Six views of each test image are asked for in one batch: the image, shifted up left and down right, and mirrored.
* On a GPU it computes in half precision (the loss is a sum over the batch, so that gradients do not underflow), and
  torch.compile fuses what lies between the convolutions; both, and the warm-up, happen before the clock starts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from kit import Run

CROP = 2
"""Pixels that a window moves, at most."""
WHITEN_EPOCHS = 3
"""For which the shifts of the first layer learn."""
LOWEST_RATE = 0.02
"""Of the rate at the start, for epochs beyond the planned ones."""
QUINTIC = (3.4445, -4.775, 2.0315)
"""Keller Jordan's coefficients: singular values between 0 and 1 end near 1 in few iterations."""


class Norm(nn.BatchNorm2d):
    """Batch normalisation without learned scales, by statistics of the last few batches."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-12, momentum=0.4)
        self.weight.requires_grad_(False)


class Conv(nn.Conv2d):
    """3x3; begins as what passes its inputs on, with random filters beside that."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        nn.init.dirac_(self.weight[:inputs])


def block(inputs: int, outputs: int) -> list[nn.Module]:
    """Two convolutions and a pooling: (N, inputs, H, W) -> (N, outputs, H / 2, W / 2)."""
    first = [Conv(inputs, outputs), nn.MaxPool2d(2), Norm(outputs), nn.GELU()]
    return [*first, Conv(outputs, outputs), Norm(outputs), nn.GELU()]


class Net(nn.Module):
    """32x32 -> 31x31 -> 15x15 -> 7x7 -> 3x3 -> 10 scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        layers = [*block(24, width), *block(width, 4 * width), *block(4 * width, 4 * width)]
        self.layers = nn.Sequential(nn.GELU(), *layers, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(4 * width, 10, bias=False)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())

    @torch.no_grad()
    def fit_whitening(self, images: torch.Tensor) -> None:
        """Make the first layer's outputs uncorrelated, and alike in variance, on images (N, 3, H, W)."""
        patches = images.float().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / (variances + 5e-4).sqrt()).T.view(12, 3, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))  # what one clips at zero, the other keeps

    def forward(self, images: torch.Tensor, whiten_learns: bool) -> torch.Tensor:
        """Scores (N, 10) of images (N, 3, 32, 32)."""
        assert self.whiten.bias is not None
        shifts = self.whiten.bias if whiten_learns else self.whiten.bias.detach()
        hidden: torch.Tensor = self.layers(F.conv2d(images, self.whiten.weight, shifts))
        return cast(torch.Tensor, self.head(hidden)) / hidden.shape[1]


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Near to U V^T for matrices U S V^T, (B, rows, columns), by three steps of Newton and Schulz."""
    near: torch.Tensor = matrices.bfloat16() if matrices.is_cuda else matrices
    near = near / (near.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if tall := near.shape[1] > near.shape[2]:
        near = near.transpose(1, 2)
    for _ in range(3):
        a, b, c = QUINTIC
        gram = near @ near.mT
        near = a * near + (b * gram + c * gram @ gram) @ near
    return near.transpose(1, 2) if tall else near


def turn(
    filters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    momenta: Sequence[torch.Tensor],
    lr: torch.Tensor,
    momentum: float,
) -> None:
    """One step of Muon for filters of one shape, with Nesterov's momentum; in place."""
    ahead = []
    for gradient, average in zip(gradients, momenta, strict=True):
        average.mul_(momentum).add_(gradient)
        ahead.append(gradient + momentum * average)
    directions = orthogonalize(torch.stack(ahead).flatten(2))
    for weights, direction in zip(filters, directions, strict=True):
        weights.mul_(len(weights) ** 0.5 / weights.norm())
        weights.sub_(lr * direction.view_as(weights).to(weights.dtype))


class Muon(torch.optim.Optimizer):
    """One parameter group for each shape of filters."""

    def __init__(self, filters: Sequence[torch.Tensor], lr: float, momentum: float, turn: Callable[..., None]) -> None:
        shapes = dict.fromkeys(weights.shape for weights in filters)
        groups = [{"params": [weights for weights in filters if weights.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "momentum": momentum})
        self._turn = turn

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Turn all filters."""
        for group in self.param_groups:
            filters = group["params"]
            for weights in filters:
                if weights not in self.state:
                    self.state[weights]["momentum"] = torch.zeros_like(weights)
            lr = torch.tensor(group["lr"])  # for each new number, a compiled function would be compiled again
            momenta = [self.state[weights]["momentum"] for weights in filters]
            self._turn(filters, [weights.grad for weights in filters], momenta, lr, group["momentum"])


@dataclass
class Trainer:
    """The network, and functions that are compiled where there is a GPU."""

    model: Net
    dtype: torch.dtype
    loss: Callable[[torch.Tensor, torch.Tensor, bool], torch.Tensor]
    scores: Callable[[torch.Tensor], torch.Tensor]
    turn: Callable[..., None]

    def optimizers(self, run: Run) -> list[torch.optim.Optimizer]:
        """SGD for the shifts and the head, Muon for the filters; each group knows the rate that it begins with."""
        config, model = run.config, self.model
        filters = [weights for weights in model.layers.parameters() if weights.ndim == 4]
        shifts = [weights for weights in model.layers.parameters() if weights.ndim == 1 and weights.requires_grad]
        decay = config.weight_decay * config.batch_size  # for a loss that is a sum, whatever the rate
        groups = [
            {"params": weights, "lr": lr, "weight_decay": decay / lr}
            for weights, lr in (
                ([model.whiten.bias], config.bias_lr),
                (shifts, config.bias_lr),
                ([model.head.weight], config.head_lr),
            )
        ]
        sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=run.device.type == "cuda")
        muon = Muon(filters, config.lr, 0.6, self.turn)
        for group in (*sgd.param_groups, *muon.param_groups):
            group["first_lr"] = group["lr"]
        return [sgd, muon]

    def step(
        self, optimizers: list[torch.optim.Optimizer], images: torch.Tensor, labels: torch.Tensor, whiten_learns: bool
    ) -> None:
        """One step of both."""
        self.loss(images, labels, whiten_learns).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def build(run: Run) -> Trainer:
    """A fresh network."""
    gpu = run.device.type == "cuda"
    dtype = torch.float16 if gpu else torch.float32
    model = Net(run.config.width).to(memory_format=torch.channels_last).to(run.device, dtype)
    for module in model.modules():
        if isinstance(module, Norm):
            module.float()

    def loss(images: torch.Tensor, labels: torch.Tensor, whiten_learns: bool) -> torch.Tensor:
        scores = model(images, whiten_learns)
        return F.cross_entropy(scores, labels, label_smoothing=run.config.label_smoothing, reduction="sum")

    def scores(images: torch.Tensor) -> torch.Tensor:
        padded = F.pad(images, (1, 1, 1, 1), "reflect")
        views = [images, padded[..., :-2, :-2], padded[..., 2:, 2:]]
        views += [view.flip(-1) for view in views]
        each = model(torch.cat(views), False).unflatten(0, (6, -1))
        return cast(torch.Tensor, each[0] + each[3] + (each[1] + each[2] + each[4] + each[5]) / 2)

    if gpu:
        loss = torch.compile(loss, mode="max-autotune", dynamic=False)
        scores = torch.compile(scores, mode="max-autotune-no-cudagraphs", dynamic=False)
    return Trainer(model, dtype, loss, scores, torch.compile(turn, dynamic=False) if gpu else turn)


def setup(run: Run) -> Trainer:
    """Build, and where there is a GPU compile and warm up on random data: the clock is not running."""
    trainer = build(run)
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        warm_up(run, trainer)
    return trainer


def warm_up(run: Run, trainer: Trainer) -> None:
    """Do whatever will be done once, on random data, and put the weights back."""
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    optimizers = trainer.optimizers(run)
    for whiten_learns in (True, False) * 3:  # CUDA graphs take a few calls
        images, labels = run.sample(run.config.batch_size, dtype=trainer.dtype, channels_last=True)
        trainer.step(optimizers, images, labels, whiten_learns)
    trainer.model.fit_whitening(images)
    trainer.model.eval()
    with torch.no_grad():
        trainer.scores(run.sample(run.config.test_batch_size, dtype=trainer.dtype, channels_last=True)[0])
    trainer.model.train()
    trainer.model.load_state_dict(before)


def batches(
    windows: torch.Tensor, labels: torch.Tensor, batch_size: int, mirrored: bool
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of whole batches: of every image one of its `windows`, (N, 3, places, places, 32, 32)."""
    count, places = len(labels), windows.shape[2]
    order = torch.randperm(count, device=labels.device)
    down, right = torch.randint(places, (2, count), device=labels.device)
    for start in range(0, count - batch_size + 1, batch_size):
        chosen = order[start : start + batch_size]
        images = windows[chosen, :, down[chosen], right[chosen]]
        images = images.flip(-1) if mirrored else images
        yield images.contiguous(memory_format=torch.channels_last), labels[chosen]


def train(run: Run, trainer: Trainer) -> None:
    """Train until the referee says that the target is reached, or for twice the planned epochs."""
    config, model = run.config, trainer.model
    pixels, labels = run.arrays("train")
    assert labels is not None
    images = pixels.float() / 255
    std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0, keepdim=True)
    images = ((images - mean) / std).to(trainer.dtype)  # as the kit does with test images
    model.fit_whitening(images[:5000])
    flipped = torch.rand(len(images), 1, 1, 1, device=run.device) < 0.5
    images = F.pad(torch.where(flipped, images.flip(-1), images), (CROP,) * 4, "reflect")
    windows = images.unfold(2, 32, 1).unfold(3, 32, 1)

    optimizers = trainer.optimizers(run)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    steps_per_epoch, step = len(labels) // config.batch_size, 0
    for epoch in range(2 * config.epochs):
        for batch in batches(windows, labels, config.batch_size, mirrored=epoch % 2 == 1):
            for number, group in enumerate(groups):  # the first is the whitening layer's
                planned = (WHITEN_EPOCHS if number == 0 else config.epochs) * steps_per_epoch
                group["lr"] = group["first_lr"] * max(1 - step / planned, 0 if number == 0 else LOWEST_RATE)
            trainer.step(optimizers, *batch, whiten_learns=epoch < WHITEN_EPOCHS)
            step += 1
        if epoch + 1 >= config.epochs:
            model.eval()
            verdict = run.evaluate(
                trainer.scores, batch_size=config.test_batch_size, dtype=trainer.dtype, channels_last=True
            )
            model.train()
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
