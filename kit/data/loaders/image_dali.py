"""Encoded images through a DALI pipeline: decoded on the CPU, or on CPU and GPU together (`mixed`)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.pipeline import pipeline_def

from kit.data.augment import ImageOptions, ImagePlan, batch_bounds, plan_images
from kit.data.loaders.dali import DaliLoader, Source, output_layout, output_type
from kit.data.pool import usable_cores
from kit.data.public import EncodedImages
from kit.track import DatasetSpec

READ_AHEAD = 4
"""Batches that the kernel is told to read before they are decoded."""
HW_DECODER_LOAD = 0.65
WIDTH_HINT, HEIGHT_HINT = 5980, 6430
"""For `mixed`: the hardware's share and the largest image of ImageNet, as in NVIDIA's ResNet-50 example. Not confirmed
on a GPU yet."""


class DaliImageLoader(DaliLoader):
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
        targets = labels if labels is not None else np.zeros(len(images), np.int64)
        bounds = batch_bounds(len(images), options)

        def plan(epoch: int) -> ImagePlan:
            return plan_images(images.sizes, options, seed=seed, stream=stream, epoch=epoch)

        def take(plan: ImagePlan, number: int) -> tuple[Any, ...]:
            for ahead in range(number + READ_AHEAD if number else 0, number + READ_AHEAD + 1):
                if ahead < len(bounds):
                    images.will_need(plan.order[slice(*bounds[ahead])])
            rows = slice(*bounds[number])
            chosen = plan.order[rows]
            return (
                [images[image] for image in chosen],
                targets[chosen],
                plan.window[rows, :2].astype(np.int32),
                plan.window[rows, 2:].astype(np.int32),
                plan.resized[rows].astype(np.float32),
                _fractions(plan, rows, 0),
                _fractions(plan, rows, 1),
                np.full(len(chosen), plan.size, np.float32),
                plan.mirror[rows].astype(np.int32),
            )

        def build(first_epoch: int) -> Any:
            return _pipeline(Source(len(bounds), plan, take, first_epoch), spec, options, len(images), device)

        super().__init__(build, len(bounds), has_labels=labels is not None, options=options)


def _pipeline(
    source: Source[ImagePlan], spec: DatasetSpec, options: ImageOptions, count: int, device: torch.device
) -> Any:
    gpu = device.type == "cuda"

    @pipeline_def(
        batch_size=min(options.batch_size, count),
        num_threads=usable_cores(),
        device_id=(device.index or 0) if gpu else None,
        prefetch_queue_depth=2,
    )
    def pipeline() -> Any:
        encoded, labels, start, shape, resized, y, x, size, mirror = fn.external_source(
            source=source, num_outputs=9, batch=True, batch_info=True
        )
        images = fn.decoders.image_slice(
            encoded,
            start=start,
            shape=shape,
            axis_names="HW",
            device="mixed" if gpu else "cpu",
            output_type=types.RGB,
            adjust_orientation=False,  # as everywhere else in ImageNet's history
            jpeg_fancy_upsampling=True,  # as Pillow and torchvision decode
            hw_decoder_load=HW_DECODER_LOAD,
            preallocate_width_hint=WIDTH_HINT,
            preallocate_height_hint=HEIGHT_HINT,
        )
        # Triangular is bilinear with antialiasing, in training and evaluation alike.
        images = fn.resize(images, size=resized, interp_type=types.INTERP_TRIANGULAR)
        images = fn.crop_mirror_normalize(
            images,
            crop_h=size,
            crop_w=size,
            crop_pos_y=y,
            crop_pos_x=x,
            mirror=mirror,
            mean=[255 * value for value in spec.mean],
            std=[255 * value for value in spec.std],
            dtype=output_type(options),
            output_layout=output_layout(options),
            rounding="round",
        )
        return images, labels.gpu() if gpu else labels

    return pipeline()


def _fractions(plan: ImagePlan, rows: slice, axis: int) -> NDArray[np.float32]:
    """DALI places a crop by a fraction of the free space."""
    free = np.maximum(1, plan.resized[rows, axis] - plan.size)
    return (plan.crop[rows, axis] / free).astype(np.float32)
