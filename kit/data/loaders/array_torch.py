"""Arrays through torch: the whole split resident on the device, one gather per batch."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from kit.data.augment import LoaderOptions, batch_bounds, plan_epoch
from kit.track import DatasetSpec


class TorchArrayLoader:
    """See `kit.data.loaders`. Images are padded once; crop and flip are folded into the gather's indices."""

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
        padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad))) if pad else images
        self._images = torch.from_numpy(padded).to(device)
        self._labels = None if labels is None else torch.from_numpy(labels).to(device)
        self._mean = 255 * torch.tensor(spec.mean, device=device).view(-1, 1, 1)
        self._inverse_std = 1 / (255 * torch.tensor(spec.std, device=device).view(-1, 1, 1))
        self._height, self._width = spec.height, spec.width
        self._options = options
        self._seed = seed
        self._device = device
        self._epoch = 0
        self._bounds = batch_bounds(len(images), options)

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        plan = plan_epoch(len(self._images), self._options, seed=self._seed, epoch=self._epoch)
        self._epoch += 1
        order = torch.from_numpy(plan.order).to(self._device)
        rows = torch.from_numpy(plan.crop_y[:, None] + np.arange(self._height)).to(self._device)
        across = np.where(plan.mirror[:, None], np.arange(self._width)[::-1], np.arange(self._width))
        columns = torch.from_numpy(plan.crop_x[:, None] + across).to(self._device)
        moved = self._options.crop_padding > 0 or self._options.flip
        for start, stop in self._bounds:
            chosen = order[start:stop]
            if not (moved or self._options.shuffle):
                images = self._images[start:stop]
            elif moved:
                # Indexing around the channel slice puts channels last: (N, H, W, C).
                images = self._images[
                    chosen[:, None, None], :, rows[start:stop, :, None], columns[start:stop, None, :]
                ].permute(0, 3, 1, 2)
            else:
                images = self._images[chosen]
            images = (images.float() - self._mean) * self._inverse_std
            yield images.contiguous(), None if self._labels is None else self._labels[chosen]
