"""The public folder as a trainer reads it, through the descriptor that comes with `go`.

Arrays:          train_images.npy  train_labels.npy  test_images.npy
Encoded images:  train-00000.tar …  train_index.npy  train_labels.npy  test-00000.tar …  test_index.npy
"""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAIN_IMAGES = "train_images.npy"
TRAIN_LABELS = "train_labels.npy"
TEST_IMAGES = "test_images.npy"
TRAIN_INDEX = "train_index.npy"
TEST_INDEX = "test_index.npy"


class PublicArrays:
    """Images (N, C, H, W) uint8 and labels (N,) int64."""

    def __init__(self, descriptor: int) -> None:
        self.train_images: NDArray[np.uint8] = _load(descriptor, TRAIN_IMAGES)
        self.train_labels: NDArray[np.int64] = _load(descriptor, TRAIN_LABELS)
        self.test_images: NDArray[np.uint8] = _load(descriptor, TEST_IMAGES)


class PublicImages:
    """Encoded images of both splits, and labels (N,) int64."""

    def __init__(self, descriptor: int) -> None:
        self.train_images = EncodedImages(descriptor, "train", _load(descriptor, TRAIN_INDEX))
        self.train_labels: NDArray[np.int64] = _load(descriptor, TRAIN_LABELS)
        self.test_images = EncodedImages(descriptor, "test", _load(descriptor, TEST_INDEX))


class EncodedImages:
    """The encoded images of one split, by number. Shards are mapped into memory when first touched."""

    def __init__(self, descriptor: int, split: str, index: NDArray[np.void]) -> None:
        self._descriptor = descriptor
        self._split = split
        self._index = index
        self._shards: dict[int, mmap.mmap] = {}
        self.sizes: NDArray[np.int64] = np.stack([index["height"], index["width"]], axis=1).astype(np.int64)
        """(N, 2) height and width."""

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Bytes of one image, (size,) uint8, read-only and not copied."""
        row = self._index[number]
        return np.frombuffer(self._shard(int(row["shard"])), np.uint8, int(row["bytes"]), int(row["offset"]))

    def will_need(self, numbers: NDArray[np.int64]) -> None:
        """Have the kernel begin to read these images, and return at once."""
        for row in self._index[numbers]:
            start = int(row["offset"]) // mmap.PAGESIZE * mmap.PAGESIZE
            length = int(row["offset"]) + int(row["bytes"]) - start
            self._shard(int(row["shard"])).madvise(mmap.MADV_WILLNEED, start, length)

    def _shard(self, number: int) -> mmap.mmap:
        if number not in self._shards:
            file = os.open(f"{self._split}-{number:05d}.tar", os.O_RDONLY, dir_fd=self._descriptor)
            try:
                self._shards[number] = mmap.mmap(file, 0, prot=mmap.PROT_READ)
            finally:
                os.close(file)
        return self._shards[number]


def _load(folder: int, name: str) -> NDArray[Any]:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array
