"""Anybody's own small data: one .npz file with four arrays."""

import hashlib
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kit.data.sources import RawDataset
from kit.errors import KitError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
ORDER = "arrays/1"
CHANNELS = (1, 3, 4)


def hidden_order(images: NDArray[np.uint8], salt: str) -> NDArray[np.int64]:
    """An order of images that reveals nothing of how they came: by SHA-256 of their pixels."""
    keys = [hashlib.sha256(f"{salt}/".encode() + image.tobytes()).digest() for image in images]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def load(path: Path | None) -> RawDataset:
    """Read the arrays; the test images are put into an order that reveals nothing.

    Args:
        path: An .npz with train_images and test_images, uint8 of shape (N, C, H, W), (N, H, W, C) or (N, H, W), and
            train_labels and test_labels, integers (N,) from 0 to classes - 1.

    Raises:
        KitError: It cannot be read, or an array is not as it must be; the message names it.
    """
    if path is None:
        raise KitError(f"give --source FILE.npz with the arrays {', '.join(KEYS)}")
    arrays = _read(path)
    train_images, test_images = (
        _images(arrays[f"{split}_images"], f"{path}: {split}_images") for split in ("train", "test")
    )
    train_labels, test_labels = (
        _labels(arrays[f"{split}_labels"], len(images), f"{path}: {split}_labels")
        for split, images in (("train", train_images), ("test", test_images))
    )
    if train_images.shape[1:] != test_images.shape[1:]:
        raise KitError(
            f"{path}: training images of shape {train_images.shape[1:]} and test images of shape "
            f"{test_images.shape[1:]}; expected the same"
        )
    present = np.unique(train_labels)
    classes = len(present)
    if classes < 2 or present[-1] != classes - 1:
        missing = next((number for number, label in enumerate(present) if number != label), classes)
        raise KitError(
            f"{path}: expected two classes or more, counted from 0 without a gap; class {missing} has no training image"
        )
    if int(test_labels.max()) >= classes:
        raise KitError(f"{path}: test label {int(test_labels.max())} has no training images")
    order = hidden_order(test_images, ORDER)
    return RawDataset(train_images, train_labels, test_images[order], test_labels[order], classes)


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        # np.load would also take a bare array, or a pickle.
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise KitError(f"{path}: expected an .npz file, as numpy.savez writes it")
        with np.load(path, allow_pickle=False) as file:
            if missing := sorted(set(KEYS) - set(file.files)):
                raise KitError(f"{path}: expected the arrays {', '.join(KEYS)}; {', '.join(missing)} not there")
            return {name: file[name] for name in KEYS}
    except OSError as error:
        raise KitError(f"{path}: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise KitError(f"{path}: not a whole .npz file of plain arrays ({' '.join(str(error).split())})") from None


def _images(array: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise KitError(f"{where}: expected uint8 (pixels from 0 to 255), found {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or not array.size:
        raise KitError(f"{where}: expected (N, C, H, W), (N, H, W, C) or (N, H, W), found shape {array.shape}")
    first, last = array.shape[1] in CHANNELS, array.shape[3] in CHANNELS
    if first == last:
        raise KitError(f"{where}: cannot tell the channels (1, 3 or 4) in shape {array.shape}; give (N, C, H, W)")
    pixels = array if first else array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels).astype(np.uint8)


def _labels(array: NDArray[np.generic], count: int, where: str) -> NDArray[np.int64]:
    if not np.issubdtype(array.dtype, np.integer) or array.shape != (count,):
        raise KitError(f"{where}: expected integers of shape ({count},), found {array.dtype} of shape {array.shape}")
    labels = array.astype(np.int64)
    if labels.min() < 0:
        raise KitError(f"{where}: expected classes from 0 on, found {int(labels.min())}")
    return labels
