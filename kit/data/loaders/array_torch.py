"""Arrays through torch: the whole split resident on the device, one gather per batch."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from kit.data.augment import ArrayOptions, batch_bounds, plan_arrays
from kit.data.loaders.finish import Finish
from kit.track import DatasetSpec


class TorchArrayLoader:
    """See `kit.data.loaders`. Images are padded once; crop and flip are folded into the gather's indices."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        spec: DatasetSpec,
        options: ArrayOptions,
        *,
        seed: int,
        stream: int,
        device: torch.device,
    ) -> None:
        pad = options.crop_padding
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad))) if pad else images
        self._images = torch.from_numpy(padded).to(device)
        self._labels = None if labels is None else torch.from_numpy(labels).to(device)
        self._side = spec.height, spec.width
        self._options = options
        self._seed = seed
        self._stream = stream
        self._device = device
        self._epoch = 0
        self._bounds = batch_bounds(len(images), options)
        self._finish = Finish(spec, options, device)

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        options, (height, width) = self._options, self._side
        plan = plan_arrays(
            len(self._images), self._side, options, seed=self._seed, stream=self._stream, epoch=self._epoch
        )
        self._epoch += 1
        order = self._on_device(plan.order)
        rows = self._on_device(plan.crop_y[:, None] + np.arange(height))
        across = np.where(plan.mirror[:, None], np.arange(width)[::-1], np.arange(width))
        columns = self._on_device(plan.crop_x[:, None] + across)
        cut_rows, cut_columns = (
            self._on_device((np.arange(side) >= at[:, None]) & (np.arange(side) < at[:, None] + options.cutout))
            for at, side in ((plan.cutout_y, height), (plan.cutout_x, width))
        )
        moved = options.crop_padding > 0 or options.flip
        for start, stop in self._bounds:
            chosen = order[start:stop]
            if moved:
                # Indexing around the channel slice puts channels last: (N, H, W, C).
                images = self._images[
                    chosen[:, None, None], :, rows[start:stop, :, None], columns[start:stop, None, :]
                ].permute(0, 3, 1, 2)
            elif options.shuffle:
                images = self._images[chosen]
            else:
                images = self._images[start:stop]
            images = self._finish(images)
            if options.cutout:
                images.masked_fill_(cut_rows[start:stop, None, :, None] & cut_columns[start:stop, None, None, :], 0)
            yield images, None if self._labels is None else self._labels[chosen]

    def _on_device(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)
