"""Writes an example data set: discs, squares and crosses, 16x16 pixels, grey, noisy.

python make_shapes.py shapes.npz
"""

import sys

import numpy as np

SIDE = 16
rows, columns = np.mgrid[:SIDE, :SIDE]


def draw(count, random):
    """Images (count, 1, 16, 16) uint8 and labels (count,) int64."""
    labels = random.integers(0, 3, count)
    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        y, x = np.abs(rows - random.uniform(5, 10)), np.abs(columns - random.uniform(5, 10))
        size = random.uniform(3, 5)
        inside = [
            y**2 + x**2 < size**2,
            np.maximum(y, x) < size * 0.85,
            (np.minimum(y, x) < size / 3) & (np.maximum(y, x) < size),
        ][label]
        image[0] = np.clip(80 + 90 * inside + random.normal(0, 40, (SIDE, SIDE)), 0, 255)
    return images, labels


random = np.random.default_rng(0)
(train_images, train_labels), (test_images, test_labels) = draw(6000, random), draw(1000, random)
np.savez(
    sys.argv[1],
    train_images=train_images,
    train_labels=train_labels,
    test_images=test_images,
    test_labels=test_labels,
)
