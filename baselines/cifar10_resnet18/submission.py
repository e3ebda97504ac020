"""ResNet-18 for images of 32 pixels: the recipe that people start from, in one process or in several.

What each part is for:

* The first layer is 3x3 with stride 1 and without pooling: at 32 pixels the one made for ImageNet throws too much away.
* Crops, flips and cutout keep 200 epochs from memorising 50,000 images; weight decay and a cosine rate do the rest.
* On a GPU, products in bfloat16 and images that lie channels last reach the tensor cores.
* With several processes each sees its share of every batch, and DistributedDataParallel averages their gradients.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from kit import Run


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()  # changes nothing
        if (inputs, 1) != (outputs, stride):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        hidden = F.relu(self.norm1(self.conv1(images)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(images))


class Net(nn.Module):
    """32x32 -> 16x16 -> 8x8 -> 4x4 -> 10 scores."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        inputs = width
        for outputs, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of images (N, 3, 32, 32)."""
        return cast(torch.Tensor, self.layers(images))


def mixed_precision(run: Run) -> torch.autocast:
    """Products in bfloat16 on a GPU; on the CPU everything stays float32."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")


def build(run: Run) -> nn.Module:
    """A fresh network, the same in every process: all are seeded alike."""
    return Net(run.config.width).to(memory_format=torch.channels_last).to(run.device)


def step(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """One optimizer step."""
    with mixed_precision(run):
        loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def setup(run: Run) -> tuple[nn.Module, nn.Module]:
    """Build the network and warm up the libraries on a throw-away copy: the clock is not running."""
    torch.backends.cudnn.benchmark = True
    scratch = build(run)
    batch = run.sample(run.config.batch_size // run.world_size, channels_last=True)
    step(run, scratch, torch.optim.SGD(scratch.parameters(), lr=0.1), *batch)
    net = build(run)
    return net, DistributedDataParallel(net) if run.world_size > 1 else net


def train(run: Run, nets: tuple[nn.Module, nn.Module]) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config, (net, model) = run.config, nets
    loader = run.loader(
        "train",
        config.batch_size // run.world_size,
        drop_last=True,
        flip=True,
        crop_padding=4,
        cutout=config.cutout,
        channels_last=True,
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    for epoch in range(config.epochs):
        for images, labels in loader:
            step(run, model, optimizer, images, labels)
        schedule.step()
        with mixed_precision(run):
            verdict = run.evaluate(net, channels_last=True)  # each process its share, without the others
        run.log(epoch=epoch + 1, accuracy=verdict.value)
        if verdict.reached:
            return
