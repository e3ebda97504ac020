"""ResNet-9 in ten epochs: what was fastest in 2019, with Page's bag of tricks.

What each part is for; the epochs that each saved are in README.md:

* Colours of neighbouring pixels say much the same. The first layer is fixed to take that apart (it whitens patches of
  3x3 pixels), so that the layers above learn at one pace.
* Batch normalisation over groups of 32 images, and no learned scales, with large steps for its shifts: noise that
  generalises. CELU is smoother than ReLU.
* Label smoothing, a rate that rises for a fifth of the epochs and falls for three, then stays low for two, over which
  a moving average of the weights gathers: that average is what is evaluated.
* An image and its mirror image are both asked for at the end. This is worth several epochs of training.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from kit import Run

AVERAGE_EVERY = 5
"""Steps."""
BIAS_RATE = 64
"""Steps of the shifts, by those of the weights."""


class GhostNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of groups of a batch, with scales that stay one."""

    def __init__(self, channels: int, group: int) -> None:
        super().__init__(channels)
        self.weight.requires_grad_(False)
        self.group = group

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W); in training each group of images is normalised by itself."""
        count, groups = len(images), max(1, len(images) // self.group)
        if not self.training or count % groups:
            return super().forward(images)
        assert self.running_mean is not None
        assert self.running_var is not None
        # Every image of a group lends its channels to one wide image: a view, as images lie channels first.
        wide = images.view(count // groups, groups * self.num_features, *images.shape[2:])
        mean, var, scale, shift = (
            each.repeat(groups) for each in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        out = F.batch_norm(wide, mean, var, scale, shift, training=True, momentum=0.1, eps=self.eps)
        self.running_mean.copy_(mean.view(groups, -1).mean(0))
        self.running_var.copy_(var.view(groups, -1).mean(0))
        return out.view_as(images)


class ConvNorm(nn.Module):
    """A convolution; pooling, where there is any, comes before the normalisation, which then has less to do."""

    def __init__(self, inputs: int, outputs: int, kernel: int, pool: int, group: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.pool = nn.MaxPool2d(pool)
        self.norm = GhostNorm(outputs, group)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / pool, W / pool)."""
        return F.celu(self.norm(self.pool(self.conv(images))), 0.3)


class Residual(nn.Module):
    """Layers beside a shortcut."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The shape stays."""
        return images + cast(torch.Tensor, self.layers(images))


class Net(nn.Module):
    """32x32 -> 16x16 -> 8x8 -> 4x4 -> 10 scores."""

    def __init__(self, width: int, group: int) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 27, 3, padding=1, bias=False).requires_grad_(False)

        def layer(inputs: int, outputs: int, kernel: int = 3, pool: int = 1) -> ConvNorm:
            return ConvNorm(inputs, outputs, kernel, pool, group)

        self.layers = nn.Sequential(
            layer(27, width, kernel=1),
            layer(width, 2 * width, pool=2),
            Residual(layer(2 * width, 2 * width), layer(2 * width, 2 * width)),
            layer(2 * width, 4 * width, pool=2),
            layer(4 * width, 8 * width, pool=2),
            Residual(layer(8 * width, 8 * width), layer(8 * width, 8 * width)),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(8 * width, 10, bias=False),
        )

    @torch.no_grad()
    def fit_whitening(self, images: torch.Tensor) -> None:
        """Make the first layer's outputs uncorrelated, and alike in variance, on images (N, 3, H, W)."""
        patches = images.float().unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 27)
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        self.whiten.weight.copy_((directions / (variances + 0.01).sqrt()).T.view(27, 3, 3, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of images (N, 3, 32, 32)."""
        return cast(torch.Tensor, self.layers(self.whiten(images))) / 16


def mixed_precision(run: Run) -> torch.autocast:
    """Products in bfloat16 on a GPU; on the CPU everything stays float32."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")


def build(run: Run) -> Net:
    """A fresh network."""
    return Net(run.config.width, run.config.ghost_batch).to(run.device)


def make_optimizer(run: Run, model: Net) -> torch.optim.Optimizer:
    """Shifts move far, and so decay the less."""
    config = run.config
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    shifts = [parameter for name, parameter in trained if name.endswith("bias")]
    weights = [parameter for name, parameter in trained if not name.endswith("bias")]
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": config.weight_decay},
            {"params": shifts, "lr": BIAS_RATE * config.lr, "weight_decay": config.weight_decay / BIAS_RATE},
        ],
        lr=config.lr,
        momentum=0.9,
        nesterov=True,
    )


def rate(progress: float, epochs: int) -> float:
    """Share of the peak rate after so many epochs: 1 after a fifth of them, 0.1 from two before the end."""
    peak, low = epochs / 5, max(epochs - 2, epochs / 2)
    if progress < peak:
        return progress / peak
    return max(0.1, 1 - 0.9 * (progress - peak) / (low - peak))


def step(run: Run, model: Net, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    """One optimizer step."""
    with mixed_precision(run):
        loss = F.cross_entropy(model(images), labels, label_smoothing=run.config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@torch.no_grad()
def gather(average: Net, model: Net, share: float) -> None:
    """Move an average of weights and statistics towards what they are now."""
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, share)


def setup(run: Run) -> tuple[Net, Net]:
    """Build the network and its average, and warm up the libraries on a throw-away copy: the clock is not running."""
    torch.backends.cudnn.benchmark = True
    scratch = build(run)
    images, labels = run.sample(run.config.batch_size)
    scratch.fit_whitening(images)
    step(run, scratch, make_optimizer(run, scratch), images, labels)
    return build(run), build(run).eval()


def train(run: Run, nets: tuple[Net, Net]) -> None:
    """Train until the referee says that the target is reached, or for twice the planned epochs."""
    config, (model, average) = run.config, nets
    loader = run.loader("train", config.batch_size, flip=True, crop_padding=4)
    optimizer = make_optimizer(run, model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / len(loader), config.epochs))
    steps = 0

    def predict(images: torch.Tensor) -> torch.Tensor:
        with mixed_precision(run):
            return cast(torch.Tensor, average(images) + average(images.flip(-1)))

    for epoch in range(2 * config.epochs):  # after the planned ones, go on at the lowest rate
        for images, labels in loader:
            if steps == 0:
                model.fit_whitening(images[:, :, 4:-4, 4:-4])  # where no crop can reach the padding
            step(run, model, optimizer, images, labels)
            schedule.step()
            steps += 1
            if steps % AVERAGE_EVERY == 0:
                gather(average, model, 1 if steps == AVERAGE_EVERY else 1 - config.ema_decay**AVERAGE_EVERY)
        if epoch + 1 >= config.first_evaluation:
            verdict = run.evaluate(predict)
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
