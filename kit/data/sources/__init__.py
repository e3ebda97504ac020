"""Where each dataset comes from: name -> the function that reads it, as arrays or as a list of image files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.errors import KitError

Tell = Callable[[int, int], None]
"""Called with how many images are done, and how many there are."""


@dataclass(frozen=True)
class RawDataset:
    """A small dataset as arrays: images (N, C, H, W) uint8, labels (N,) int64."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int


class ImageEntry(NamedTuple):
    """One encoded image: `size` bytes of the file `container`, from `offset` on."""

    container: str
    offset: int
    size: int
    name: str
    """Class and file name, `n01440764/n01440764_10026.JPEG`: the same whether it came from a folder or a tar."""
    label: int


@dataclass(frozen=True)
class RawFiles:
    """A large dataset as encoded images that lie somewhere in files; sorted by name in both splits."""

    train: list[ImageEntry]
    test: list[ImageEntry]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What a source is asked for."""

    path: Path | None = None
    """Where the user says that the published files lie."""
    rehearsal: bool = False
    """Take data of the right format that is not the published data."""
    download_dir: Path | None = None
    """Where a source that can be downloaded may keep its archive."""
    tell: Tell = lambda done, total: None


def _digits(request: Request) -> RawDataset:
    from kit.data.sources import digits

    _refuse_source(request, "digits")
    return digits.load()


def _glyphs(request: Request) -> RawDataset:
    from kit.data.sources import glyphs

    _refuse_source(request, "glyphs")
    return glyphs.load(request.tell)


def _cifar10(request: Request) -> RawDataset:
    from kit.data.sources import cifar10

    return cifar10.load(request.path, rehearsal=request.rehearsal, download_dir=request.download_dir)


def _imagenet(request: Request) -> RawFiles:
    from kit.data.sources import imagenet

    return imagenet.find(request.path, rehearsal=request.rehearsal)


def _arrays(request: Request) -> RawDataset:
    from kit.data.sources import arrays

    _refuse_rehearsal(request)
    return arrays.load(request.path)


def _folders(request: Request) -> RawFiles:
    from kit.data.sources import imagenet

    _refuse_rehearsal(request)
    return imagenet.find_folders(request.path)


def _refuse_source(request: Request, name: str) -> None:
    if request.path is not None or request.rehearsal:
        raise KitError(f"{name} are made on the spot: leave --source and --rehearsal out")


def _refuse_rehearsal(request: Request) -> None:
    if request.rehearsal:
        raise KitError("data of your own are never a rehearsal of others: leave --rehearsal out")


SOURCES: dict[str, Callable[[Request], RawDataset | RawFiles]] = {
    "digits": _digits,
    "glyphs": _glyphs,
    "cifar10": _cifar10,
    "imagenet": _imagenet,
    "arrays": _arrays,
    "folders": _folders,
}
"""`arrays` and `folders` read anybody's own data; the others are datasets by name."""


def source(name: str) -> Callable[[Request], RawDataset | RawFiles]:
    """The source of that name.

    Raises:
        KitError: There is none.
    """
    if name not in SOURCES:
        raise KitError(f"there is no data source '{name}'; known: {', '.join(sorted(SOURCES))}")
    return SOURCES[name]
