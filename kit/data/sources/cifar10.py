"""CIFAR-10 (Krizhevsky, 2009) from its published archives, python or binary version, packed or unpacked.

Nothing is unpacked to disk: the files that are wanted are read out of the archive by name. The python version is made
of pickles, which are read with everything forbidden but what an array needs.
"""

import hashlib
import io
import pickle
import socket
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kit.data.sources import RawDataset
from kit.data.sources.arrays import hidden_order
from kit.errors import KitError

SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
DOWNLOADS = "https://www.cs.toronto.edu/~kriz"
CLASSES = 10
PIXELS = 3 * 32 * 32
MAX_FILE_BYTES = 64 << 20
ORDER = "cifar10/1"
BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"


@dataclass(frozen=True)
class Version:
    """One of the published versions."""

    archive: str
    md5: str
    folder: str
    suffix: str
    file_md5: dict[str, str] | None
    """By file name; there are none for the unpacked binary version."""
    file_bytes: int | None
    parse: Callable[[bytes, str], tuple[NDArray[np.uint8], NDArray[np.int64]]]
    """Content and name of a file -> images (N, 3, 32, 32) and labels (N,)."""


@dataclass(frozen=True)
class _Place:
    version: Version
    path: Path
    packed: bool


def load(path: Path | None, *, rehearsal: bool, download_dir: Path | None) -> RawDataset:
    """Read CIFAR-10: training images as published, test images in an order that reveals nothing.

    Args:
        path: An archive, a folder that it was unpacked to, or a folder that holds one of these; None downloads it.
        rehearsal: Accept other data in the same format, of any number of images.
        download_dir: Where a download goes.

    Raises:
        KitError: A file is missing, damaged or not the published one; the message names it.
    """
    place = _find(path) if path is not None else _download(download_dir)
    files = _read_packed(place, rehearsal) if place.packed else _read_folder(place, rehearsal)
    parts = [place.version.parse(files[name], f"{place.path}: {name}") for name in (*BATCHES, TEST)]
    if not rehearsal:
        _check_counts(parts, place.path)
    test_images, test_labels = parts.pop()
    order = hidden_order(test_images, ORDER)
    return RawDataset(
        train_images=np.concatenate([images for images, _ in parts]),
        train_labels=np.concatenate([labels for _, labels in parts]),
        test_images=test_images[order],
        test_labels=test_labels[order],
        classes=CLASSES,
    )


def _check_counts(parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]], path: Path) -> None:
    train = np.bincount(np.concatenate([labels for _, labels in parts[:-1]]), minlength=CLASSES)
    test = np.bincount(parts[-1][1], minlength=CLASSES)
    if set(train.tolist()) != {5000} or set(test.tolist()) != {1000}:
        raise KitError(
            f"{path}: expected 5,000 training and 1,000 test images of each class, found {train.min():,} to "
            f"{train.max():,} and {test.min():,} to {test.max():,}; {_get('an archive')}"
        )


def _get(what: str) -> str:
    return f"get {what} from {SITE}, or add --rehearsal for other data in this format"


# ---- where it lies


def _find(path: Path) -> _Place:
    """What `path` means, the more strongly checked version first."""
    if path.is_file():
        return _Place(_version_of(path), path, packed=True)
    places = [_Place(version, path / version.archive, packed=True) for version in VERSIONS]
    for version in VERSIONS:
        places += [_Place(version, folder, packed=False) for folder in (path, path / version.folder)]
    for place in places:
        if place.path.is_file() if place.packed else (place.path / f"{TEST}{place.version.suffix}").exists():
            return place
    expected = ", ".join(name for version in VERSIONS for name in (version.archive, f"{version.folder}/"))
    raise KitError(f"{path}: expected {expected}, or one of these archives itself, found none; {_get('an archive')}")


def _version_of(path: Path) -> Version:
    for version in VERSIONS:
        if path.name == version.archive:
            return version
    return BINARY if "bin" in path.name else PYTHON


def _download(folder: Path | None) -> _Place:
    if folder is None:
        raise KitError(f"cifar10: give --source FILE; {_get(PYTHON.archive)}")
    archive = folder / PYTHON.archive
    if not archive.is_file():
        from torchvision.datasets.utils import download_url

        before_s = socket.getdefaulttimeout()
        socket.setdefaulttimeout(30)
        try:
            download_url(f"{DOWNLOADS}/{archive.name}", str(folder), archive.name, PYTHON.md5)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise KitError(
                f"cannot download {archive.name} ({reason}); get it from {SITE} (MD5 {PYTHON.md5}) and give its place "
                "with kit data prepare cifar10 --source FILE"
            ) from None
        finally:
            socket.setdefaulttimeout(before_s)
    return _Place(PYTHON, archive, packed=True)


# ---- bytes


def _read_packed(place: _Place, rehearsal: bool) -> dict[str, bytes]:
    version = place.version
    try:
        if not rehearsal:
            with place.path.open("rb") as file:
                _check_md5(place.path, hashlib.file_digest(file, "md5").hexdigest(), version.md5)
        wanted = {f"{version.folder}/{name}{version.suffix}": name for name in (*BATCHES, TEST)}
        found: dict[str, bytes] = {}
        with tarfile.open(place.path, "r:*") as tar:
            for member in tar:
                name = wanted.pop(member.name.removeprefix("./"), None)
                if name is not None:
                    found[name] = _read_member(tar, member, place.path)
                if not wanted:
                    return found
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise KitError(f"{place.path}: not a whole tar archive ({error}); {_get(version.archive)}") from None
    except OSError as error:
        raise KitError(f"{place.path}: {error.strerror or error}; {_get(version.archive)}") from None
    raise KitError(f"{place.path}: expected {min(wanted)} in it, found none; {_get(version.archive)}")


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path) -> bytes:
    if not member.isreg():
        raise KitError(f"{archive}: {member.name} is not a plain file; {_get(archive.name)}")
    if member.size > MAX_FILE_BYTES:
        raise KitError(f"{archive}: {member.name} has {member.size:,} bytes, expected at most {MAX_FILE_BYTES:,}")
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    if len(data) != member.size:
        raise KitError(f"{archive}: {member.name} is cut off after {len(data):,} bytes; {_get(archive.name)}")
    return data


def _read_folder(place: _Place, rehearsal: bool) -> dict[str, bytes]:
    version = place.version
    found: dict[str, bytes] = {}
    for name in (*BATCHES, TEST):
        path = place.path / f"{name}{version.suffix}"
        try:
            size = path.stat().st_size
            if size > MAX_FILE_BYTES or (not rehearsal and version.file_bytes not in (None, size)):
                expected = f"{version.file_bytes or MAX_FILE_BYTES:,}"
                raise KitError(f"{path}: expected {expected} bytes, found {size:,}; {_get(version.archive)}")
            found[name] = path.read_bytes()
        except OSError as error:
            raise KitError(f"{path}: {error.strerror}; {_get(version.archive)}") from None
        if not rehearsal and version.file_md5 is not None:
            _check_md5(path, hashlib.md5(found[name], usedforsecurity=False).hexdigest(), version.file_md5[name])
    return found


def _check_md5(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise KitError(f"{path}: MD5 is {found}, expected {expected}: not the published file; {_get('it')}")


# ---- content


class _ArraysOnly(pickle.Unpickler):
    """Builds containers, strings, numbers and arrays; anything else that a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _encode,
        }
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


def _encode(text: str, encoding: str) -> bytes:
    """Bytes, as protocol 2 spells them in Python 3."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _parse_python(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # whatever a broken or hostile pickle raises
        raise KitError(f"{where}: not a batch of CIFAR-10 ({' '.join(str(error).split())}); {_get('it')}") from None
    data, labels = (batch.get(key) if isinstance(batch, dict) else None for key in (b"data", b"labels"))
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == PIXELS):
        raise KitError(f"{where}: expected 'data' of shape (N, {PIXELS}) uint8; {_get('it')}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise KitError(f"{where}: expected 'labels', a list of integers; {_get('it')}")
    return _checked(data, labels, where)


def _parse_binary(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if len(content) % (1 + PIXELS):
        raise KitError(f"{where}: expected a multiple of {1 + PIXELS:,} bytes, found {len(content):,}; {_get('it')}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return _checked(rows[:, 1:], rows[:, 0].tolist(), where)


def _checked(pixels: NDArray[np.uint8], labels: list[int], where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if len(pixels) != len(labels) or not labels:
        raise KitError(
            f"{where}: expected as many labels as images and at least one, found {len(labels):,} labels "
            f"and {len(pixels):,} images; {_get('it')}"
        )
    if min(labels) < 0 or max(labels) >= CLASSES:
        raise KitError(f"{where}: expected labels from 0 to 9, found {min(labels)} to {max(labels)}; {_get('it')}")
    return np.ascontiguousarray(pixels).reshape(-1, 3, 32, 32), np.array(labels, np.int64)


# MD5 sums as torchvision's dataset and the site publish them.
PYTHON = Version(
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    suffix="",
    file_md5={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    file_bytes=None,
    parse=_parse_python,
)
BINARY = Version(
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    suffix=".bin",
    file_md5=None,
    file_bytes=10_000 * (1 + PIXELS),
    parse=_parse_binary,
)
VERSIONS = (PYTHON, BINARY)
