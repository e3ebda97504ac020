"""Loaders: batches of normalised float32 images (N, C, H, W) on the device, with int64 labels where the split has them.

Each `iter()` of a loader is one epoch, with its own order and augmentation.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from kit.data.augment import LoaderOptions
from kit.track import DatasetSpec

if TYPE_CHECKING:
    import torch

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
    kind: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
    spec: DatasetSpec,
    options: LoaderOptions,
    *,
    seed: int,
    device: "torch.device",
) -> Loader:
    """A loader over arrays in memory; `kind` is "dali" or "torch"."""
    if kind == "dali":
        from kit.data.loaders.array_dali import DaliArrayLoader

        return DaliArrayLoader(images, labels, spec, options, seed=seed, device=device)
    from kit.data.loaders.array_torch import TorchArrayLoader

    return TorchArrayLoader(images, labels, spec, options, seed=seed, device=device)
