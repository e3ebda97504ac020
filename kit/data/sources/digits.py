"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI Optical Recognition, test part)."""

import hashlib

import numpy as np

from kit.data.sources import RawDataset

TRAIN_COUNT = 1000
SPLIT = "digits/1"
"""Names the split: a change of the rule below must change it."""


def load() -> RawDataset:
    """Split the digits into 1,000 to train on and 797 to test on, each class by its share.

    The split and both orders follow SHA-256 of each image's number, not a random generator: they are the same with
    every version of every library, and an image's place tells nothing of its label.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)

    count = len(labels)
    sizes = np.bincount(labels)
    shares = sizes * TRAIN_COUNT / count
    quota = np.floor(shares).astype(int)
    largest_remainders = np.argsort(quota - shares, kind="stable")[: TRAIN_COUNT - quota.sum()]
    quota[largest_remainders] += 1

    train: list[int] = []
    test: list[int] = []
    for index in sorted(range(count), key=lambda i: _key("split", i)):
        into = train if quota[labels[index]] > 0 else test
        quota[labels[index]] -= 1
        into.append(index)
    for indices in (train, test):
        indices.sort(key=lambda i: _key("order", i))
    return RawDataset(images[train], labels[train], images[test], labels[test], classes=10)


def _key(purpose: str, index: int) -> bytes:
    return hashlib.sha256(f"{SPLIT}/{purpose}/{index}".encode()).digest()
