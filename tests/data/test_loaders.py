"""Both loaders: the same stream, the right statistics, every image once per epoch."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from kit.data.augment import LoaderOptions, batch_bounds, plan_epoch
from kit.data.loaders import Loader, array_loader
from kit.track import DatasetSpec

KINDS = ["dali", "torch"]
SURE = 1e-4
"""Chance of a false alarm that the seeds below were seen not to be."""


def spec(channels: int = 1, size: int = 8, count: int = 100) -> DatasetSpec:
    return DatasetSpec(
        name="made",
        channels=channels,
        height=size,
        width=size,
        classes=10,
        train_count=count,
        test_count=count,
        mean=(0.0,) * channels,
        std=(1 / 255,) * channels,
    )


def loader(kind: str, images: Any, labels: Any, *, seed: int = 0, **options: Any) -> Loader:
    made = spec(images.shape[1], images.shape[2], len(images))
    return array_loader(kind, images, labels, made, LoaderOptions(**options), seed=seed, device=torch.device("cpu"))


def numbered(count: int) -> Any:
    """Images whose label is their number."""
    return np.zeros((count, 1, 8, 8), np.uint8), np.arange(count)


def stream(made: Loader) -> list[int]:
    return [int(label) for _, labels in made if labels is not None for label in labels]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "batch_size"), [(100, 10), (101, 10), (7, 100), (10_003, 1000)])
def test_every_image_is_served_once_per_epoch(kind: str, count: int, batch_size: int) -> None:
    made = loader(kind, *numbered(count), batch_size=batch_size, shuffle=True)
    first, second = stream(made), stream(made)
    assert sorted(first) == sorted(second) == list(range(count))
    assert first != second
    assert len(made) == -(-count // batch_size)


@pytest.mark.parametrize("kind", KINDS)
def test_drop_last_leaves_out_a_smaller_last_batch(kind: str) -> None:
    made = loader(kind, *numbered(25), batch_size=10, shuffle=True, drop_last=True)
    assert [len(images) for images, _ in made] == [10, 10]
    assert len(made) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_stream(kind: str) -> None:
    def of(seed: int) -> list[int]:
        return stream(loader(kind, *numbered(50), batch_size=8, shuffle=True, seed=seed))

    assert of(1) == of(1)
    assert of(1) != of(2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_shuffling_images_come_in_order_and_without_labels_there_are_none(kind: str) -> None:
    images = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    batches = list(loader(kind, images, None, batch_size=8))
    assert all(labels is None for _, labels in batches)
    served = torch.cat([batch for batch, _ in batches])
    assert torch.equal(served[:, 0, 0, 0], torch.arange(30.0))


@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_uniform_and_half_of_the_images_are_mirrored(kind: str) -> None:
    count, pad = 5000, 2
    images = np.zeros((count, 1, 9, 9), np.uint8)
    images[:, 0, 4, 3] = 100
    images[:, 0, 4, 5] = 200
    made = loader(kind, images, np.arange(count), batch_size=500, shuffle=True, crop_padding=pad, flip=True)
    out = torch.cat([batch for batch, _ in made])[:, 0]
    bright, dim = out.flatten(1).argmax(1), (out - 100).abs().flatten(1).argmin(1)
    mirrored = (bright % 9 < dim % 9).numpy()
    assert chisquare(np.bincount(mirrored, minlength=2)).pvalue > SURE
    # Of the two pixels, the one at column 4 + 1 (or mirrored, 4 - 1) tells the shift.
    row = (bright // 9).numpy() - 4
    column = (bright % 9).numpy() - np.where(mirrored, 3, 5)
    assert set(row) == set(column) == set(range(-pad, pad + 1))
    places = np.bincount((row + pad) * 5 + column + pad, minlength=25)
    assert chisquare(places).pvalue > SURE
    assert (out.flatten(1) > 0).sum(1).eq(2).all()


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_normalised_by_channel(kind: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    made = spec(3).model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.25, 0.125)})
    options = LoaderOptions(batch_size=20)
    served = next(iter(array_loader(kind, images, None, made, options, seed=0, device=torch.device("cpu"))))[0]
    expected = (images / 255 - np.reshape(made.mean, (1, 3, 1, 1))) / np.reshape(made.std, (1, 3, 1, 1))
    assert served.dtype == torch.float32
    assert served.shape == (20, 3, 8, 8)
    assert np.allclose(served.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"flip": True}, {"crop_padding": 1}, {"crop_padding": 3, "flip": True}], ids=str
)
def test_both_loaders_give_the_same_batches_also_after_a_broken_off_epoch(options: dict[str, Any]) -> None:
    images = np.random.default_rng(1).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8)
    dali, plain = (
        loader(kind, images, np.arange(70), batch_size=16, shuffle=True, seed=3, **options) for kind in KINDS
    )
    for broken_off in (False, False, True, False):
        for index, ((left, left_labels), (right, right_labels)) in enumerate(zip(dali, plain, strict=True)):
            assert torch.allclose(left, right, atol=1e-3)
            assert left_labels is not None
            assert right_labels is not None
            assert torch.equal(left_labels, right_labels)
            if broken_off and index == 1:
                break


@pytest.mark.gpu
def test_dali_on_a_gpu_gives_the_batches_of_the_cpu() -> None:
    images = np.random.default_rng(1).integers(0, 256, (70, 3, 8, 8), dtype=np.uint8)
    options = LoaderOptions(batch_size=16, shuffle=True, crop_padding=2, flip=True)
    on_gpu, on_cpu = (
        array_loader("dali", images, np.arange(70), spec(3), options, seed=3, device=torch.device(device))
        for device in ("cuda:0", "cpu")
    )
    for _ in range(2):
        for (left, left_labels), (right, right_labels) in zip(on_gpu, on_cpu, strict=True):
            assert left.is_cuda
            assert torch.allclose(left.cpu(), right, atol=1e-3)
            assert left_labels is not None
            assert right_labels is not None
            assert torch.equal(left_labels.cpu(), right_labels)


@given(st.integers(1, 500), st.integers(1, 200), st.integers(0, 5), st.booleans(), st.booleans())
def test_a_plan_covers_the_data_and_stays_inside_the_padding(
    count: int, batch_size: int, padding: int, flip: bool, drop_last: bool
) -> None:
    options = LoaderOptions(batch_size=batch_size, shuffle=True, crop_padding=padding, flip=flip, drop_last=drop_last)
    plan = plan_epoch(count, options, seed=0, epoch=0)
    assert sorted(plan.order) == list(range(count))
    for offsets in (plan.crop_x, plan.crop_y):
        assert offsets.min() >= 0
        assert offsets.max() <= 2 * padding
    assert flip or not plan.mirror.any()
    bounds = batch_bounds(count, options)
    assert all(start < stop for start, stop in bounds)
    assert [stop for _, stop in bounds[:-1]] == [start for start, _ in bounds[1:]]
    assert sum(stop - start for start, stop in bounds) == (count - count % batch_size if drop_last else count)
