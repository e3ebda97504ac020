"""Whole models and training steps against published figures and the rule for plain networks."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torchvision.models as zoo
from torch import nn

from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter

PUBLISHED: dict[str, Any] = {
    "alexnet": zoo.AlexNet_Weights,
    "vgg11": zoo.VGG11_Weights,
    "vgg16": zoo.VGG16_Weights,
    "resnet18": zoo.ResNet18_Weights,
    "resnet34": zoo.ResNet34_Weights,
    "resnet50": zoo.ResNet50_Weights,
    "resnext50_32x4d": zoo.ResNeXt50_32X4D_Weights,
    "wide_resnet50_2": zoo.Wide_ResNet50_2_Weights,
    "densenet121": zoo.DenseNet121_Weights,
    "squeezenet1_1": zoo.SqueezeNet1_1_Weights,
    "googlenet": zoo.GoogLeNet_Weights,
    "mobilenet_v2": zoo.MobileNet_V2_Weights,
    "shufflenet_v2_x1_0": zoo.ShuffleNet_V2_X1_0_Weights,
    "shufflenet_v2_x1_5": zoo.ShuffleNet_V2_X1_5_Weights,
    "efficientnet_b0": zoo.EfficientNet_B0_Weights,
    "convnext_tiny": zoo.ConvNeXt_Tiny_Weights,
    "regnet_y_400mf": zoo.RegNet_Y_400MF_Weights,
    "swin_t": zoo.Swin_T_Weights,
    "vit_b_16": zoo.ViT_B_16_Weights,
}
ATTENTION = {"swin_t", "vit_b_16"}


def model_named(name: str, **options: Any) -> nn.Module:
    """All zeros: drawing weights would take longer than counting."""
    if name == "googlenet":
        options |= {"aux_logits": False, "init_weights": False}
    # RegNet's constructor reads tensors.
    with nullcontext() if name.startswith("regnet") else torch.device("meta"):
        model: nn.Module = zoo.get_model(name, weights=None, **options)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    return model


def flops(work: Callable[[], Any], *, without_recomputation: bool = False) -> int:
    counter = OperatorCounter()
    with counting(Phases(counter)), counter:
        work()
    counted = counter.counted()
    assert not counted.uncounted
    return sum(
        row.flops - (row.recomputed_flops if without_recomputation else 0)
        for row in counted.operators
        if row.phase == "training"
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_forward_pass_costs_what_torchvision_publishes(name: str) -> None:
    model = model_named(name).eval()
    with torch.no_grad():
        counted = flops(lambda: model(torch.zeros(1, 3, 224, 224)))
    published_gmac = PUBLISHED[name].DEFAULT.meta["_ops"]
    assert round(counted / 2e9, 3) == pytest.approx(published_gmac, abs=5e-4)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - ATTENTION))
def test_a_training_step_costs_three_forwards_less_the_first_layers_input_gradient(name: str) -> None:
    model = model_named(name, num_classes=10)
    images = torch.zeros(2, 3, 64, 64)
    first_layer = 0

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal first_layer
        if inputs[0].data_ptr() == images.data_ptr():
            assert isinstance(module, nn.Conv2d)
            first_layer = 2 * output.numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        forward = flops(lambda: model(images))
    for hook in hooks:
        hook.remove()
    assert first_layer > 0
    step = flops(lambda: model(images).sum().backward())
    assert step == 3 * forward - first_layer


@pytest.mark.parametrize("name", sorted(ATTENTION))
def test_a_step_of_a_transformer_costs_three_forwards_once_what_attention_computes_again_is_left_out(name: str) -> None:
    model = model_named(name, num_classes=10, **({"image_size": 64} if name == "vit_b_16" else {}))
    images = torch.zeros(2, 3, 64, 64)
    patches = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        forward = flops(lambda: model(images))
        first_layer = flops(lambda: patches(images))
    step = flops(lambda: model(images).sum().backward(), without_recomputation=True)
    assert step == 3 * forward - first_layer
