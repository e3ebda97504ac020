"""From published files to prepared data: once, whole, and the same on every machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from kit.data.prepared import (
    MANIFEST_FILE,
    TEST_LABELS,
    FileFacts,
    Manifest,
    Prepared,
    facts,
    fingerprint,
    read,
)
from kit.data.public import TEST_IMAGES, TEST_INDEX, TRAIN_IMAGES, TRAIN_INDEX, TRAIN_LABELS
from kit.data.shards import needed_bytes, write_shards
from kit.data.sources import RawDataset, RawFiles, Request, Tell, source
from kit.errors import KitError
from kit.track import DatasetSpec, Track

JPEG_SIZE = 224
JPEG_MEAN = (0.485, 0.456, 0.406)
JPEG_STD = (0.229, 0.224, 0.225)
"""ImageNet's statistics as torchvision's models use them: measuring them would mean to decode every image."""
SPARE_BYTES = 16 << 20
JOURNAL = ".journal"


def prepare(track: Track, data_dir: Path, request: Request | None = None) -> Prepared:
    """The track's data, prepared under `data_dir` if it is not there yet, and checked.

    Whatever ends a preparation, the next call goes on from there; two at the same time do the work once.

    Raises:
        KitError: The data cannot be had, is damaged, or is not what the track names.
    """
    root = data_dir / track.dataset
    request = replace(request or Request(), download_dir=data_dir / ".downloads")
    if not os.path.exists(root / MANIFEST_FILE):
        load = source(track.source or track.dataset)
        with _at_work_on(track.dataset, data_dir):
            if not os.path.exists(root / MANIFEST_FILE):
                _make(load(request), track.dataset, root, request)
    prepared = read(root)
    prepared.verify(shards=False)
    if (refusal := prepared.refusal(track)) is not None:
        raise KitError(refusal)
    return prepared


def write_arrays(raw: RawDataset, name: str, root: Path, *, rehearsal: bool) -> Prepared:
    """Prepare arrays that are at hand; what an interrupted call left is made anew.

    Raises:
        KitError: There is no room.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    _make(raw, name, root, Request(rehearsal=rehearsal))
    return read(root)


@contextmanager
def _at_work_on(dataset: str, data_dir: Path) -> Iterator[None]:
    """One process at a time; what the operating system refuses is the user's to mend."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{dataset}.lock"):
            yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise KitError(f"cannot prepare {dataset} in {data_dir / dataset}: {where}{error.strerror}") from error


def _make(raw: RawDataset | RawFiles, name: str, root: Path, request: Request) -> None:
    """Write beside the final place and rename: what is not whole is never taken for prepared data."""
    partial = root.with_name(f".{name}.partial")
    try:
        if isinstance(raw, RawDataset):
            shutil.rmtree(partial, ignore_errors=True)
            manifest = _write_arrays(raw, name, partial, rehearsal=request.rehearsal)
        else:
            manifest = _write_files(raw, name, partial, rehearsal=request.rehearsal, tell=request.tell)
    except OSError:
        if isinstance(raw, RawDataset):  # nothing to go on from
            shutil.rmtree(partial, ignore_errors=True)
        raise
    (partial / "private").chmod(0o700)
    (partial / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    os.rename(partial, root)


def _need(needed_bytes: int, name: str, partial: Path) -> None:
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    free = shutil.disk_usage(partial).free
    if there + free < needed_bytes + SPARE_BYTES:
        raise KitError(
            f"preparing {name} takes {(needed_bytes + SPARE_BYTES - there) / 1e9:.2f} GB, and {free / 1e9:.2f} GB are "
            f"free in {partial.parent}; make room or choose another data_dir"
        )


# ---- arrays


def _write_arrays(raw: RawDataset, name: str, partial: Path, *, rehearsal: bool) -> Manifest:
    arrays: dict[str, NDArray[np.generic]] = {
        f"public/{TRAIN_IMAGES}": raw.train_images,
        f"public/{TRAIN_LABELS}": raw.train_labels,
        f"public/{TEST_IMAGES}": raw.test_images,
        TEST_LABELS: raw.test_labels,
    }
    _, channels, height, width = raw.train_images.shape
    mean, std = _statistics(raw.train_images)
    spec = DatasetSpec(
        name=name,
        channels=channels,
        height=height,
        width=width,
        classes=raw.classes,
        train_count=len(raw.train_labels),
        test_count=len(raw.test_labels),
        mean=mean,
        std=std,
    )
    partial.mkdir()
    _need(sum(array.nbytes for array in arrays.values()), name, partial)
    files = _save(arrays, partial)
    return Manifest(spec=spec, rehearsal=rehearsal, files=files, fingerprint=fingerprint(files))


def _save(arrays: dict[str, NDArray[np.generic]], folder: Path) -> dict[str, FileFacts]:
    for path, array in arrays.items():
        (folder / path).parent.mkdir(exist_ok=True)
        np.save(folder / path, array, allow_pickle=False)
    return {path: facts(folder / path) for path in arrays}


def _statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixels scaled to 0..1; from exact counts of the 256 values."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), 1000):
        for channel, pixels in enumerate(images[start : start + 1000].transpose(1, 0, 2, 3)):
            counts[channel] += np.bincount(pixels.ravel(), minlength=256)
    values, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ values / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / total
    # A channel of one value has nothing to be scaled by.
    return tuple(mean.tolist()), tuple(np.where(variance > 0, variance**0.5, 1.0).tolist())


# ---- encoded images


def _write_files(raw: RawFiles, name: str, partial: Path, *, rehearsal: bool, tell: Tell) -> Manifest:
    public = partial / "public"
    public.mkdir(parents=True, exist_ok=True)
    _need(needed_bytes(raw), name, partial)
    sharded = write_shards(raw, public, partial / JOURNAL, tell)
    arrays: dict[str, NDArray[np.generic]] = {
        f"public/{TRAIN_INDEX}": sharded.index["train"],
        f"public/{TRAIN_LABELS}": sharded.labels["train"],
        f"public/{TEST_INDEX}": sharded.index["test"],
        TEST_LABELS: sharded.labels["test"],
    }
    spec = DatasetSpec(
        name=name,
        format="jpeg",
        channels=3,
        height=JPEG_SIZE,
        width=JPEG_SIZE,
        classes=len(raw.class_names),
        train_count=len(raw.train),
        test_count=len(raw.test),
        mean=JPEG_MEAN,
        std=JPEG_STD,
    )
    files = _save(arrays, partial) | {
        f"public/{shard}": FileFacts(sha256=sha256, bytes=(public / shard).stat().st_size)
        for shard, sha256 in sorted(sharded.digests.items())
    }
    shutil.rmtree(partial / JOURNAL)
    return Manifest(
        spec=spec, rehearsal=rehearsal, class_names=raw.class_names, files=files, fingerprint=fingerprint(files)
    )
