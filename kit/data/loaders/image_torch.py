"""Encoded images through torch: decoded, cropped and resized by a DataLoader's processes, normalised on the device."""

import io
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms.v2 import functional as transforms

from kit.data.augment import ImageOptions, ImagePlan, batch_bounds, plan_images
from kit.data.loaders.finish import Finish
from kit.data.pool import usable_cores
from kit.data.public import EncodedImages
from kit.track import DatasetSpec


class _View(NamedTuple):
    """What to make of one image: a row of the plan."""

    size: int
    number: int
    window: list[int]
    resized: list[int]
    crop: list[int]
    mirror: bool


class _Views(Dataset[torch.Tensor]):
    """Runs in the worker processes."""

    def __init__(self, images: EncodedImages) -> None:
        self._images = images

    def __getitem__(self, view: _View) -> torch.Tensor:
        # On a Pillow image until the end: its resizing is twice as fast as a tensor's.
        image = Image.open(io.BytesIO(self._images[view.number].tobytes())).convert("RGB")
        top, left, height, width = view.window
        image = transforms.resized_crop(image, top, left, height, width, view.resized)
        image = transforms.crop(image, *view.crop, view.size, view.size)
        if view.mirror:
            image = transforms.horizontal_flip(image)
        return cast(torch.Tensor, transforms.pil_to_tensor(image))


class _Batches(Sampler[list[_View]]):
    """A batch sampler that gives whole views of an epoch's plan instead of bare indices."""

    def __init__(self, bounds: list[tuple[int, int]]) -> None:
        self._bounds = bounds
        self.plan: ImagePlan | None = None

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[list[_View]]:
        plan = self.plan
        assert plan is not None
        columns = (plan.order, plan.window, plan.resized, plan.crop, plan.mirror)
        for start, stop in self._bounds:
            rows = zip(*(column[start:stop].tolist() for column in columns), strict=True)
            yield [_View(plan.size, *row) for row in rows]


class TorchImageLoader:
    """See `kit.data.loaders`."""

    def __init__(
        self,
        images: EncodedImages,
        labels: NDArray[np.int64] | None,
        spec: DatasetSpec,
        options: ImageOptions,
        *,
        seed: int,
        stream: int,
        device: torch.device,
    ) -> None:
        self._images = images
        self._labels = None if labels is None else torch.from_numpy(labels)
        self._options = options
        self._seed = seed
        self._stream = stream
        self._device = device
        self._epoch = 0
        self._bounds = batch_bounds(len(images), options)
        self._finish = Finish(spec, options, device)
        self._idle: tuple[DataLoader[torch.Tensor], _Batches] | None = None

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        plan = plan_images(self._images.sizes, self._options, seed=self._seed, stream=self._stream, epoch=self._epoch)
        self._epoch += 1
        # Workers are kept from epoch to epoch, but not through one that was broken off or that another began inside.
        (loader, batches), self._idle = self._idle or self._start(), None
        batches.plan = plan
        for images, (start, stop) in zip(loader, self._bounds, strict=True):
            labels = None if self._labels is None else self._labels[torch.from_numpy(plan.order[start:stop])]
            yield self._finish(images.to(self._device, non_blocking=True)), self._moved(labels)
        self._idle = loader, batches

    def _start(self) -> "tuple[DataLoader[torch.Tensor], _Batches]":
        batches = _Batches(self._bounds)
        loader = DataLoader(
            _Views(self._images),
            batch_sampler=cast(Sampler[list[int]], batches),
            num_workers=usable_cores(),
            persistent_workers=True,
            pin_memory=self._device.type == "cuda",
            generator=torch.Generator(),  # else every epoch would draw from the recipe's own
        )
        return loader, batches

    def _moved(self, labels: torch.Tensor | None) -> torch.Tensor | None:
        return None if labels is None else labels.to(self._device)
