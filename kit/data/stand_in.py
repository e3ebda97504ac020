"""Random pictures in the shape of a track's data, to try a program on: they are easy to learn, and teach nothing."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kit.data.preparation import JPEG_SIZE, prepare
from kit.data.prepared import MANIFEST_FILE, Prepared, read
from kit.data.sources import Request
from kit.errors import KitError
from kit.track import Track

TRAIN_COUNT = 2048
TEST_COUNT = 512
"""At most, unless there are more classes."""
JPEG_SIDE = 64
"""Of the pictures; loaders bring them to the size that they are asked for."""


class Shape(NamedTuple):
    """What a stand-in must share with the data."""

    channels: int
    height: int
    width: int
    classes: int
    train_count: int
    test_count: int
    encoded: bool = False


SHAPES = {
    "digits": Shape(1, 8, 8, 10, 1000, 797),
    "glyphs": Shape(3, 32, 32, 10, 50_000, 10_000),
    "cifar10": Shape(3, 32, 32, 10, 50_000, 10_000),
    "imagenet": Shape(3, JPEG_SIZE, JPEG_SIZE, 1000, 1_281_167, 50_000, encoded=True),
}
"""By source, so that nothing has to be prepared first."""


def shape_of(track: Track, data_dir: Path) -> Shape:
    """The shape of a track's data.

    Raises:
        KitError: Nobody knows it before the data are prepared.
    """
    root = data_dir / track.dataset
    if (root / MANIFEST_FILE).is_file():
        spec = read(root).spec
        encoded = spec.format == "jpeg"
        return Shape(
            spec.channels, spec.height, spec.width, spec.classes, spec.train_count, spec.test_count, encoded=encoded
        )
    source = track.source or track.dataset
    if source not in SHAPES:
        raise KitError(f"the shape of {track.dataset} is known once it is prepared: kit data prepare, or --data-dir")
    return SHAPES[source]


def make_stand_in(track: Track, shape: Shape, folder: Path) -> Prepared:
    """Draw and prepare a small data set.

    Args:
        track: Whose data it stands in for.
        shape: Of these data; of the counts a small part is drawn, with an image of every class.
        folder: An empty one.
    """
    random = np.random.default_rng(0)
    counts = {
        "train": max(min(shape.train_count, TRAIN_COUNT), shape.classes),
        "test": max(min(shape.test_count, TEST_COUNT), shape.classes if shape.encoded else 1),
    }
    labels = {split: random.permutation(np.arange(count) % shape.classes) for split, count in counts.items()}
    side = (JPEG_SIDE, JPEG_SIDE) if shape.encoded else (shape.height, shape.width)
    patterns = _noise(random, (shape.classes, shape.channels, *side))
    images = {split: _noise(random, (len(of), *patterns.shape[1:])) + patterns[of] for split, of in labels.items()}
    if shape.encoded:
        source, place = "folders", _save_files(images, labels, folder / "drawn")
    else:
        arrays = {f"{split}_images": images[split] for split in counts} | {f"{it}_labels": labels[it] for it in counts}
        source, place = "arrays", folder / "drawn.npz"
        np.savez(place, **arrays)
    drawn = track.model_copy(update={"source": source, "dataset_fingerprint": None})
    return prepare(drawn, folder / "data", Request(path=place))


def _noise(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """From 0 to 127, so that two of them can be added."""
    return random.integers(128, size=shape, dtype=np.uint8)


def _save_files(images: dict[str, NDArray[np.uint8]], labels: dict[str, NDArray[np.int64]], tree: Path) -> Path:
    from PIL import Image

    for split, split_labels in labels.items():
        for number, label in enumerate(split_labels):
            path = tree / ("val" if split == "test" else split) / f"class{label:05d}" / f"{number:06d}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[split][number].transpose(1, 2, 0)).save(path, quality=90)
    return tree
