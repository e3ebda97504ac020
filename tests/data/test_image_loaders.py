"""Loaders of encoded images: both keep one contract, measured from the images that come out."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import (
    LEVELS_APART,
    MEAN_LEVELS_APART,
    assert_same_epoch,
    gradient,
    make_loader,
    opened,
    photograph,
    prepare_images,
)
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from kit.data.augment import ImageOptions, ImagePlan, plan_images
from kit.data.loaders import Loader
from kit.data.public import EncodedImages

LOADERS = [
    "dali",
    "torch",
    pytest.param("dali cuda", marks=pytest.mark.gpu),
    pytest.param("torch cuda", marks=pytest.mark.gpu),
]
parametrize_kinds = pytest.mark.parametrize("kind", LOADERS)
UNLIKELY = 1e-3


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> EncodedImages:
    """45 JPEGs of many shapes; some grey, some CMYK, a PNG, and one of a single pixel."""
    random = np.random.default_rng(0)
    sizes = random.integers(40, 160, (45, 2)).tolist()
    images = [photograph(width, height, seed) for seed, (width, height) in enumerate(sizes)]
    images[3], images[4], images[5] = images[3].convert("L"), images[4].convert("CMYK"), images[5].crop((0, 0, 1, 1))
    return opened(prepare_images(tmp_path_factory.mktemp("photographs"), images, images[:3])).train_images


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> EncodedImages:
    """Without loss, so that places can be read back."""
    sizes = [(64, 48), (48, 64), (80, 80), (100, 40)] * 30
    images = [gradient(*size) for size in sizes]
    return opened(prepare_images(tmp_path_factory.mktemp("gradients"), images, images[:4], "PNG")).train_images


def device_of(kind: str) -> str:
    return kind.partition(" ")[2] or "cpu"


def epoch_of(loader: Loader) -> tuple[NDArray[np.float32], list[int]]:
    """Images and labels of one epoch."""
    images, labels = [], []
    for batch, numbers in loader:
        assert numbers is not None
        images.append(batch.float().cpu().numpy())
        labels += numbers.tolist()
    return np.concatenate(images), labels


RANDOM: dict[str, Any] = {"batch_size": 8, "shuffle": True, "flip": True, "crop_area": (0.08, 1.0)}


# ---- every image once


@parametrize_kinds
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [8, 9, 45, 50])
def test_every_image_comes_once_in_every_epoch(
    kind: str, shuffle: bool, batch_size: int, photographs: EncodedImages
) -> None:
    loader = make_loader(kind, photographs, batch_size=batch_size, shuffle=shuffle)
    orders = []
    for _ in range(2):
        sizes, order = [], []
        for images, labels in loader:
            assert labels is not None
            sizes.append(len(images))
            order += labels.tolist()
        assert sizes == [batch_size] * (45 // batch_size) + [45 % batch_size] * (45 % batch_size > 0)
        assert len(loader) == len(sizes)
        assert sorted(order) == list(range(45))
        orders.append(order)
    assert (orders[0] == orders[1]) is not shuffle


@parametrize_kinds
def test_drop_last_leaves_out_the_partial_batch(kind: str, photographs: EncodedImages) -> None:
    loader = make_loader(kind, photographs, batch_size=10, shuffle=True, drop_last=True)
    assert [len(images) for images, _ in loader] == [10] * 4


@parametrize_kinds
def test_a_split_without_labels_comes_in_order(kind: str, photographs: EncodedImages) -> None:
    batches = list(make_loader(kind, photographs, labels=False, batch_size=10))
    assert all(labels is None for _, labels in batches)
    with_labels, numbers = epoch_of(make_loader(kind, photographs, batch_size=10))
    assert numbers == list(range(45))
    np.testing.assert_array_equal(torch.cat([images for images, _ in batches]).cpu(), with_labels)


# ---- seeds and epochs


@parametrize_kinds
def test_the_same_seed_gives_the_same_stream_and_another_seed_another(kind: str, photographs: EncodedImages) -> None:
    first, again, other = (make_loader(kind, photographs, seed=seed, **RANDOM) for seed in (3, 3, 4))
    for _ in range(2):
        (images, labels), (images_again, labels_again), (_, labels_other) = map(epoch_of, (first, again, other))
        assert labels == labels_again != labels_other
        np.testing.assert_array_equal(images, images_again)


@parametrize_kinds
def test_every_epoch_has_its_own_windows_and_flips(kind: str, photographs: EncodedImages) -> None:
    loader = make_loader(kind, photographs, **(RANDOM | {"shuffle": False}))
    assert len({epoch_of(loader)[0].tobytes() for _ in range(3)}) == 3


@parametrize_kinds
def test_the_size_changes_exactly_with_the_epoch(kind: str, photographs: EncodedImages) -> None:
    loader = make_loader(kind, photographs, sizes=(16, 16, 40, 24), **RANDOM)
    for size in (16, 16, 40, 24, 24):
        assert {images.shape[1:] for images, _ in loader} == {(3, size, size)}


@parametrize_kinds
def test_the_size_is_right_after_an_epoch_that_was_broken_off(kind: str, photographs: EncodedImages) -> None:
    loader = make_loader(kind, photographs, sizes=(16, 24, 32), **RANDOM)
    for images, _ in loader:
        assert images.shape[-1] == 16
        break
    assert {images.shape[-1] for images, _ in loader} == {24}
    assert {images.shape[-1] for images, _ in loader} == {32}


# ---- windows, read back from what comes out


def windows_of(images: NDArray[np.float32]) -> Iterator[tuple[float, float, bool]]:
    """Of resized gradients: the middle of the window, as fractions of width and height, and whether it was mirrored."""
    for red, green, _ in images:
        yield red.mean() / 255, green.mean() / 255, bool(red[:, 0].mean() > red[:, -1].mean())


@parametrize_kinds
def test_what_comes_out_is_the_window_that_was_drawn(kind: str, gradients: EncodedImages) -> None:
    options: dict[str, Any] = {**RANDOM, "sizes": (32,), "crop_area": (0.1, 0.6)}
    images, labels = epoch_of(make_loader(kind, gradients, seed=5, **options))
    plan = plan_images(gradients.sizes, ImageOptions(**options), seed=5, stream=0, epoch=0)
    assert labels == plan.order.tolist()
    height, width = gradients.sizes[plan.order].T
    top, left, tall, wide = plan.window.T
    expected_x, expected_y = (left + (wide - 1) / 2) / (width - 1), (top + (tall - 1) / 2) / (height - 1)
    x, y, mirrored = zip(*windows_of(images), strict=True)
    np.testing.assert_allclose(x, expected_x, atol=0.015)
    np.testing.assert_allclose(y, expected_y, atol=0.015)
    assert list(mirrored) == plan.mirror.tolist()


def plan_many(size: tuple[int, int], count: int = 20_000, **options: Any) -> ImagePlan:
    sizes = np.tile(np.array([size]), (count, 1))
    return plan_images(sizes, ImageOptions(batch_size=1, sizes=(224,), **options), seed=0, stream=0, epoch=0)


def test_windows_have_uniform_area_and_log_uniform_aspect_where_all_fit() -> None:
    plan = plan_many((4000, 4000), crop_area=(0.1, 0.5))
    _, _, tall, wide = plan.window.T
    assert scipy.stats.kstest(tall * wide / 16e6, scipy.stats.uniform(0.1, 0.4).cdf).pvalue > UNLIKELY
    low, high = math.log(3 / 4), math.log(4 / 3)
    assert scipy.stats.kstest(np.log(wide / tall), scipy.stats.uniform(low, high - low).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize("axis", [0, 1])
def test_windows_lie_anywhere_with_equal_chance(axis: int) -> None:
    size = (19, 23)
    plan = plan_many(size, crop_area=(0.2, 0.5))
    start, length = plan.window[:, axis], plan.window[:, 2 + axis]
    for side in np.unique(length):
        cells = np.bincount(start[length == side], minlength=size[axis] - side + 1)
        assert len(cells) == size[axis] - side + 1
        if cells.sum() >= 20 * len(cells):
            assert scipy.stats.chisquare(cells).pvalue > UNLIKELY / 10


def test_flips_are_fair_and_independent_of_the_window() -> None:
    plan = plan_many((19, 23), flip=True, crop_area=(0.2, 0.5))
    assert scipy.stats.binomtest(int(plan.mirror.sum()), len(plan.mirror)).pvalue > UNLIKELY
    assert scipy.stats.ks_2samp(plan.window[plan.mirror, 1], plan.window[~plan.mirror, 1]).pvalue > UNLIKELY


def test_windows_are_drawn_as_torchvision_draws_them() -> None:
    for size in ((375, 500), (30, 300), (300, 30), (7, 7)):
        ours = plan_many(size, 4000, crop_area=(0.08, 1.0)).window
        torch.manual_seed(0)
        blank = torch.empty(3, *size)
        draw = v2.RandomResizedCrop(224)
        theirs = [draw.make_params([blank]) for _ in range(4000)]
        for column, name in enumerate(("top", "left", "height", "width")):
            found = scipy.stats.ks_2samp(ours[:, column], [params[name] for params in theirs])
            assert found.pvalue > UNLIKELY, (size, name)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 2000)), min_size=1, max_size=30),
    area=st.tuples(st.floats(0.001, 2), st.floats(0.001, 2)).map(sorted).map(tuple),
    aspect=st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)).map(sorted).map(tuple),
    seed=st.integers(0, 2**32),
)
def test_a_window_is_never_empty_and_never_leaves_its_image(
    sizes: list[tuple[int, int]], area: Any, aspect: Any, seed: int
) -> None:
    options = ImageOptions(batch_size=1, sizes=(8,), shuffle=True, crop_area=area, crop_aspect=aspect)
    plan = plan_images(np.array(sizes), options, seed=seed, stream=0, epoch=0)
    served = np.array(sizes)[plan.order]
    assert (plan.window[:, :2] >= 0).all()
    assert (plan.window[:, 2:] >= 1).all()
    assert (plan.window[:, :2] + plan.window[:, 2:] <= served).all()


@given(size=st.integers(1, 400), side=st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
def test_a_central_crop_is_never_larger_than_what_it_is_cut_from(size: int, side: tuple[int, int]) -> None:
    plan = plan_images(np.array([side]), ImageOptions(batch_size=1, sizes=(size,)), seed=0, stream=0, epoch=0)
    assert (plan.crop >= 0).all()
    assert (plan.crop + size <= plan.resized).all()


@parametrize_kinds
@pytest.mark.parametrize("size", [32, 47])
def test_evaluation_crops_the_centre_as_torchvision_does(kind: str, size: int, photographs: EncodedImages) -> None:
    found, numbers = epoch_of(make_loader(kind, photographs, batch_size=16, sizes=(size,)))
    reference = v2.Compose([v2.PILToTensor(), v2.Resize(round(size / 0.875)), v2.CenterCrop(size)])
    for image, number in zip(found, numbers, strict=True):
        original = Image.open(io.BytesIO(photographs[number].tobytes())).convert("RGB")
        apart = np.abs(image - reference(original).numpy())
        assert apart.max() <= LEVELS_APART[device_of(kind)], number
        assert apart.mean() <= MEAN_LEVELS_APART[device_of(kind)], number


@parametrize_kinds
def test_pixels_are_normalised_and_come_in_the_type_and_layout_asked_for(kind: str, gradients: EncodedImages) -> None:
    statistics: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    plain, _ = epoch_of(make_loader(kind, gradients, batch_size=40))
    expected = (plain / 255 - np.reshape((0.4, 0.5, 0.6), (3, 1, 1))) / np.reshape((0.2, 0.3, 0.4), (3, 1, 1))
    for dtype, tolerance in (("float32", 1e-4), ("float16", 4e-3), ("bfloat16", 3e-2)):
        batches = list(make_loader(kind, gradients, batch_size=40, dtype=dtype, channels_last=True, **statistics))
        for images, _ in batches:
            assert images.dtype == getattr(torch, dtype)
            assert images.is_contiguous(memory_format=torch.channels_last)
        found = torch.cat([images.float() for images, _ in batches]).cpu().numpy()
        np.testing.assert_allclose(found, expected, atol=tolerance)


# ---- DALI and torch are one stream


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_dali_and_torch_agree_whatever_is_asked(data: st.DataObject, photographs: EncodedImages) -> None:
    options: dict[str, Any] = {
        "batch_size": data.draw(st.integers(1, 50), "batch_size"),
        "shuffle": data.draw(st.booleans(), "shuffle"),
        "flip": data.draw(st.booleans(), "flip"),
        "sizes": tuple(data.draw(st.lists(st.integers(24, 70), min_size=1, max_size=2), "sizes")),
        "crop_area": data.draw(st.sampled_from([None, (0.08, 1.0), (0.35, 1.0), (0.01, 0.02)]), "crop_area"),
        "channels_last": data.draw(st.booleans(), "channels_last"),
    }
    seed = data.draw(st.integers(0, 2**32), "seed")
    loaders = [make_loader(kind, photographs, seed=seed, **options) for kind in ("dali", "torch")]
    for _ in range(2):
        assert_same_epoch(loaders[0], loaders[1])


@pytest.mark.gpu
def test_the_gpu_pipeline_gives_what_the_cpu_pipeline_gives(photographs: EncodedImages) -> None:
    on_gpu, on_cpu = (make_loader(kind, photographs, **RANDOM) for kind in ("dali cuda", "dali"))
    for _ in range(2):
        assert_same_epoch(on_gpu, on_cpu, "cuda")


def test_dali_and_torch_agree_after_an_epoch_that_was_broken_off_and_one_inside_another(
    photographs: EncodedImages,
) -> None:
    def orders(loader: Loader) -> list[list[int]]:
        found = [epoch_of(loader)[1]]
        for _ in loader:
            found.append(epoch_of(loader)[1])
            break
        return [*found, epoch_of(loader)[1], epoch_of(loader)[1]]

    assert orders(make_loader("dali", photographs, **RANDOM)) == orders(make_loader("torch", photographs, **RANDOM))


@pytest.mark.parametrize("kind", ["dali", "torch"])
def test_ranks_share_an_epoch_in_equal_steps(kind: str, photographs: EncodedImages) -> None:
    loaders = [make_loader(kind, photographs, rank=rank, world_size=2, **RANDOM) for rank in range(2)]
    for _ in range(2):
        orders = [epoch_of(loader)[1] for loader in loaders]
        assert sorted(orders[0] + orders[1]) == list(range(45))
    assert len(loaders[0]) == len(loaders[1])


def test_the_recipes_random_numbers_are_left_alone(photographs: EncodedImages) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    epoch_of(make_loader("torch", photographs, **RANDOM))
    assert torch.equal(torch.rand(3), expected)


def test_shards_are_read_through_the_descriptor_alone(tmp_path: Path) -> None:
    prepared = prepare_images(tmp_path, [gradient(20, 20)] * 4, [gradient(20, 20)] * 2)
    public = opened(prepared)
    prepared.root.rename(tmp_path / "elsewhere")
    for number in range(4):
        assert Image.open(io.BytesIO(public.train_images[number].tobytes())).size == (20, 20)
    with pytest.raises(ValueError, match="read-only"):
        public.train_images[0][0] = 0
