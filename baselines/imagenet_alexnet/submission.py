"""AlexNet as torchvision has it: the recipe that the efficiency of later ones is counted from.

What each part is for:

* SGD with a low rate and no warm-up: without batch normalisation larger steps diverge, and smaller ones are not needed.
* The rate falls along a cosine. With three sudden drops the same network ends 0.03 points below the target.
* An image and its mirror image are both asked for, for the same reason.
* On a GPU, products in bfloat16 and images that lie channels last reach the tensor cores.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import alexnet

from kit import Run


def mixed_precision(run: Run) -> torch.autocast:
    """Products in bfloat16 on a GPU; on the CPU everything stays float32."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")


def build(run: Run) -> nn.Module:
    """A fresh network."""
    model: nn.Module = alexnet(num_classes=run.config.classes)
    return model.to(memory_format=torch.channels_last).to(run.device)


def step(
    run: Run, model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> None:
    """One optimizer step."""
    with mixed_precision(run):
        loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def setup(run: Run) -> nn.Module:
    """Build the network; where there is a GPU, let its libraries choose their kernels. The clock is not running."""
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        scratch = build(run)
        batch = run.sample(run.config.batch_size, size=run.config.size, channels_last=True)
        step(run, scratch, torch.optim.SGD(scratch.parameters(), lr=0.01), *batch)
    return build(run)


def train(run: Run, model: nn.Module) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config = run.config
    loader = run.loader(
        "train",
        config.batch_size,
        drop_last=True,
        size=config.size,
        crop_area=(0.08, 1),
        flip=True,
        channels_last=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)

    def predict(images: torch.Tensor) -> torch.Tensor:
        with mixed_precision(run):
            return cast(torch.Tensor, model(images) + model(images.flip(-1)))

    for epoch in range(config.epochs):
        for images, labels in loader:
            step(run, model, optimizer, images, labels)
        schedule.step()
        if epoch + 1 >= config.first_evaluation:
            model.eval()
            verdict = run.evaluate(predict, size=config.size, channels_last=True)
            model.train()
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
