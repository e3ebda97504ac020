"""How fast do images reach the trainer? The kit's loaders against torchvision's DataLoader with a worker per core.

Two pipelines, both of training: JPEGs of about 500x375 (random window, 224x224, flip, normalise), and CIFAR-shaped
arrays (crop with padding 4, flip, normalise). Everything runs on the same files in one process, contenders taking turns
round by round; each turn is timed over whole epochs after one that is not. The decode-only limit is DALI decoding the
same windows and doing nothing else.

    python benchmarks/loaders.py [--rounds 10] [--device cpu]
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from kit.data.augment import ArrayOptions, ImageOptions, batch_bounds, plan_arrays, plan_images
from kit.data.loaders import Kind, array_loader, image_loader
from kit.data.pool import usable_cores
from kit.data.preparation import prepare
from kit.data.prepared import Prepared
from kit.data.public import EncodedImages, PublicImages
from kit.data.sources import Request
from kit.data.synthesize import write_imagenet
from kit.track import DatasetSpec, Limits, Track

JPEGS, JPEG_BATCH = 1000, 50
ARRAYS, ARRAY_BATCH = 20_000, 500
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Contender = Callable[[], int]
"""Serves one epoch and says how many images it had."""


def serve(loader: Any) -> int:
    """Go through one epoch, touching each batch as a trainer would."""
    count = 0
    for images, _ in loader:
        count += len(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return count


def rate(contender: Contender, seconds: float) -> float:
    """Images per second over whole epochs that take at least so long."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += contender()
    return count / (time.perf_counter() - start)


def compare(title: str, contenders: dict[str, Contender], against: str, rounds: int, seconds: float) -> None:
    """Rounds in which every contender has a turn, each time in another order, and a table of medians."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()
    names = list(contenders)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rates[name].append(rate(contenders[name], seconds))
    print(f"\n{title}: {rounds} rounds, {usable_cores()} cores")
    for name, found in rates.items():
        ratios = sorted(a / b for a, b in zip(found, rates[against], strict=True))
        quarter = len(ratios) // 4
        print(
            f"  {name:38s} {statistics.median(found):10,.0f} images/s   {statistics.median(ratios):6.2f} x "
            f"(quartiles {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})",
            flush=True,
        )


# ---- JPEGs


def prepared_jpegs(folder: Path) -> tuple[Prepared, Path]:
    """Synthetic JPEGs, prepared, and the class folders they came from."""
    tree = write_imagenet(folder / "tree", classes=10, train=JPEGS, test=10)
    track = Track(
        name="jpegs",
        version=1,
        title="JPEGs",
        dataset="jpegs",
        source="folders",
        metric="top1",
        target=0.9,
        limits=Limits(run_s=1),
        baseline="baselines/none",
    )
    return prepare(track, folder / "data", Request(path=tree)), tree


def torchvision_jpegs(tree: Path) -> Contender:
    """What the documentation of torchvision shows."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(tree / "train", transform),
        batch_size=JPEG_BATCH,
        shuffle=True,
        num_workers=usable_cores(),
        persistent_workers=True,
    )
    return lambda: serve(loader)


def kit_jpegs(
    kind: Kind, images: EncodedImages, labels: NDArray[np.int64], spec: DatasetSpec, device: str
) -> Contender:
    """The kit's loader."""
    options = ImageOptions(batch_size=JPEG_BATCH, shuffle=True, flip=True, sizes=(224,), crop_area=(0.08, 1))
    loader = image_loader(kind, images, labels, spec, options, seed=0, device=torch.device(device))
    return lambda: serve(loader)


def decode_only(images: EncodedImages, device: str) -> Contender:
    """DALI decoding the windows of an epoch, and nothing else."""
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import pipeline_def

    options = ImageOptions(batch_size=JPEG_BATCH, shuffle=True, sizes=(224,), crop_area=(0.08, 1))
    bounds = batch_bounds(len(images), options)

    def source(info: Any) -> Any:
        plan = plan_images(images.sizes, options, seed=0, stream=0, epoch=info.iteration // len(bounds))
        rows = slice(*bounds[info.iteration % len(bounds)])
        start, shape = (plan.window[rows, part].astype(np.int32) for part in (slice(2), slice(2, 4)))
        return [images[number] for number in plan.order[rows]], start, shape

    @pipeline_def(batch_size=JPEG_BATCH, num_threads=usable_cores(), device_id=0 if device == "cuda" else None)
    def pipeline() -> Any:
        encoded, start, shape = fn.external_source(source=source, num_outputs=3, batch=True, batch_info=True)
        return fn.decoders.image_slice(
            encoded,
            start=start,
            shape=shape,
            axis_names="HW",
            device="mixed" if device == "cuda" else "cpu",
            output_type=types.RGB,
            jpeg_fancy_upsampling=True,
        )

    made = pipeline()

    def one() -> int:
        for _ in bounds:
            made.run()
        return len(images)

    return one


# ---- arrays


def made_arrays() -> tuple[NDArray[np.uint8], NDArray[np.int64], DatasetSpec]:
    """Random images in CIFAR-10's shape."""
    random = np.random.default_rng(0)
    spec = DatasetSpec(
        name="made",
        channels=3,
        height=32,
        width=32,
        classes=10,
        train_count=ARRAYS,
        test_count=ARRAYS,
        mean=(0.49, 0.48, 0.45),
        std=(0.25, 0.24, 0.26),
    )
    images = random.integers(0, 256, (ARRAYS, 3, 32, 32), dtype=np.uint8)
    return images, random.integers(0, 10, ARRAYS), spec


class _Pictures(torch.utils.data.Dataset[Any]):
    """As torchvision's CIFAR10 class serves its arrays: an image at a time, through Pillow."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: v2.Compose) -> None:
        self._images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self._labels = labels
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image

        return self._transform(Image.fromarray(self._images[number])), int(self._labels[number])


def torchvision_arrays(images: NDArray[np.uint8], labels: NDArray[np.int64], spec: DatasetSpec) -> Contender:
    """What tutorials on CIFAR-10 show."""
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(spec.mean, spec.std),
        ]
    )
    loader = torch.utils.data.DataLoader(
        _Pictures(images, labels, transform),
        batch_size=ARRAY_BATCH,
        shuffle=True,
        num_workers=usable_cores(),
        persistent_workers=True,
    )
    return lambda: serve(loader)


def kit_arrays(
    kind: Kind, images: NDArray[np.uint8], labels: NDArray[np.int64], spec: DatasetSpec, device: str
) -> Contender:
    """The kit's loader."""
    options = ArrayOptions(batch_size=ARRAY_BATCH, shuffle=True, crop_padding=4, flip=True)
    loader = array_loader(kind, images, labels, spec, options, seed=0, device=torch.device(device))
    return lambda: serve(loader)


def resident(images: NDArray[np.uint8], labels: NDArray[np.int64], spec: DatasetSpec, device: str) -> Contender:
    """A recipe on `run.arrays`: everything normalised and padded once, then whole-epoch tensor operations."""
    data = torch.from_numpy(images).to(device)
    mean, std = (255 * torch.tensor(values, device=device).view(-1, 1, 1) for values in (spec.mean, spec.std))
    padded = torch.nn.functional.pad((data - mean) / std, (4,) * 4)
    targets = torch.from_numpy(labels).to(device)
    epochs: Iterator[int] = iter(range(10**9))
    options = ArrayOptions(batch_size=ARRAY_BATCH, shuffle=True, crop_padding=4, flip=True)
    bounds = batch_bounds(len(images), options)

    def one() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        plan = plan_arrays(len(images), (32, 32), options, seed=0, stream=0, epoch=next(epochs))
        order, offsets = torch.from_numpy(plan.order).to(device), (9 * plan.crop_y + plan.crop_x)
        moved = torch.empty(len(images), 3, 32, 32, device=device)
        for offset in np.unique(offsets):
            chosen = torch.from_numpy(np.flatnonzero(offsets == offset)).to(device)
            y, x = divmod(int(offset), 9)
            moved[chosen] = padded[order[chosen], :, y : y + 32, x : x + 32]
        mirror = torch.from_numpy(plan.mirror).to(device)
        moved = torch.where(mirror.view(-1, 1, 1, 1), moved.flip(-1), moved)
        for start, stop in bounds:
            yield moved[start:stop], targets[order[start:stop]]

    return lambda: serve(one())


def main() -> None:
    """Run both comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a turn")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments = parser.parse_args()
    device = arguments.device
    baseline = f"torchvision DataLoader, {usable_cores()} workers"
    with tempfile.TemporaryDirectory() as folder:
        prepared, tree = prepared_jpegs(Path(folder))
        public = PublicImages(os.open(prepared.public_dir, os.O_RDONLY))
        encoded, targets = public.train_images, public.train_labels
        mean_bytes = np.mean([len(encoded[number]) for number in range(len(encoded))])
        height, width = np.median(encoded.sizes, axis=0).astype(int)
        print(f"{len(encoded)} JPEGs, median {width}x{height}, mean {mean_bytes / 1e3:.0f} kB")
        jpegs: dict[str, Contender] = {
            baseline: torchvision_jpegs(tree),
            "loader=dali": kit_jpegs("dali", encoded, targets, prepared.spec, device),
            "loader=torch": kit_jpegs("torch", encoded, targets, prepared.spec, device),
            "decode-only limit (DALI)": decode_only(encoded, device),
        }
        compare("JPEG to 224x224", jpegs, baseline, arguments.rounds, arguments.seconds)
        del jpegs
    images, labels, spec = made_arrays()
    arrays: dict[str, Contender] = {
        baseline: torchvision_arrays(images, labels, spec),
        "loader=dali": kit_arrays("dali", images, labels, spec, device),
        "loader=torch": kit_arrays("torch", images, labels, spec, device),
        "run.arrays, the recipe's own tensor code": resident(images, labels, spec, device),
    }
    compare("arrays of 3x32x32", arrays, baseline, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
