"""Both loaders keep one contract, measured from the images that come out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kit.data.augment import ArrayOptions, ArrayPlan, DType, LoaderOptions, batch_bounds, plan_arrays
from kit.data.loaders import Kind, Loader, array_loader
from kit.track import DatasetSpec

LOADERS = [
    "dali",
    "torch",
    pytest.param("dali cuda", marks=pytest.mark.gpu),
    pytest.param("torch cuda", marks=pytest.mark.gpu),
]
SIDE, PADDING = 8, 2
UNLIKELY = 1e-3

parametrize_kinds = pytest.mark.parametrize("kind", LOADERS)


def make_loader(
    kind: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None = None,
    *,
    seed: int = 0,
    stream: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    **options: Any,
) -> Loader:
    """A loader that gives pixels as they are, unless told a mean and a deviation."""
    count, channels, height, width = images.shape
    spec = DatasetSpec(
        name="made",
        channels=channels,
        height=height,
        width=width,
        classes=max(2, count),
        train_count=count,
        test_count=count,
        mean=mean or (0.0,) * channels,
        std=std or (1 / 255,) * channels,
    )
    name, _, device = kind.partition(" ")
    return array_loader(
        kind_of(name),
        images,
        labels,
        spec,
        ArrayOptions(**options),
        seed=seed,
        stream=stream,
        device=torch.device(device or "cpu"),
    )


def numbered(count: int, channels: int = 1, height: int = 3, width: int = 3) -> tuple[NDArray[np.uint8], Any]:
    """Random images; label i is image i."""
    images = np.random.default_rng(0).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    return images, np.arange(count)


def kind_of(name: str) -> Kind:
    return "dali" if name == "dali" else "torch"


def plan_of(count: int, options: ArrayOptions, *, seed: int = 0, stream: int = 0, epoch: int = 0) -> ArrayPlan:
    """For images of 6x9 pixels."""
    return plan_arrays(count, (6, 9), options, seed=seed, stream=stream, epoch=epoch)


def labels_of(loader: Loader) -> list[int]:
    """The labels of one epoch."""
    found: list[int] = []
    for _, labels in loader:
        assert labels is not None
        found += labels.tolist()
    return found


def images_of(loader: Loader) -> NDArray[np.float32]:
    """The images of one epoch."""
    found: NDArray[np.float32] = torch.cat([images for images, _ in loader]).cpu().numpy()
    return found


# ---- every image once


@parametrize_kinds
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 5), (7, 1), (1, 1), (5, 5)])
def test_every_image_comes_once_in_every_epoch(kind: str, shuffle: bool, count: int, batch_size: int) -> None:
    loader = make_loader(kind, *numbered(count), batch_size=batch_size, shuffle=shuffle)
    for _ in range(3):
        sizes = [len(images) for images, _ in loader]
        assert sizes == [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0)
        assert len(loader) == len(sizes)
        assert sorted(labels_of(loader)) == list(range(count))


@parametrize_kinds
@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (7, 2)])
def test_drop_last_leaves_out_the_partial_batch_alone(kind: str, count: int, batch_size: int) -> None:
    loader = make_loader(kind, *numbered(count), batch_size=batch_size, shuffle=True, drop_last=True)
    seen: set[int] = set()
    for _ in range(20):
        found = labels_of(loader)
        assert len(found) == len(set(found)) == count // batch_size * batch_size == len(loader) * batch_size
        seen.update(found)
    assert seen == set(range(count))


@parametrize_kinds
def test_an_epoch_without_a_whole_batch_is_empty(kind: str) -> None:
    loader = make_loader(kind, *numbered(3), batch_size=5, drop_last=True)
    assert len(loader) == 0
    assert list(loader) == []
    assert list(loader) == []


@parametrize_kinds
def test_an_image_keeps_its_label(kind: str) -> None:
    images, labels = numbered(50)
    for batch, found in make_loader(kind, images, labels, batch_size=8, shuffle=True):
        assert found is not None
        np.testing.assert_allclose(batch.cpu(), images[found.cpu()], atol=1e-3)


@parametrize_kinds
def test_without_shuffle_images_come_in_order(kind: str) -> None:
    loader = make_loader(kind, *numbered(10), batch_size=4)
    assert labels_of(loader) == labels_of(loader) == list(range(10))


@parametrize_kinds
def test_a_split_without_labels_comes_in_order_and_without_labels(kind: str) -> None:
    images, _ = numbered(10)
    loader = make_loader(kind, images, None, batch_size=4)
    for _ in range(2):
        batches = list(loader)
        assert all(labels is None for _, labels in batches)
        np.testing.assert_allclose(torch.cat([batch for batch, _ in batches]).cpu(), images, atol=1e-3)


@parametrize_kinds
def test_batches_are_contiguous_float32_with_int64_labels_on_the_device(kind: str) -> None:
    loader = make_loader(kind, *numbered(10, channels=3, height=4, width=5), batch_size=4, crop_padding=1, flip=True)
    for images, labels in loader:
        assert labels is not None
        assert images.shape[1:] == (3, 4, 5)
        assert labels.shape == images.shape[:1]
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.is_contiguous()
        assert images.device.type == labels.device.type == (kind.partition(" ")[2] or "cpu")


@parametrize_kinds
def test_a_batch_that_is_kept_is_not_overwritten(kind: str) -> None:
    images, _ = numbered(40)
    np.testing.assert_allclose(images_of(make_loader(kind, images, batch_size=2)), images, atol=1e-3)


# ---- seeds and epochs


def stream(loader: Loader, epochs: int) -> Iterator[tuple[NDArray[np.float32], list[int]]]:
    for _ in range(epochs):
        for images, labels in loader:
            assert labels is not None
            yield images.cpu().numpy(), labels.tolist()


AUGMENTED: dict[str, Any] = {"batch_size": 6, "shuffle": True, "crop_padding": 2, "flip": True}


@parametrize_kinds
def test_the_same_seed_gives_the_same_stream(kind: str) -> None:
    first, second = (stream(make_loader(kind, *numbered(20), seed=3, **AUGMENTED), 3) for _ in range(2))
    for (images, labels), (images_again, labels_again) in zip(first, second, strict=True):
        assert labels == labels_again
        np.testing.assert_array_equal(images, images_again)


@parametrize_kinds
def test_another_seed_gives_another_stream(kind: str) -> None:
    orders = [labels_of(make_loader(kind, *numbered(20), seed=seed, **AUGMENTED)) for seed in range(4)]
    assert len({tuple(order) for order in orders}) == 4


@parametrize_kinds
def test_another_stream_of_the_same_seed_is_drawn_anew(kind: str) -> None:
    orders = [labels_of(make_loader(kind, *numbered(20), stream=stream, **AUGMENTED)) for stream in range(4)]
    assert len({tuple(order) for order in orders}) == 4


@parametrize_kinds
def test_every_epoch_has_its_own_order_and_augmentation(kind: str) -> None:
    loader = make_loader(kind, *numbered(20), **AUGMENTED)
    assert len({tuple(labels_of(loader)) for _ in range(4)}) == 4
    unshuffled = make_loader(kind, numbered(20)[0], batch_size=6, crop_padding=2, flip=True)
    assert len({images_of(unshuffled).tobytes() for _ in range(4)}) == 4


# ---- augmentation, read back from what comes out


def marked(count: int) -> NDArray[np.uint8]:
    """Images with a bright pixel and a dimmer one to its right, far enough inside to stay in every crop."""
    images = np.zeros((count, 1, SIDE, SIDE), np.uint8)
    images[:, 0, 3, 3] = 250
    images[:, 0, 3, 4] = 120
    return images


def read_back(images: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Offsets of the crop and whether it was mirrored."""
    flat = images.reshape(len(images), -1)
    bright, dim = flat.argmax(1), np.abs(flat - 120).argmin(1)
    mirrored = dim < bright
    x = np.where(mirrored, SIDE - 1 - bright % SIDE, bright % SIDE)
    return 3 + PADDING - bright // SIDE, 3 + PADDING - x, mirrored


@parametrize_kinds
def test_crops_are_uniform_over_all_offsets_and_flips_are_half(kind: str) -> None:
    loader = make_loader(kind, marked(1500), seed=1, batch_size=250, shuffle=True, crop_padding=PADDING, flip=True)
    y, x, mirrored = (
        np.concatenate(parts) for parts in zip(*(read_back(images_of(loader)) for _ in range(2)), strict=True)
    )
    offsets = 2 * PADDING + 1
    assert set(y.tolist()) == set(x.tolist()) == set(range(offsets))
    cells = np.bincount(y * offsets + x, minlength=offsets**2)
    assert scipy.stats.chisquare(cells).pvalue > UNLIKELY
    assert scipy.stats.binomtest(int(mirrored.sum()), len(mirrored)).pvalue > UNLIKELY
    joint = np.histogram2d(y * offsets + x, mirrored, bins=[offsets**2, 2])[0]
    assert scipy.stats.chi2_contingency(joint).pvalue > UNLIKELY
    for values in (y, x, mirrored.astype(np.int64)):
        neighbours = np.histogram2d(values[:-1], values[1:], bins=len(np.unique(values)))[0]
        assert scipy.stats.chi2_contingency(neighbours).pvalue > UNLIKELY


@parametrize_kinds
def test_without_flip_nothing_is_mirrored_and_without_padding_nothing_is_moved(kind: str) -> None:
    cropped = read_back(images_of(make_loader(kind, marked(200), batch_size=50, crop_padding=PADDING)))
    assert not cropped[2].any()
    assert len(set(cropped[0].tolist())) > 1
    flipped = read_back(images_of(make_loader(kind, marked(200), batch_size=50, flip=True)))
    assert set(flipped[0].tolist()) == set(flipped[1].tolist()) == {PADDING}
    assert set(flipped[2].tolist()) == {False, True}


@parametrize_kinds
def test_what_a_crop_takes_from_outside_is_black_before_normalisation(kind: str) -> None:
    images = np.full((200, 1, SIDE, SIDE), 255, np.uint8)
    loader = make_loader(kind, images, batch_size=50, crop_padding=PADDING, mean=(0.4,), std=(0.5,))
    inside, outside = (1 - 0.4) / 0.5, (0 - 0.4) / 0.5
    found = images_of(loader)
    plan = plan_of(200, ArrayOptions(batch_size=50, crop_padding=PADDING))
    for image, y, x in zip(found[:, 0], plan.crop_y, plan.crop_x, strict=True):
        expected = np.full((SIDE, SIDE), outside)
        rows, columns = (slice(max(0, PADDING - at), SIDE + min(0, PADDING - at)) for at in (y, x))
        expected[rows, columns] = inside
        np.testing.assert_allclose(image, expected, atol=1e-5)


@parametrize_kinds
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_each_channel_is_normalised_by_its_own_statistics(kind: str, channels: int) -> None:
    images, _ = numbered(9, channels, height=4, width=6)
    mean, std = (0.1, 0.5, 0.3, 0.9)[:channels], (0.2, 0.7, 0.4, 1.1)[:channels]
    found = images_of(make_loader(kind, images, batch_size=4, mean=mean, std=std))
    expected = (images / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@parametrize_kinds
def test_cutout_sets_one_square_inside_each_image_to_the_mean(kind: str) -> None:
    images = np.full((1200, 2, 7, 9), 200, np.uint8)
    loader = make_loader(kind, images, batch_size=100, cutout=3, mean=(0.3, 0.4), std=(0.5, 0.6))
    cut = images_of(loader) == 0
    assert (cut[:, 0] == cut[:, 1]).all()
    rows, columns = cut[:, 0].any(axis=2), cut[:, 0].any(axis=1)
    assert (cut[:, 0].sum(axis=(1, 2)) == 9).all()
    assert (rows.sum(axis=1) == 3).all()
    assert (columns.sum(axis=1) == 3).all()
    cells = np.bincount(rows.argmax(axis=1) * 7 + columns.argmax(axis=1), minlength=5 * 7)
    assert len(cells) == 5 * 7
    assert scipy.stats.chisquare(cells).pvalue > UNLIKELY


@parametrize_kinds
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_type_and_layout_are_as_asked_and_change_nothing_else(kind: str, dtype: DType, channels_last: bool) -> None:
    images, labels = numbered(20, channels=3, height=8, width=6)
    options: dict[str, Any] = {"batch_size": 8, "shuffle": True, "crop_padding": 2, "flip": True, "cutout": 2}
    statistics: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    plain = make_loader(kind, images, labels, **options, **statistics)
    asked = make_loader(kind, images, labels, dtype=dtype, channels_last=channels_last, **options, **statistics)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    tolerance = {"float32": 1e-6, "float16": 4e-3, "bfloat16": 3e-2}[dtype]
    for (expected, _), (found, _) in zip(plain, asked, strict=True):
        assert found.dtype == getattr(torch, dtype)
        assert found.is_contiguous(memory_format=layout)
        assert found.shape == expected.shape
        assert (found.float() - expected).abs().max() < tolerance


# ---- ranks


@pytest.mark.parametrize("kind", ["dali", "torch"])
@pytest.mark.parametrize(("count", "batch_size", "ranks"), [(40, 5, 2), (41, 5, 2), (47, 4, 3), (46, 4, 3), (7, 4, 3)])
def test_ranks_share_an_epoch_in_equal_steps(kind: str, count: int, batch_size: int, ranks: int) -> None:
    def of_rank(rank: int) -> Loader:
        options: dict[str, Any] = {"batch_size": batch_size, "shuffle": True, "rank": rank, "world_size": ranks}
        return make_loader(kind, *numbered(count), **options)

    for _ in range(2):
        batches = [[labels.tolist() for _, labels in of_rank(rank) if labels is not None] for rank in range(ranks)]
        assert len({len(of_one) for of_one in batches}) == 1
        assert all(1 <= len(batch) <= batch_size for of_one in batches for batch in of_one)
        assert sorted(label for of_one in batches for batch in of_one for label in batch) == list(range(count))


@given(count=st.integers(1, 400), batch_size=st.integers(1, 20), ranks=st.integers(1, 8), drop_last=st.booleans())
def test_whatever_the_ranks_every_image_is_served_once_and_no_rank_goes_without(
    count: int, batch_size: int, ranks: int, drop_last: bool
) -> None:
    def of_rank(rank: int) -> list[tuple[int, int]]:
        options = LoaderOptions(batch_size=batch_size, drop_last=drop_last, rank=rank, world_size=ranks)
        return batch_bounds(count, options)

    if not drop_last and 0 < count % (batch_size * ranks) < ranks and (count < ranks or batch_size == 1):
        with pytest.raises(ValueError, match="drop_last"):
            of_rank(0)
        return
    bounds = [of_rank(rank) for rank in range(ranks)]
    assert len({len(of_one) for of_one in bounds}) == 1
    assert all(1 <= stop - start <= batch_size for of_one in bounds for start, stop in of_one)
    served = sorted(place for of_one in bounds for start, stop in of_one for place in range(start, stop))
    assert served == list(range(count - count % (batch_size * ranks) if drop_last else count))


# ---- DALI and torch are one stream


def both(images: NDArray[np.uint8], labels: Any, **options: Any) -> tuple[Loader, Loader]:
    channels = images.shape[1]
    mean, std = (0.1, 0.5, 0.3, 0.9)[:channels], (0.2, 0.7, 0.4, 1.1)[:channels]
    dali, torch_ = (make_loader(kind, images, labels, mean=mean, std=std, **options) for kind in ("dali", "torch"))
    return dali, torch_


def assert_same_epoch(one: Loader, other: Loader, stop_after: int | None = None) -> None:
    steps = zip(iter(one), iter(other), strict=True)
    for number, ((images, labels), (other_images, other_labels)) in enumerate(steps):
        np.testing.assert_allclose(images, other_images, atol=1e-5)
        assert labels is not None
        assert other_labels is not None
        assert labels.tolist() == other_labels.tolist()
        if number == stop_after:
            break


@pytest.mark.parametrize("padding", [0, 1, 2, 3, 4, 7, 32, 128])
@pytest.mark.parametrize("flip", [False, True])
def test_dali_and_torch_give_the_same_batches(padding: int, flip: bool) -> None:
    images, labels = numbered(21, channels=3, height=4, width=6)
    loaders = both(images, labels, batch_size=5, shuffle=True, crop_padding=padding, flip=flip)
    for _ in range(4):
        assert_same_epoch(*loaders)


@pytest.mark.parametrize("broken_after", [0, 1, 3])
def test_dali_and_torch_give_the_same_batches_after_an_epoch_that_was_broken_off(broken_after: int) -> None:
    loaders = both(*numbered(25), **AUGMENTED)
    assert_same_epoch(*loaders)
    assert_same_epoch(*loaders, stop_after=broken_after)
    for _ in range(3):
        assert_same_epoch(*loaders)


def test_dali_and_torch_give_the_same_batches_after_an_epoch_inside_an_epoch() -> None:
    def orders(loader: Loader) -> list[list[int]]:
        found = []
        for number, _ in enumerate(loader):
            if number == 0:
                found.append(labels_of(loader))
        return [*found, labels_of(loader), labels_of(loader)]

    dali, torch_ = both(*numbered(25), **AUGMENTED)
    assert orders(dali) == orders(torch_)


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_dali_and_torch_agree_whatever_is_asked(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 30), "count")
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)), "shape")
    batch_size = data.draw(st.integers(1, 12), "batch_size")
    loaders = both(
        *numbered(count, *shape),
        seed=data.draw(st.integers(0, 2**32), "seed"),
        batch_size=batch_size,
        drop_last=count >= batch_size and data.draw(st.booleans(), "drop_last"),
        shuffle=data.draw(st.booleans(), "shuffle"),
        crop_padding=data.draw(st.integers(0, 128), "padding"),
        flip=data.draw(st.booleans(), "flip"),
        cutout=data.draw(st.integers(0, min(shape[1:])), "cutout"),
        channels_last=data.draw(st.booleans(), "channels_last"),
    )
    for _ in range(2):
        assert_same_epoch(*loaders)


# ---- the plan

plan_options = st.builds(
    ArrayOptions,
    batch_size=st.integers(1, 50),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    crop_padding=st.integers(0, 128),
    flip=st.booleans(),
    cutout=st.integers(0, 6),
)


@given(count=st.integers(1, 200), options=plan_options, seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
def test_a_plan_holds_every_image_once_and_stays_inside_the_padding(
    count: int, options: ArrayOptions, seed: int, epoch: int
) -> None:
    plan = plan_of(count, options, seed=seed, epoch=epoch)
    for places, side in ((plan.cutout_y, 6), (plan.cutout_x, 9)):
        assert places.shape == (count,)
        assert places.min() >= 0
        assert places.max() <= side - options.cutout if options.cutout else not places.any()
    assert sorted(plan.order.tolist()) == list(range(count))
    assert options.shuffle or plan.order.tolist() == list(range(count))
    for offsets in (plan.crop_y, plan.crop_x):
        assert offsets.shape == (count,)
        assert offsets.min() >= 0
        assert offsets.max() <= 2 * options.crop_padding
    assert plan.mirror.shape == (count,)
    assert options.flip or not plan.mirror.any()


@given(count=st.integers(1, 50), options=plan_options, seed=st.integers(0, 2**63), epoch=st.integers(0, 10**6))
def test_a_plan_depends_on_seed_and_epoch_alone(count: int, options: ArrayOptions, seed: int, epoch: int) -> None:
    first, second = (plan_of(count, options, seed=seed, epoch=epoch) for _ in range(2))
    for name in ("order", "crop_y", "crop_x", "mirror", "cutout_y", "cutout_x"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@given(count=st.integers(0, 500), options=plan_options)
def test_batches_cover_the_epoch_without_gap_or_overlap(count: int, options: LoaderOptions) -> None:
    bounds = batch_bounds(count, options)
    covered = [place for start, stop in bounds for place in range(start, stop)]
    assert covered == list(range(len(covered)))
    assert all(stop - start == options.batch_size for start, stop in bounds[:-1])
    assert all(0 < stop - start <= options.batch_size for start, stop in bounds)
    if options.drop_last:
        assert len(covered) == count - count % options.batch_size
    else:
        assert len(covered) == count
