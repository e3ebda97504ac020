"""What the DALI loaders share: epochs driven by DALI's own count, and an iterator that survives a broken-off epoch."""

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from nvidia.dali import types
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from kit.data.augment import LoaderOptions

P = TypeVar("P")


class Source(Generic[P]):
    """Feeds a pipeline one batch per call, epoch after epoch.

    DALI calls it ahead of use (prefetching), so the epoch comes from DALI's own count, never from a counter here.

    Args:
        batches: Per epoch.
        plan: Draws an epoch.
        take: A batch, by the epoch's plan and the batch's number.
        first_epoch: The number of the first epoch.
    """

    def __init__(
        self,
        batches: int,
        plan: Callable[[int], P],
        take: Callable[[P, int], tuple[Any, ...]],
        first_epoch: int,
    ) -> None:
        self._batches = batches
        self._plan = plan
        self._take = take
        self._first_epoch = first_epoch
        self._planned: tuple[int, P] | None = None

    def __call__(self, info: Any) -> tuple[Any, ...]:
        """The batch that DALI's BatchInfo names."""
        if info.iteration >= self._batches:
            raise StopIteration
        epoch = self._first_epoch + info.epoch_idx
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self._plan(epoch))
        return self._take(self._planned[1], info.iteration)


class DaliLoader:
    """Epochs of a pipeline whose outputs are images and labels; see `kit.data.loaders`.

    Args:
        build: A pipeline that begins with the given epoch.
        batches: Per epoch.
        has_labels: Whether labels are handed on.
        options: For the images' type and layout.
    """

    def __init__(self, build: Callable[[int], Any], batches: int, *, has_labels: bool, options: LoaderOptions) -> None:
        self._build = build
        self._batches = batches
        self._has_labels = has_labels
        self._options = options
        self._epoch = 0
        self._iterator: Any = None

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        # An epoch that was broken off leaves prefetched batches behind, and DALI cannot reset in the middle of one:
        # then a new pipeline is built (a few milliseconds).
        iterator, self._iterator = self._start() if self._iterator is None else self._iterator, None
        self._epoch += 1
        next_epoch = self._epoch
        for (batch,) in iterator:
            yield self._finished(batch["images"]), batch["labels"].view(-1) if self._has_labels else None
        if self._epoch == next_epoch:  # else another epoch began inside this one, and this pipeline lags behind
            self._iterator = iterator

    def _start(self) -> Any:
        # prepare_first_batch would run the pipeline here, outside any clock that starts with the first batch.
        return DALIGenericIterator(
            [self._build(self._epoch)], ["images", "labels"], auto_reset=True, prepare_first_batch=False
        )

    def _finished(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(getattr(torch, self._options.dtype))  # DALI has no bfloat16
        return images.permute(0, 3, 1, 2) if self._options.channels_last else images


def output_type(options: LoaderOptions) -> Any:
    """The type that the pipeline gives."""
    return types.FLOAT16 if options.dtype == "float16" else types.FLOAT


def output_layout(options: LoaderOptions) -> str:
    """The layout that the pipeline gives."""
    return "HWC" if options.channels_last else "CHW"
