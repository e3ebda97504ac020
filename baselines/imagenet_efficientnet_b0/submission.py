"""EfficientNet-B0 to the level of AlexNet, in seven epochs of growing images.

What each part is for:

* The network does with a fifth of a billion multiply-adds what AlexNet needs three quarters of a billion for; most of
  what it does is 1x1 convolutions.
* Epochs of 128 to 192 pixels cost a third to three quarters of one at 224, and early on nothing is missed. A test image
  has 224: objects appear larger in random crops than in test images, and a larger test image makes up for that.
* Dropout and stochastic depth are off: in seven epochs nothing is memorised.
* One-cycle rate, label smoothing, decay of weights alone.
* An image and its mirror image are both asked for.
* On a GPU: bfloat16, channels last, and torch.compile, which meets every size before the clock starts.
"""

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import efficientnet_b0

from kit import Run


def mixed_precision(run: Run) -> torch.autocast:
    """Products in bfloat16 on a GPU; on the CPU everything stays float32."""
    return torch.autocast(run.device.type, torch.bfloat16, enabled=run.device.type == "cuda")


def make_optimizer(run: Run, model: nn.Module) -> torch.optim.Optimizer:
    """SGD that lets weights decay, and nothing else."""
    groups = [
        {"params": [each for each in model.parameters() if each.ndim > 1], "weight_decay": run.config.weight_decay},
        {"params": [each for each in model.parameters() if each.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=run.config.lr, momentum=0.9, nesterov=True, fused=run.device.type == "cuda")


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
    for size in sorted(set(config.sizes)):
        step(run, model, optimizer, *run.sample(config.batch_size, size=size, channels_last=True))
    model.eval()
    with torch.no_grad():
        scores(run, model, run.sample(config.test_batch_size, size=config.test_size, channels_last=True)[0])
    model.train()
    optimizer.zero_grad(set_to_none=True)
    model.load_state_dict(before)


def setup(run: Run) -> nn.Module:
    """Build the network, and compile it where there is a GPU: the clock is not running."""
    model: nn.Module = efficientnet_b0(num_classes=run.config.classes, dropout=0.0, stochastic_depth_prob=0.0)
    model = model.to(memory_format=torch.channels_last).to(run.device)
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        model.compile(dynamic=False)
        warm_up(run, model)
    return model


def train(run: Run, model: nn.Module) -> None:
    """Train until the referee says that the target is reached, or to the last epoch."""
    config = run.config
    epochs = len(config.sizes)
    loader = run.loader(
        "train",
        config.batch_size,
        drop_last=True,
        size=config.sizes,
        crop_area=(0.2, 1),
        flip=True,
        channels_last=True,
    )
    optimizer = make_optimizer(run, model)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=epochs * len(loader), anneal_strategy="linear", cycle_momentum=False
    )
    for epoch in range(epochs):
        for images, labels in loader:
            step(run, model, optimizer, images, labels)
            schedule.step()
        if epoch + 1 >= config.first_evaluation:
            model.eval()
            verdict = run.evaluate(
                lambda images: scores(run, model, images),
                batch_size=config.test_batch_size,
                size=config.test_size,
                channels_last=True,
            )
            model.train()
            run.log(epoch=epoch + 1, accuracy=verdict.value)
            if verdict.reached:
                return
