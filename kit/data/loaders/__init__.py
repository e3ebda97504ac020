"""Loaders: batches of normalised images (N, C, H, W) on the device, with int64 labels where the split has them.

Each `iter()` of a loader is one epoch, with its own order and augmentation.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kit.data.augment import ArrayOptions, ImageOptions
from kit.data.public import EncodedImages
from kit.track import DatasetSpec

if TYPE_CHECKING:
    import torch

Kind = Literal["dali", "torch"]
Batch = tuple["torch.Tensor", "torch.Tensor | None"]


class Loader(Protocol):
    """What every loader does."""

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """The next epoch."""
        ...


def array_loader(
    kind: Kind,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    spec: DatasetSpec,
    options: ArrayOptions,
    *,
    seed: int,
    device: "torch.device",
    stream: int = 0,
) -> Loader:
    """A loader over arrays in memory; loaders of one run with different streams draw independently."""
    if kind == "dali":
        from kit.data.loaders.array_dali import DaliArrayLoader

        return DaliArrayLoader(images, labels, spec, options, seed=seed, stream=stream, device=device)
    from kit.data.loaders.array_torch import TorchArrayLoader

    return TorchArrayLoader(images, labels, spec, options, seed=seed, stream=stream, device=device)


def image_loader(
    kind: Kind,
    images: EncodedImages,
    labels: NDArray[np.int64] | None,
    spec: DatasetSpec,
    options: ImageOptions,
    *,
    seed: int,
    device: "torch.device",
    stream: int = 0,
) -> Loader:
    """A loader over encoded images in shards."""
    if kind == "dali":
        from kit.data.loaders.image_dali import DaliImageLoader

        return DaliImageLoader(images, labels, spec, options, seed=seed, stream=stream, device=device)
    from kit.data.loaders.image_torch import TorchImageLoader

    return TorchImageLoader(images, labels, spec, options, seed=seed, stream=stream, device=device)
