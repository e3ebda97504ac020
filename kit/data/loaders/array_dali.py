"""Arrays through a DALI pipeline, on the CPU or with the image work on the GPU."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import pipeline_def
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from kit.data.augment import EpochPlan, LoaderOptions, batch_bounds, plan_epoch
from kit.track import DatasetSpec

THREADS = 2
"""At 32x32 pixels more threads are slower: the cost is per call, not per pixel."""


class _Source:
    """Feeds the pipeline one batch per call, epoch after epoch.

    DALI calls it ahead of use (prefetching), so the epoch comes from DALI's own count, never from a counter here.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        options: LoaderOptions,
        seed: int,
        first_epoch: int,
    ) -> None:
        self._images = images
        self._labels = labels
        self._options = options
        self._seed = seed
        self._first_epoch = first_epoch
        self._bounds = batch_bounds(len(labels), options)
        self._planned: tuple[int, EpochPlan] | None = None

    def __call__(self, info: Any) -> tuple[NDArray[Any], ...]:
        if info.iteration >= len(self._bounds):
            raise StopIteration
        epoch = self._first_epoch + info.epoch_idx
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (
                epoch,
                plan_epoch(len(self._labels), self._options, seed=self._seed, epoch=epoch),
            )
        plan = self._planned[1]
        rows = slice(*self._bounds[info.iteration])
        chosen = plan.order[rows]
        # DALI places a crop by a fraction of the free space; k / (2 * padding) is offset k exactly.
        free = max(1, 2 * self._options.crop_padding)
        return (
            self._images[chosen],
            self._labels[chosen],
            (plan.crop_y[rows] / free).astype(np.float32),
            (plan.crop_x[rows] / free).astype(np.float32),
            plan.mirror[rows].astype(np.int32),
        )


class DaliArrayLoader:
    """See `kit.data.loaders`."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        spec: DatasetSpec,
        options: LoaderOptions,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        pad = options.crop_padding
        self._images = np.ascontiguousarray(
            np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad))).transpose(0, 2, 3, 1)
        )
        self._labels = labels if labels is not None else np.zeros(len(images), np.int64)
        self._has_labels = labels is not None
        self._spec = spec
        self._options = options
        self._seed = seed
        self._device = device
        self._epoch = 0
        self._batches = len(batch_bounds(len(images), options))
        self._iterator: Any = None

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        # An epoch that was broken off leaves prefetched batches behind, and DALI cannot reset in the middle of one:
        # then a new pipeline is built (a few milliseconds).
        iterator, self._iterator = self._build() if self._iterator is None else self._iterator, None
        self._epoch += 1
        next_epoch = self._epoch
        for (batch,) in iterator:
            yield batch["images"], batch["labels"].view(-1) if self._has_labels else None
        if self._epoch == next_epoch:  # else another epoch began inside this one, and this pipeline lags behind
            self._iterator = iterator

    def _build(self) -> Any:
        spec, gpu = self._spec, self._device.type == "cuda"
        source = _Source(self._images, self._labels, self._options, self._seed, self._epoch)

        @pipeline_def(
            batch_size=min(self._options.batch_size, len(self._labels)),
            num_threads=THREADS,
            device_id=(self._device.index or 0) if gpu else None,
            seed=self._seed,
            prefetch_queue_depth=2,
        )
        def pipeline() -> Any:
            images, labels, y, x, mirror = fn.external_source(
                source=source, num_outputs=5, batch=True, batch_info=True, layout=["HWC", "", "", "", ""]
            )
            images = fn.crop_mirror_normalize(
                images.gpu() if gpu else images,
                crop=(spec.height, spec.width),
                crop_pos_y=y,
                crop_pos_x=x,
                mirror=mirror,
                mean=[255 * value for value in spec.mean],
                std=[255 * value for value in spec.std],
                dtype=types.FLOAT,
                output_layout="CHW",
                rounding="round",
            )
            return images, labels.gpu() if gpu else labels

        # prepare_first_batch would run the pipeline here, outside any clock that starts with the first batch.
        return DALIGenericIterator([pipeline()], ["images", "labels"], auto_reset=True, prepare_first_batch=False)
