"""ResNet-50 in few epochs of small images, in one process or in several.

What each part is for; what each is worth is in README.md:

* Three quarters of the epochs see 160 pixels, the rest 192. A test image has 256: objects appear larger in random crops
  than in test images, and a larger test image makes up for that.
* Convolutions of stride 2 see blurred inputs, as they would otherwise alias.
* Label smoothing, and a rate that rises for two epochs and falls to zero in a straight line: both for short trainings.
* Normalisation and biases do not decay.
* An image and its mirror image are both asked for.
* On a GPU: bfloat16, channels last, and torch.compile, which meets every size before the clock starts.
"""

from collections.abc import Iterator
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet50

from kit import Run

WARM_UP_EPOCHS = 2


class Blurred(nn.Module):
    """A convolution that is shown its inputs through a binomial filter of 3x3."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row).repeat(conv.in_channels, 1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """As the convolution."""
        blurred = F.conv2d(images, self.get_buffer("kernel"), padding=1, groups=self.conv.in_channels)
        return cast(torch.Tensor, self.conv(blurred))


def blur_strided(module: nn.Module) -> None:
    """Blur what all convolutions of stride 2 see, but for the image itself."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.stride != (1, 1) and child.in_channels > 3:
            setattr(module, name, Blurred(child))
        else:
            blur_strided(child)


def mixed_precision(run: Run) -> torch.autocast:
    """Products in bfloat16 on a GPU; on the CPU everything stays float32."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")


def sizes(run: Run) -> list[int]:
    """Side of the training images, epoch by epoch."""
    small = run.config.epochs * 3 // 4
    return [run.config.small_size] * small + [run.config.large_size] * (run.config.epochs - small)


def make_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """SGD that lets weights decay, and nothing else."""
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": run.config.weight_decay},
        {"params": [each for each in model.parameters() if each.ndim == 1]},
    ]
    return torch.optim.SGD(groups, lr=run.config.lr, momentum=0.9, fused=run.device.type == "cuda")


def step(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """One optimizer step."""
    with mixed_precision(run):
        loss = F.cross_entropy(model(images), labels, label_smoothing=run.config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def scores(run: Run, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Of images and of their mirror images."""
    with mixed_precision(run):
        return cast(torch.Tensor, model(images) + model(images.flip(-1)))


def warm_up(run: Run, model: nn.Module) -> None:
    """Compile for every shape that will come, and put the weights back."""
    config = run.config
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = make_optimizer(run, model)
    for size in sorted(set(sizes(run))):
        batch = run.sample(config.batch_size // run.world_size, size=size, channels_last=True)
        step(run, model, optimizer, *batch)
    model.eval()
    with torch.no_grad():
        scores(run, model, run.sample(config.test_batch_size, size=config.test_size, channels_last=True)[0])
    model.train()
    optimizer.zero_grad(set_to_none=True)
    model.load_state_dict(before)


def setup(run: Run) -> tuple[nn.Module, nn.Module]:
    """Build the network, and compile it where there is a GPU: the clock is not running."""
    net: nn.Module = resnet50(num_classes=run.config.classes, zero_init_residual=True)
    blur_strided(net)
    net = net.to(memory_format=torch.channels_last).to(run.device)
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        net.compile(dynamic=False)
        warm_up(run, net)
    return net, DistributedDataParallel(net) if run.world_size > 1 else net


def rates(run: Run, steps_per_epoch: int) -> Iterator[float]:
    """Of every step: up to `lr` in two epochs, down to zero at the end."""
    total, peak = run.config.epochs * steps_per_epoch, min(WARM_UP_EPOCHS, run.config.epochs / 2) * steps_per_epoch
    for step in range(total):
        yield run.config.lr * min((step + 1) / peak, (total - step) / (total - peak), 1)


def train(run: Run, nets: tuple[nn.Module, nn.Module]) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config, (net, model) = run.config, nets
    loader = run.loader(
        "train",
        config.batch_size // run.world_size,
        drop_last=True,
        size=sizes(run),
        crop_area=(0.08, 1),
        flip=True,
        channels_last=True,
    )
    optimizer = make_optimizer(run, model)
    rate = rates(run, len(loader))
    for epoch in range(config.epochs):
        for (images, labels), lr in zip(loader, rate, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = lr
            step(run, model, optimizer, images, labels)
        if epoch + 1 >= config.first_evaluation:
            net.eval()
            verdict = run.evaluate(
                lambda images: scores(run, net, images),  # in several processes each its share
                batch_size=config.test_batch_size,
                size=config.test_size,
                channels_last=True,
            )
            net.train()
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
