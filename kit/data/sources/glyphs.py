"""Ten drawn characters that are easily mistaken, in the shape of CIFAR-10: real work without a download."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.data.pool import spread
from kit.data.sources import RawDataset, Tell
from kit.data.sources.arrays import hidden_order

CHARACTERS = "B8S5Z2G6E3"
SIDE = 32
ORDER = "glyphs/1"
CHUNK = 500


class _Chunk(NamedTuple):
    split: str
    start: int
    stop: int


def load(tell: Tell, *, train: int = 50_000, test: int = 10_000) -> RawDataset:
    """Paint the images: as many of each class, in an order that reveals nothing.

    Raises:
        KitError: The fonts are not there, or others than expected.
    """
    images = {split: np.empty((count, 3, SIDE, SIDE), np.uint8) for split, count in (("train", train), ("test", test))}
    chunks = [
        _Chunk(split, start, min(start + CHUNK, len(part)))
        for split, part in images.items()
        for start in range(0, len(part), CHUNK)
    ]
    done = 0
    for chunk, painted in spread(_paint, chunks):
        images[chunk.split][chunk.start : chunk.stop] = painted
        done += len(painted)
        tell(done, train + test)
    orders = {split: hidden_order(part, f"{ORDER}/{split}") for split, part in images.items()}
    return RawDataset(
        train_images=images["train"][orders["train"]],
        train_labels=orders["train"] % len(CHARACTERS),
        test_images=images["test"][orders["test"]],
        test_labels=orders["test"] % len(CHARACTERS),
        classes=len(CHARACTERS),
    )


def _paint(chunk: _Chunk) -> tuple[_Chunk, NDArray[np.uint8]]:
    from kit.data.glyphs import paint

    texts = [CHARACTERS[number % len(CHARACTERS)] for number in range(chunk.start, chunk.stop)]
    pictures = paint(texts, stream=chunk.split, first=chunk.start, height=SIDE, width=SIDE)
    return chunk, pictures.transpose(0, 3, 1, 2)
