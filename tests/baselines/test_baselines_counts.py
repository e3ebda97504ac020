"""What baselines cost and how they are built, against published figures and against what their README.md says.

Counted on paper (tests/paper.py); that a real replay comes to the same is in test_baselines_runs.py.
"""

import re
from functools import cache
from typing import Any

import pytest
import torch
import torchvision.models as zoo
from paper import CIFAR10, IMAGENET, Count, PaperRun, count, manifest_of, source_of, without_contents
from support import ROOT
from torch import nn

from kit.catalog import load_track
from kit.submission.static import examine_folder
from kit.track import DatasetSpec

NAMES = (
    "cifar10_resnet18",
    "cifar10_resnet9",
    "cifar10_speed",
    "imagenet_alexnet",
    "imagenet_resnet50",
    "imagenet_efficientnet_b0",
)


def stated(name: str, what: str) -> float:
    """A figure of a README's table, such as `| training operations, 10 epochs | 1.14 PFLOP | ...`."""
    text = (ROOT / "baselines" / name / "README.md").read_text()
    (row,) = re.findall(rf"^\| {re.escape(what)} \| ([\d.]+) ([GTPE])FLOP \|", text, re.MULTILINE)
    return float(row[0]) * {"G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}[row[1]]


def agrees(name: str, what: str, counted: float) -> bool:
    """Whether a README states a count to three digits."""
    return stated(name, what) == pytest.approx(counted, rel=5e-3)


@cache
def speed() -> Count:
    """The whole training of cifar10_speed, 25 steps an epoch, by what the third one adds to two."""
    short, long = (
        count("cifar10_speed", CIFAR10.model_copy(update={"train_count": images})) for images in (5000, 6000)
    )
    more = 25 - 2  # steps per epoch

    def whole(field: str) -> int:
        first, second = (getattr(each, field) for each in (short, long))
        return int(first + more * (second - first))

    step = (long.training - short.training) // 8
    return Count(whole("training"), whole("optimizer"), long.evaluation, (step,))


@cache
def one_epoch(name: str) -> Count:
    """Of trainings whose epochs all cost the same."""
    spec = IMAGENET if name.startswith("imagenet") else CIFAR10
    config = {"first_evaluation": 1} if "first_evaluation" in manifest_of(name).config else {}
    return count(name, spec, epochs=1, **config)


@cache
def resnet50(epochs: int) -> Count:
    """Four epochs, three of small images and one of large ones, as often as they fit."""
    four = count("imagenet_resnet50", IMAGENET, epochs=4, first_evaluation=4)
    return Count(four.training * epochs // 4, 0, four.evaluation, four.per_step)


# ---- what trainings cost


def test_the_speed_recipe_costs_what_its_model_is_published_to_cost() -> None:
    counted = speed()
    assert 2.9e14 <= counted.training + counted.evaluation <= 3.0e14
    assert counted.training <= 3.0e14
    # Three products for each of Muon's three iterations, on 64x216, 64x576, 256x576 and three of 256x2304.
    muon = sum(3 * 2 * (2 * rows**2 * columns + rows**3) for rows, columns in [(64, 216), (64, 576), (256, 576)])
    muon += 3 * 3 * 2 * (2 * 256**2 * 2304 + 256**3)
    assert counted.optimizer == 200 * muon
    assert agrees("cifar10_speed", "training operations per step", counted.per_step[0])
    assert agrees("cifar10_speed", "training operations per epoch", 25 * counted.per_step[0])
    assert agrees("cifar10_speed", "training operations, 8 epochs", counted.training)
    assert agrees("cifar10_speed", "one evaluation, six views", counted.evaluation)


def test_resnet9_costs_what_it_is_published_to_cost() -> None:
    counted = one_epoch("cifar10_resnet9")
    assert 1.13e15 <= 10 * counted.training <= 1.15e15
    assert agrees("cifar10_resnet9", "training operations per step", counted.per_step[0])
    assert agrees("cifar10_resnet9", "training operations per epoch", counted.training)
    assert agrees("cifar10_resnet9", "training operations, 10 epochs", 10 * counted.training)
    assert agrees("cifar10_resnet9", "one evaluation, two views", counted.evaluation)


def test_resnet18_costs_three_percent_more_than_published() -> None:
    counted = one_epoch("cifar10_resnet18")
    assert 200 * counted.training == pytest.approx(32.3e15, rel=0.04)
    assert agrees("cifar10_resnet18", "training operations per step", counted.per_step[0])
    assert agrees("cifar10_resnet18", "training operations per epoch", counted.training)
    assert agrees("cifar10_resnet18", "training operations, 200 epochs", 200 * counted.training)
    assert agrees("cifar10_resnet18", "one evaluation", counted.evaluation)


def test_alexnet_costs_three_forwards_less_the_first_layers_input_gradient() -> None:
    counted = one_epoch("imagenet_alexnet")
    forward, first = 2 * 714_188_480, 2 * 64 * 55 * 55 * 3 * 11 * 11
    assert counted.per_step == (256 * (3 * forward - first),)
    assert counted.training == (IMAGENET.train_count // 256) * counted.per_step[0]
    assert counted.evaluation == 2 * IMAGENET.test_count * forward
    assert agrees("imagenet_alexnet", "training operations per step", counted.per_step[0])
    assert agrees("imagenet_alexnet", "training operations per epoch", counted.training)
    assert agrees("imagenet_alexnet", "training operations, 90 epochs", 90 * counted.training)
    assert agrees("imagenet_alexnet", "one evaluation, two views", counted.evaluation)


def test_sixteen_epochs_of_resnet50_cost_what_they_are_published_to_cost() -> None:
    assert resnet50(16).training == pytest.approx(2.8e17, rel=0.02)
    small, large = resnet50(16).per_step
    assert agrees("imagenet_resnet50", "training operations per step at 160 pixels", small)
    assert agrees("imagenet_resnet50", "training operations per step at 192 pixels", large)
    steps = IMAGENET.train_count // 256
    assert resnet50(16).training == steps * (12 * small + 4 * large)
    for epochs in (16, 32):
        assert agrees("imagenet_resnet50", f"training operations, {epochs} epochs", resnet50(epochs).training)
    assert agrees("imagenet_resnet50", "one evaluation, two views", resnet50(16).evaluation)


def test_efficientnet_stays_below_the_operations_of_the_best_that_was_published() -> None:
    counted = count("imagenet_efficientnet_b0", IMAGENET, evaluations=2)
    assert counted.training <= 1.2e16
    for size, step in zip((128, 160, 192), counted.per_step, strict=True):
        assert agrees("imagenet_efficientnet_b0", f"training operations per step at {size} pixels", step)
    assert agrees("imagenet_efficientnet_b0", "training operations, 7 epochs", counted.training)
    assert agrees("imagenet_efficientnet_b0", "one evaluation, two views", counted.evaluation / 2)


# ---- how networks are built


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(weights.shape) for weights in module.parameters()]


def built(name: str, *arguments: Any) -> nn.Module:
    with torch.device("meta"):
        net: nn.Module = source_of(name).Net(*arguments)
    return net


def size(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())


def test_resnet18_is_torchvisions_with_a_first_layer_for_small_images() -> None:
    with torch.device("meta"):
        published = zoo.resnet18(num_classes=10)
        published.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    ours = built("cifar10_resnet18", 64)
    assert sorted(shapes(ours)) == sorted(shapes(published))
    assert size(ours) == 11_173_962


def test_resnet9_has_the_published_convolutions() -> None:
    net = built("cifar10_resnet9", 64, 32)
    convolutions = [tuple(it.weight.shape) for it in net.modules() if isinstance(it, nn.Conv2d)]
    residual = [(128, 128, 3, 3)] * 2, [(512, 512, 3, 3)] * 2
    assert convolutions == [
        *[(27, 3, 3, 3), (64, 27, 1, 1), (128, 64, 3, 3), *residual[0]],
        *[(256, 128, 3, 3), (512, 256, 3, 3), *residual[1]],
    ]


def test_the_speed_network_has_the_published_layers() -> None:
    net = built("cifar10_speed", 64)
    convolutions = [tuple(it.weight.shape) for it in net.modules() if isinstance(it, nn.Conv2d)]
    assert convolutions == [
        *[(24, 3, 2, 2), (64, 24, 3, 3), (64, 64, 3, 3), (256, 64, 3, 3)],
        *[(256, 256, 3, 3)] * 3,
    ]
    assert sum(weights.numel() for weights in net.parameters() if weights.ndim > 1) == 1_970_464


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("imagenet_alexnet", 61_100_840), ("imagenet_resnet50", 25_557_032), ("imagenet_efficientnet_b0", 5_288_548)],
)
def test_an_imagenet_network_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    with without_contents():
        made = source_of(name).setup(PaperRun(name, IMAGENET, 1))
        assert size(made[0] if isinstance(made, tuple) else made) == parameters


def test_strided_convolutions_of_resnet50_see_blurred_inputs_and_the_image_is_left_alone() -> None:
    module = source_of("imagenet_resnet50")
    net = zoo.resnet50(num_classes=10)
    module.blur_strided(net)
    blurred = [name for name, it in net.named_modules() if isinstance(it, module.Blurred)]
    assert blurred == [f"layer{n}.0.{what}" for n in (2, 3, 4) for what in ("conv2", "downsample.0")]
    checkered = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float().expand(1, 128, 8, 8)
    smooth = torch.nn.functional.conv2d(checkered, net.layer2[0].conv2.kernel, padding=1, groups=128)
    assert torch.allclose(smooth[..., 1:-1, 1:-1], torch.tensor(0.5))


# ---- what recipes are made of


def test_muons_directions_are_nearly_orthogonal_whatever_the_shape() -> None:
    module = source_of("cifar10_speed")
    for shape in ((2, 16, 40), (1, 40, 16)):
        directions = module.orthogonalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        assert directions.shape == shape
        singular = torch.linalg.svdvals(directions)
        assert singular.max() < 1.4
        assert singular.median() > 0.5


@pytest.mark.parametrize(("name", "side"), [("cifar10_speed", 2), ("cifar10_resnet9", 3)])
def test_a_fitted_first_layer_takes_apart_what_pixels_share(name: str, side: int) -> None:
    net = source_of(name).Net(8, 2) if name == "cifar10_resnet9" else source_of(name).Net(8)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(64, 3, 34, 34), 3, stride=1)
    with torch.no_grad():
        net.fit_whitening(smooth)
        out = torch.nn.functional.conv2d(smooth, net.whiten.weight)[:, : 3 * side**2]
    covariance = out.transpose(0, 1).flatten(1).cov(correction=0)
    apart = covariance - covariance.diagonal().diag()
    assert apart.abs().max() < 0.05 * covariance.diagonal().max()


def test_images_of_the_speed_recipe_are_mirrored_every_other_epoch() -> None:
    module = source_of("cifar10_speed")
    images = torch.arange(2 * 3 * 36 * 36).view(2, 3, 36, 36)
    windows = images.unfold(2, 32, 1).unfold(3, 32, 1)
    batches = {}
    for mirrored in (False, True):
        torch.manual_seed(0)
        ((batches[mirrored], _),) = module.batches(windows, torch.arange(2), 2, mirrored)
    assert torch.equal(batches[True], batches[False].flip(-1))
    for image in batches[False]:  # a window of one of the images
        assert any(torch.equal(image, windows[n, :, y, x]) for n in range(2) for y in range(5) for x in range(5))


def test_a_ghost_norm_of_one_group_is_batch_normalisation_and_of_more_is_that_of_each() -> None:
    ghost = source_of("cifar10_resnet9").GhostNorm(4, 3)
    images = torch.randn(6, 4, 5, 5)
    out = ghost(images)
    plain = nn.BatchNorm2d(4)
    groups = images[0::1].reshape(3, 8, 5, 5)
    assert torch.allclose(out, nn.BatchNorm2d(8)(groups).view_as(images), atol=1e-5)
    assert torch.isfinite(ghost.running_mean).all()
    assert torch.allclose(source_of("cifar10_resnet9").GhostNorm(4, 6)(images), plain(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "spec", "config"),
    [
        ("cifar10_speed", CIFAR10, {"width": 6, "batch_size": 4, "test_batch_size": 2}),
        (
            "imagenet_resnet50",
            IMAGENET,
            {"batch_size": 2, "test_batch_size": 2, "small_size": 32, "large_size": 64, "test_size": 64},
        ),
        ("imagenet_efficientnet_b0", IMAGENET, {"batch_size": 2, "test_batch_size": 2, "sizes": [32], "test_size": 32}),
    ],
)
def test_warming_up_leaves_the_weights_as_they_were(name: str, spec: DatasetSpec, config: dict[str, Any]) -> None:
    module, run = source_of(name), PaperRun(name, spec, 1, **config)
    made = module.setup(run)
    net = made.model if name == "cifar10_speed" else made[0] if isinstance(made, tuple) else made
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    module.warm_up(run, made if name == "cifar10_speed" else net)
    assert net.training
    assert all(weights.grad is None for weights in net.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_the_rate_of_resnet50_rises_for_two_epochs_and_falls_to_zero_with_the_last_step() -> None:
    run = PaperRun("imagenet_resnet50", IMAGENET, 1, epochs=16)
    rates = list(source_of("imagenet_resnet50").rates(run, 10))
    assert len(rates) == 160
    assert max(rates) == rates[19] == pytest.approx(run.config.lr)
    assert rates[0] == pytest.approx(run.config.lr / 20)
    assert rates[-1] == pytest.approx(run.config.lr / 140)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)


# ---- as submissions


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_reads_without_errors_or_flags(name: str) -> None:
    examined = examine_folder(
        ROOT / "baselines" / name, ["cifar10", "cifar10_96", "imagenet", "imagenet_alexnet", "imagenet_mlperf"]
    )
    assert examined.problems == ()


@pytest.mark.parametrize("track", ["cifar10", "cifar10_96", "imagenet", "imagenet_alexnet", "imagenet_mlperf"])
def test_the_baseline_of_a_track_enters_it(track: str) -> None:
    assert track in manifest_of(load_track(track).baseline.removeprefix("baselines/")).tracks
