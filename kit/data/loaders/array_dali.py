"""Arrays through a DALI pipeline, on the CPU or with the image work on the GPU."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import fn
from nvidia.dali.pipeline import pipeline_def

from kit.data.augment import ArrayOptions, ArrayPlan, batch_bounds, plan_arrays
from kit.data.loaders.dali import DaliLoader, Source, output_layout, output_type
from kit.track import DatasetSpec

THREADS = 2
"""At 32x32 pixels more threads are slower: the cost is per call, not per pixel."""


class DaliArrayLoader(DaliLoader):
    """See `kit.data.loaders`."""

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
        padded = np.ascontiguousarray(np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad))).transpose(0, 2, 3, 1))
        targets = labels if labels is not None else np.zeros(len(images), np.int64)
        bounds = batch_bounds(len(images), options)
        side = (spec.height, spec.width)
        # DALI places a crop by a fraction of the free space; k / (2 * padding) is offset k exactly.
        free = max(1, 2 * pad)

        def plan(epoch: int) -> ArrayPlan:
            return plan_arrays(len(images), side, options, seed=seed, stream=stream, epoch=epoch)

        def take(plan: ArrayPlan, number: int) -> tuple[NDArray[Any], ...]:
            rows = slice(*bounds[number])
            chosen = plan.order[rows]
            batch: tuple[NDArray[Any], ...] = (
                padded[chosen],
                targets[chosen],
                (plan.crop_y[rows] / free).astype(np.float32),
                (plan.crop_x[rows] / free).astype(np.float32),
                plan.mirror[rows].astype(np.int32),
            )
            if options.cutout:
                batch += (np.stack([plan.cutout_y[rows], plan.cutout_x[rows]], axis=1).astype(np.float32),)
            return batch

        def build(first_epoch: int) -> Any:
            return _pipeline(Source(len(bounds), plan, take, first_epoch), spec, options, len(images), device)

        super().__init__(build, len(bounds), has_labels=labels is not None, options=options)


def _pipeline(
    source: Source[ArrayPlan], spec: DatasetSpec, options: ArrayOptions, count: int, device: torch.device
) -> Any:
    gpu = device.type == "cuda"

    @pipeline_def(
        batch_size=min(options.batch_size, count),
        num_threads=THREADS,
        device_id=(device.index or 0) if gpu else None,
        prefetch_queue_depth=2,
    )
    def pipeline() -> Any:
        layout = ["HWC", "", "", "", ""] + [""] * bool(options.cutout)
        images, labels, y, x, mirror, *cutout = fn.external_source(
            source=source, num_outputs=len(layout), batch=True, batch_info=True, layout=layout
        )
        images = fn.crop_mirror_normalize(
            images.gpu() if gpu else images,
            crop=(spec.height, spec.width),
            crop_pos_y=y,
            crop_pos_x=x,
            mirror=mirror,
            mean=[255 * value for value in spec.mean],
            std=[255 * value for value in spec.std],
            dtype=output_type(options),
            output_layout=output_layout(options),
            rounding="round",
        )
        if cutout:
            images = fn.erase(
                images, anchor=cutout[0], shape=[float(options.cutout)] * 2, axis_names="HW", fill_value=0
            )
        return images, labels.gpu() if gpu else labels

    return pipeline()
