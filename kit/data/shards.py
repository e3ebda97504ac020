"""Encoded images in shards: tar files of the original bytes, with an index of where each image begins.

A shard holds images in the order in which they are numbered, so reading one after another reads the disk in
sequence. The training order is a fixed shuffle (by SHA-256 of the name), the test order another (by SHA-256 of the
content: file names of a test set often tell the class).
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from kit.data.pool import Workers
from kit.data.sources import ImageEntry, RawFiles, Tell
from kit.errors import KitError

IMAGES_PER_SHARD = 512
"""About 56 MB of ImageNet: small enough to spread over cores and to lose when killed."""
ORDER = "shards/1"
"""Names the rules of order and layout: a change of them must change it."""
INDEX = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("bytes", "<u4"), ("height", "<u2"), ("width", "<u2")])
"""Where an image lies, and its size in pixels."""
MODES = {"JPEG": ("L", "RGB", "CMYK"), "PNG": ("L", "P", "RGB", "RGBA")}
"""What every decoder in use turns into the same RGB."""
MAX_SIDE = 2**16 - 1
MAX_IMAGE_BYTES = 64 << 20

SplitName = Literal["train", "test"]


class Row(NamedTuple):
    """One image in a shard."""

    offset: int
    bytes: int
    height: int
    width: int


@dataclass(frozen=True)
class Shard:
    """A shard that is written."""

    split: SplitName
    number: int
    sha256: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sharded:
    """Everything that was written."""

    digests: dict[str, str]
    """SHA-256 of each shard, by file name."""
    index: dict[SplitName, NDArray[np.void]]
    labels: dict[SplitName, NDArray[np.int64]]


def shard_name(split: SplitName, number: int) -> str:
    """File name of a shard."""
    return f"{split}-{number:05d}.tar"


def needed_bytes(raw: RawFiles) -> int:
    """Bytes that the shards of `raw` take on disk."""
    entries = len(raw.train) + len(raw.test)
    # A tar member is a head of 512 bytes and content filled up to a multiple of that; each archive ends with 10 KiB.
    content = sum(-(-entry.size // 512) * 512 + 512 for split in (raw.train, raw.test) for entry in split)
    return content + (entries // IMAGES_PER_SHARD + 2) * (10 << 10) + entries * (INDEX.itemsize + 8)


def write_shards(raw: RawFiles, public: Path, journal: Path, tell: Tell) -> Sharded:
    """Write all shards into `public`, over all cores; go on where an earlier call with the same `raw` was killed.

    Args:
        raw: The images.
        public: Where shards go.
        journal: A folder for what is done so far; of no use afterwards.
        tell: Told of progress, in images read (test images are read twice).

    Raises:
        KitError: An image cannot be decoded by every loader; the message names it.
        OSError: Reading or writing failed.
    """
    _begin(raw, public, journal)
    total = len(raw.train) + 2 * len(raw.test)
    with Workers() as workers:
        test_order = _test_order(raw.test, journal, workers, lambda done: tell(done, total))
        ordered: dict[SplitName, list[ImageEntry]] = {
            "train": sorted(raw.train, key=_name_key),
            "test": [raw.test[i] for i in test_order],
        }
        tasks = [
            _Task(split, number, entries[start : start + IMAGES_PER_SHARD], public, journal)
            for split, entries in ordered.items()
            for number, start in enumerate(range(0, len(entries), IMAGES_PER_SHARD))
        ]
        shards: dict[tuple[SplitName, int], Shard] = {}
        done = len(raw.test)
        for shard in workers.spread(_finish, tasks):
            shards[shard.split, shard.number] = shard
            done += len(shard.rows)
            tell(done, total)
    return Sharded(
        digests={shard_name(*key): shard.sha256 for key, shard in shards.items()},
        index={split: _index(split, shards) for split in ordered},
        labels={split: np.array([entry.label for entry in entries], np.int64) for split, entries in ordered.items()},
    )


def _index(split: SplitName, shards: dict[tuple[SplitName, int], Shard]) -> NDArray[np.void]:
    numbers = sorted(number for name, number in shards if name == split)
    rows = [(number, *row) for number in numbers for row in shards[split, number].rows]
    return np.array(rows, INDEX)


# ---- what is done so far


def _begin(raw: RawFiles, public: Path, journal: Path) -> None:
    """Keep what an earlier call left if it was about the same images, else clear it away."""
    digest = hashlib.sha256(ORDER.encode())
    for entries in (raw.train, raw.test):
        for entry in entries:
            digest.update(f"{entry.name}\0{entry.size}\0{entry.label}\n".encode(errors="surrogateescape"))
        digest.update(b"\n")
    plan = journal / "plan"
    if plan.is_file() and plan.read_text() == digest.hexdigest():
        for unfinished in public.glob(".*"):
            unfinished.unlink()
        return
    for folder in (journal, public):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    _write_whole(plan, digest.hexdigest().encode())


def _write_whole(path: Path, content: bytes) -> None:
    """Write so that `path` holds all of `content` or is not there, whenever the process ends."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


# ---- order


def _name_key(entry: ImageEntry) -> bytes:
    return hashlib.sha256(f"{ORDER}/train/{entry.name}".encode(errors="surrogateescape")).digest()


class _Chunk(NamedTuple):
    start: int
    entries: Sequence[ImageEntry]


def _test_order(entries: list[ImageEntry], journal: Path, workers: Workers, tell: Callable[[int], None]) -> list[int]:
    """Positions of the test images by SHA-256 of their content; of equal images by that of their names."""
    saved = journal / "test_order.json"
    if saved.is_file():
        order: list[int] = json.loads(saved.read_bytes())
        return order
    keys: dict[int, tuple[bytes, bytes]] = {}
    starts = range(0, len(entries), IMAGES_PER_SHARD)
    chunks = (_Chunk(start, entries[start : start + IMAGES_PER_SHARD]) for start in starts)
    for start, found in workers.spread(_content_keys, chunks):
        keys.update(enumerate(found, start))
        tell(len(keys))
    order = sorted(keys, key=keys.__getitem__)
    _write_whole(saved, json.dumps(order).encode())
    return order


def _content_keys(chunk: _Chunk) -> tuple[int, list[tuple[bytes, bytes]]]:
    return chunk.start, [
        (hashlib.sha256(f"{ORDER}/test/".encode() + _read(entry)).digest(), _name_key(entry)) for entry in chunk.entries
    ]


# ---- one shard


@dataclass(frozen=True)
class _Task:
    split: SplitName
    number: int
    entries: Sequence[ImageEntry]
    public: Path
    journal: Path


def _finish(task: _Task) -> Shard:
    """Write a shard, or read what the journal says of it."""
    name = shard_name(task.split, task.number)
    note = task.journal / f"{name}.json"
    if note.is_file():
        content = json.loads(note.read_bytes())
        return Shard(task.split, task.number, content["sha256"], tuple(Row(*row) for row in content["rows"]))
    partial = task.public / f".{name}.{os.getpid()}"
    try:
        with partial.open("wb") as file:
            sha256, rows = _write_tar(file, task.entries)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(task.public / name)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _write_whole(note, json.dumps({"sha256": sha256, "rows": rows}).encode())
    return Shard(task.split, task.number, sha256, tuple(rows))


class _Digesting:
    """A file that is hashed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._position = 0

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self._position += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._position

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def _write_tar(file: IO[bytes], entries: Sequence[ImageEntry]) -> tuple[str, list[Row]]:
    """The same bytes for the same images, on every machine."""
    out = _Digesting(file)
    rows: list[Row] = []
    with tarfile.open(fileobj=cast(IO[bytes], out), mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for position, entry in enumerate(entries):
            data = _read(entry)
            encoding, height, width = _inspect(data, entry)
            member = tarfile.TarInfo(f"{position:06d}.{encoding}")
            member.size = len(data)
            rows.append(Row(out.tell() + tarfile.BLOCKSIZE, len(data), height, width))
            tar.addfile(member, io.BytesIO(data))
    return out.hexdigest(), rows


def _where(entry: ImageEntry) -> str:
    """The image, as an error names it."""
    file_name = entry.name.rpartition("/")[2]
    return entry.container if entry.container.endswith(f"/{file_name}") else f"{entry.container} ({entry.name})"


def _read(entry: ImageEntry) -> bytes:
    if entry.size > MAX_IMAGE_BYTES:
        raise KitError(f"{_where(entry)}: an image of {entry.size:,} bytes; expected at most {MAX_IMAGE_BYTES:,}")
    with open(entry.container, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), entry.size, entry.offset)
    if len(data) != entry.size:
        raise KitError(f"{_where(entry)}: truncated: expected {entry.size:,} bytes, found {len(data):,}")
    return data


def _inspect(data: bytes, entry: ImageEntry) -> tuple[Literal["jpg", "png"], int, int]:
    """Decode an image as every loader will have to; at an eighth of its size where the format allows.

    Returns:
        Encoding, height, width.
    """
    get_another = "get this file again from where the data set came from"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd but harmless metadata
            image = Image.open(io.BytesIO(data), formats=tuple(MODES))
            width, height = image.size
            if max(width, height) > MAX_SIDE:
                raise KitError(f"{_where(entry)}: {width} x {height} pixels; expected at most {MAX_SIDE} on a side")
            encoding, mode = str(image.format), image.mode
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
    except UnidentifiedImageError:
        raise KitError(f"{_where(entry)}: expected a JPEG or PNG image, found something else; {get_another}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise KitError(f"{_where(entry)}: the image is damaged ({error}); {get_another}") from None
    if mode not in MODES[encoding]:
        raise KitError(
            f"{_where(entry)}: a {encoding} of colour mode {mode}; expected one of {', '.join(MODES[encoding])}"
        )
    return ("jpg" if encoding == "JPEG" else "png"), height, width
