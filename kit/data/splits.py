"""Other data than a submission can have seen, made of a track's own: pooled and split anew, or with shuffled labels.

DATA_DIR/.scoring/<tag>/<dataset>/    as any prepared data; the tag tells apart what different secrets make

Everything follows HMAC-SHA256 of an image's number under the organizer's secret, so the same secret makes the same data
with every version of every library, and nothing is told by an image's place.
"""

import hashlib
import hmac
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from kit.data.preparation import write_arrays
from kit.data.prepared import MANIFEST_FILE, Manifest, Prepared, facts, fingerprint, read
from kit.data.public import TEST_IMAGES, TRAIN_IMAGES, TRAIN_LABELS
from kit.data.sources import RawDataset
from kit.errors import KitError

SCORING_DIR = ".scoring"
TRAIN_LABELS_FILE = f"public/{TRAIN_LABELS}"


def resplit(prepared: Prepared, secret: bytes) -> Prepared:
    """Training and test images pooled and split anew; of each class as many on either side as before.

    Raises:
        KitError: The images are encoded ones, or the data cannot be written.
    """
    if prepared.spec.format != "arrays":
        raise KitError(
            f"a new split is for data in arrays, and {prepared.spec.name} has encoded images: leave --resplit out"
        )
    root = _root(prepared, secret, "resplit")
    with _at_work(root):
        return _checked(root) if (root / MANIFEST_FILE).exists() else _resplit(prepared, secret, root)


def _resplit(prepared: Prepared, secret: bytes, root: Path) -> Prepared:
    train_labels, test_labels = _load(prepared, TRAIN_LABELS_FILE), prepared.test_labels()
    labels = np.concatenate([train_labels, test_labels])
    images = np.concatenate([_load(prepared, f"public/{name}") for name in (TRAIN_IMAGES, TEST_IMAGES)])
    quota = np.bincount(train_labels, minlength=prepared.spec.classes)
    train: list[int] = []
    test: list[int] = []
    for number in _order(secret, "split", len(labels)):
        label = labels[number]
        (train if quota[label] > 0 else test).append(int(number))
        quota[label] -= 1
    place = np.empty(len(labels), np.int64)
    place[_order(secret, "order", len(labels))] = np.arange(len(labels))
    for numbers in (train, test):
        numbers.sort(key=place.__getitem__)
    raw = RawDataset(images[train], labels[train], images[test], labels[test], prepared.spec.classes)
    return _written(raw, prepared, root)


def control(prepared: Prepared, secret: bytes, number: int) -> Prepared:
    """The same data with its training labels shuffled, for each `number` in another way. Images take no more room.

    Raises:
        KitError: The data cannot be written.
    """
    purpose = f"control/{number}"
    root = _root(prepared, secret, purpose)
    with _at_work(root):
        return _checked(root) if (root / MANIFEST_FILE).exists() else _control(prepared, secret, purpose, root)


def _control(prepared: Prepared, secret: bytes, purpose: str, root: Path) -> Prepared:
    labels = _load(prepared, TRAIN_LABELS_FILE)
    shuffled = labels[_order(secret, purpose, len(labels))]
    partial = root.with_name(f".{root.name}.partial")
    manifest = Manifest.model_validate_json((prepared.root / MANIFEST_FILE).read_bytes())
    try:
        shutil.rmtree(root.parent, ignore_errors=True)
        for name in manifest.files:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            if name == TRAIN_LABELS_FILE:
                np.save(partial / name, shuffled, allow_pickle=False)
            else:
                os.link(prepared.root / name, partial / name)
        files = manifest.files | {TRAIN_LABELS_FILE: facts(partial / TRAIN_LABELS_FILE)}
        changed = manifest.model_copy(update={"files": files, "fingerprint": fingerprint(files)})
        (partial / MANIFEST_FILE).write_text(changed.model_dump_json(indent=2) + "\n")
        _close(partial)
        os.rename(partial, root)
    except OSError as error:
        raise KitError(f"cannot write {error.filename or root}: {error.strerror}") from error
    return read(root)


def guessing(labels: NDArray[np.int64], guesses: int) -> tuple[float, int]:
    """What the best guess that knows nothing of an image scores, and how many classes of one size there might be."""
    shares = np.sort(np.bincount(labels) / len(labels))[::-1]
    return min(1.0, float(shares[:guesses].sum())), max(1, int(1 / float((shares**2).sum()) + 1e-9))


def _written(raw: RawDataset, prepared: Prepared, root: Path) -> Prepared:
    try:
        shutil.rmtree(root.parent, ignore_errors=True)
        made = write_arrays(raw, prepared.spec.name, root, rehearsal=prepared.rehearsal)
        _close(root)
    except OSError as error:
        raise KitError(f"cannot write {error.filename or root}: {error.strerror}") from error
    return made


@contextmanager
def _at_work(root: Path) -> Iterator[None]:
    """One process at a time."""
    lock = FileLock(root.parent.parent / ".lock")
    try:
        root.parent.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise KitError(f"cannot write to {root.parent.parent}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def _close(root: Path) -> None:
    """Nobody but the owner looks into what lies above the data."""
    (root / "private").chmod(0o700)
    for folder in (root.parent, root.parent.parent):
        folder.chmod(0o700)


def _checked(root: Path) -> Prepared:
    prepared = read(root)
    prepared.verify(shards=False)
    return prepared


def _root(prepared: Prepared, secret: bytes, purpose: str) -> Path:
    tag = _digest(secret, f"{purpose}/{prepared.fingerprint}").hex()[:16]
    return prepared.root.parent / SCORING_DIR / tag / prepared.root.name


def _load(prepared: Prepared, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(prepared.root / name, allow_pickle=False)
    return array


def _order(secret: bytes, purpose: str, count: int) -> NDArray[np.int64]:
    """The numbers from 0 on, shuffled."""
    keys = [_digest(secret, f"{purpose}/{number}") for number in range(count)]
    return np.array(sorted(range(count), key=keys.__getitem__), np.int64)


def _digest(secret: bytes, text: str) -> bytes:
    return hmac.new(secret, text.encode(), hashlib.sha256).digest()
