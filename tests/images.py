"""Trees of small images for tests, their prepared form, and loaders of it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kit.data.augment import ImageOptions
from kit.data.loaders import Loader, image_loader
from kit.data.preparation import prepare
from kit.data.prepared import Prepared
from kit.data.public import EncodedImages, PublicImages
from kit.data.sources import SOURCES, ImageEntry, RawFiles, Request
from kit.track import DatasetSpec, Limits, Track

CLASSES = ("a", "b", "c")
LEVELS_APART = {"cpu": 6.0, "cuda": 24.0}
"""How far two loaders' pixels may be apart, of 255, from 24 pixels on: resizing rounds, and the GPU decodes by another
algorithm. A window of a photograph brought to 8 pixels is up to 15 levels apart."""
MEAN_LEVELS_APART = {"cpu": 0.5, "cuda": 2.0}


def gradient(width: int, height: int) -> Image.Image:
    """Red tells the column, green the row: where a pixel came from can be read off it."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), np.full_like(x, 128)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours, as different from picture to picture as photographs are."""
    random = np.random.default_rng(seed)
    coarse: NDArray[np.uint8] = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_images(folder: Path, images: Sequence[Image.Image], encoding: str = "JPEG") -> list[ImageEntry]:
    """Class folders with the images, image i in class i mod 3."""
    entries = []
    for number, image in enumerate(images):
        name = CLASSES[number % len(CLASSES)]
        path = folder / name / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, encoding, quality=90)
        entries.append(ImageEntry(str(path), 0, path.stat().st_size, f"{name}/{path.name}", number % len(CLASSES)))
    return entries


def track(name: str = "made", **differently: object) -> Track:
    """A track on the dataset `name`."""
    content: dict[str, object] = {
        "name": name,
        "version": 1,
        "title": name,
        "dataset": name,
        "metric": "top1",
        "target": 0.9,
        "limits": Limits(run_s=60),
        "baseline": f"baselines/{name}",
    }
    return Track.model_validate(content | differently)


def prepare_images(
    folder: Path, train: Sequence[Image.Image], test: Sequence[Image.Image], encoding: str = "JPEG"
) -> Prepared:
    """The images as a prepared dataset."""
    raw = RawFiles(
        write_images(folder / "train", train, encoding), write_images(folder / "val", test, encoding), CLASSES
    )
    before: dict[str, Callable[[Request], object]] = dict(SOURCES)
    SOURCES["made"] = lambda request: raw
    try:
        return prepare(track(), folder / "data")
    finally:
        SOURCES.clear()
        SOURCES.update(before)  # type: ignore[arg-type]


def opened(prepared: Prepared) -> PublicImages:
    """The public folder as a trainer opens it; the descriptor lives as long as the process."""
    return PublicImages(os.open(prepared.public_dir, os.O_RDONLY | os.O_DIRECTORY))


def make_loader(
    kind: str,
    images: EncodedImages,
    *,
    labels: bool = True,
    seed: int = 0,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1 / 255,) * 3,
    **options: Any,
) -> Loader:
    """Label i is image i; pixels come as they are, unless told a mean and a deviation."""
    spec = DatasetSpec(
        name="made",
        format="jpeg",
        channels=3,
        height=224,
        width=224,
        classes=max(2, len(images)),
        train_count=len(images),
        test_count=len(images),
        mean=mean,
        std=std,
    )
    name, _, device = kind.partition(" ")
    return image_loader(
        "dali" if name == "dali" else "torch",
        images,
        np.arange(len(images)) if labels else None,
        spec,
        ImageOptions(**({"sizes": (32,)} | options)),
        seed=seed,
        device=torch.device(device or "cpu"),
    )


def assert_same_epoch(one: Loader, other: Loader, device: str = "cpu") -> None:
    for (images, labels), (other_images, other_labels) in zip(iter(one), iter(other), strict=True):
        assert labels is not None
        assert other_labels is not None
        assert labels.tolist() == other_labels.tolist()
        assert images.shape == other_images.shape
        apart = (images.cpu() - other_images.cpu()).abs()
        assert apart.max() <= LEVELS_APART[device]
        assert apart.mean() <= MEAN_LEVELS_APART[device]
