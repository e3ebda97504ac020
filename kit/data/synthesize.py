"""Learnable stand-ins in the published formats: drawn characters as a CIFAR-10 archive, or as an ImageNet-like tree.

They let the whole path be rehearsed (read, prepare, load, train, judge) where the published data are not at hand.
"""

import gzip
import hashlib
import io
import pickle
import shutil
import string
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from kit.data.pool import spread
from kit.data.sources import Tell
from kit.data.sources.cifar10 import BATCHES, BINARY, CLASSES, PYTHON, TEST
from kit.data.sources.imagenet import SYNSETS, TRAIN_TAR, VAL_TAR
from kit.errors import KitError

SIDE = 32
CHUNK = 100
QUALITY = 90


def silent(done: int, total: int) -> None:
    """Tells nobody."""


# ---- CIFAR-10


def write_cifar10(
    folder: Path, *, train: int = 50_000, test: int = 10_000, binary: bool = False, tell: Tell = silent
) -> Path:
    """Write `cifar-10-python.tar.gz` or `cifar-10-binary.tar.gz` of drawn letters into `folder`.

    Args:
        folder: Is made if it is not there.
        train: Images of the five training batches together.
        test: Images of the test batch.
        binary: The binary version instead of the python one.
        tell: Told of progress.

    Returns:
        The archive.

    Raises:
        KitError: It is there already, or there are too few images for a batch each.
    """
    if train < len(BATCHES) or test < 1:
        raise KitError(f"expected at least {len(BATCHES)} training images and 1 test image, got {train} and {test}")
    version = BINARY if binary else PYTHON
    sizes = [train * (number + 1) // len(BATCHES) - train * number // len(BATCHES) for number in range(len(BATCHES))]
    encode = _binary_batch if binary else _python_batch
    with (
        _new(folder / version.archive) as partial,
        partial.open("wb") as file,
        # Without names and times of its own: the same call writes the same bytes.
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=cast(IO[bytes], packed), mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name, rows in _letters(dict(zip((*BATCHES, TEST), (*sizes, test), strict=True)), tell).items():
            member = tarfile.TarInfo(f"{version.folder}/{name}{version.suffix}")
            content = encode(rows, np.arange(len(rows)) % CLASSES, name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder / version.archive


class _Part(NamedTuple):
    batch: str
    start: int
    stop: int


def _letters(sizes: dict[str, int], tell: Tell) -> dict[str, NDArray[np.uint8]]:
    """The images of each batch, (N, 3072); image i shows letter i mod 10."""
    batches = {name: np.empty((size, 3 * SIDE * SIDE), np.uint8) for name, size in sizes.items()}
    parts = (
        _Part(name, start, min(start + CHUNK, size)) for name, size in sizes.items() for start in range(0, size, CHUNK)
    )
    done = 0
    for part, painted in spread(_paint_letters, parts):
        batches[part.batch][part.start : part.stop] = painted
        done += len(painted)
        tell(done, sum(sizes.values()))
    return batches


def _paint_letters(part: _Part) -> tuple[_Part, NDArray[np.uint8]]:
    from kit.data.glyphs import paint

    texts = [string.ascii_uppercase[number % CLASSES] for number in range(part.start, part.stop)]
    pictures = paint(texts, stream=f"cifar10/{part.batch}", first=part.start, height=SIDE, width=SIDE)
    return part, pictures.transpose(0, 3, 1, 2).reshape(len(texts), -1)


def _python_batch(rows: NDArray[np.uint8], labels: NDArray[np.int64], name: str) -> bytes:
    batch = {
        b"batch_label": name.encode(),
        b"labels": labels.tolist(),
        b"data": rows,
        b"filenames": [f"{name}_{number}.png".encode() for number in range(len(rows))],
    }
    return pickle.dumps(batch, protocol=2)


def _binary_batch(rows: NDArray[np.uint8], labels: NDArray[np.int64], name: str) -> bytes:
    return np.concatenate([labels.astype(np.uint8)[:, None], rows], axis=1).tobytes()


# ---- ImageNet


def write_imagenet(
    folder: Path, *, classes: int, train: int, test: int, tars: bool = False, tell: Tell = silent
) -> Path:
    """Write JPEGs of drawn text, about 500x375, in class folders or as the published tar files.

    Args:
        folder: Is made; must not be there.
        classes: Each is another text: a letter, or letters where there are more classes than letters.
        train: Training images of all classes together.
        test: Validation images of all classes together.
        tars: Write the tar files and the synset list instead of `train/` and `val/`.
        tell: Told of progress.

    Returns:
        The folder.

    Raises:
        KitError: It is there already, or there are too few images for the classes.
    """
    if not 2 <= classes <= min(train, test):
        raise KitError(f"expected 2 classes or more and an image of each, got {classes} for {train} and {test} images")
    with _new(folder) as partial:
        partial.mkdir()
        tree = partial / "tree" if tars else partial
        chunks = [
            _Chunk(tree / split, split, classes, start, min(start + CHUNK, count))
            for split, count in (("train", train), ("val", test))
            for start in range(0, count, CHUNK)
        ]
        for split in ("train", "val"):
            for number in range(classes):
                (tree / split / _synset(number)).mkdir(parents=True)
        done = 0
        for written in spread(_write_jpegs, chunks):
            done += written
            tell(done, train + test)
        if tars:
            _pack(tree, partial)
            shutil.rmtree(tree)
    return folder


class _Chunk(NamedTuple):
    folder: Path
    split: str
    classes: int
    start: int
    stop: int


def _write_jpegs(chunk: _Chunk) -> int:
    from PIL import Image

    from kit.data.glyphs import paint

    for number in range(chunk.start, chunk.stop):
        label = number % chunk.classes
        width, height = _size(f"{chunk.split}/{number}")
        (pixels,) = paint([_text(label)], stream=f"imagenet/{chunk.split}", first=number, height=height, width=width)
        file_name = f"ILSVRC2012_val_{number + 1:08d}" if chunk.split == "val" else f"{_synset(label)}_{number}"
        Image.fromarray(pixels).save(chunk.folder / _synset(label) / f"{file_name}.JPEG", quality=QUALITY)
    return chunk.stop - chunk.start


def _size(key: str) -> tuple[int, int]:
    """Width and height: three in four landscape, around 500x375 as in ImageNet."""
    random = hashlib.sha256(key.encode()).digest()
    longer, shorter = 460 + random[0] * 80 // 255, 330 + random[1] * 90 // 255
    return (longer, shorter) if random[2] % 4 else (shorter, longer)


def _synset(number: int) -> str:
    return f"n{number + 1:08d}"


def _text(number: int) -> str:
    """A, B, ... Z, AA, AB, ...: as the columns of a spreadsheet."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, len(string.ascii_uppercase))
        letters = string.ascii_uppercase[letter] + letters
    return letters


def _pack(tree: Path, folder: Path) -> None:
    def pack(target: Path | IO[bytes], files: Iterable[tuple[str, bytes]]) -> None:
        # No time stamps or owners: the same call writes the same bytes.
        name, fileobj = (target, None) if isinstance(target, Path) else (None, target)
        with tarfile.open(name, "w", fileobj, format=tarfile.USTAR_FORMAT) as tar:
            for file_name, content in files:
                member = tarfile.TarInfo(file_name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    def packed(class_folder: Path) -> bytes:
        out = io.BytesIO()
        pack(out, ((path.name, path.read_bytes()) for path in sorted(class_folder.iterdir())))
        return out.getvalue()

    pack(folder / TRAIN_TAR, ((f"{path.name}.tar", packed(path)) for path in sorted((tree / "train").iterdir())))
    val = sorted((tree / "val").rglob("*.JPEG"), key=lambda path: path.name)
    pack(folder / VAL_TAR, ((path.name, path.read_bytes()) for path in val))
    (folder / SYNSETS[0]).write_text("".join(f"{path.parent.name}\n" for path in val))


@contextmanager
def _new(target: Path) -> Iterator[Path]:
    """A place beside the target, which becomes the target when all is written."""
    if target.exists():
        raise KitError(f"{target}: is there already; remove it or choose another place")
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        try:
            yield partial
            partial.rename(target)
        finally:
            _remove(partial)
    except OSError as error:
        raise KitError(f"cannot write {target}: {error.strerror}") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
