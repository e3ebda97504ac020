"""Prepared data on disk: `public/` is what a trainer may see, `private/` what only the referee reads.

DATA_DIR/<dataset>/dataset.json            fingerprint, shapes, hash of every file
DATA_DIR/<dataset>/public/*.npy            training images and labels, test images
DATA_DIR/<dataset>/private/*.npy           test labels
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from kit.data.sources import SOURCES, RawDataset
from kit.errors import KitError
from kit.protocol import first_problem
from kit.track import DatasetSpec, Model, Track

TRAIN_IMAGES = "train_images.npy"
TRAIN_LABELS = "train_labels.npy"
TEST_IMAGES = "test_images.npy"
TEST_LABELS = "test_labels.npy"


class Manifest(Model):
    """What `dataset.json` says."""

    format_version: int = 1
    spec: DatasetSpec
    files: dict[str, str]
    """SHA-256 of each file, by its path below the dataset's folder."""
    fingerprint: str
    """SHA-256 over the sorted hashes: the dataset's identity."""


class Prepared:
    """A prepared dataset."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.spec = manifest.spec
        self.fingerprint = manifest.fingerprint
        self._files = manifest.files

    @property
    def public_dir(self) -> Path:
        """All that a trainer gets."""
        return self.root / "public"

    def test_labels(self) -> NDArray[np.int64]:
        """The hidden labels, (test_count,) int64. For the referee alone."""
        labels: NDArray[np.int64] = np.load(self.root / "private" / TEST_LABELS, allow_pickle=False)
        return labels

    def verify(self) -> None:
        """Read every file again.

        Raises:
            KitError: A file is missing or differs; the message names it.
        """
        again = f"; remove {self.root} and it is prepared again"
        for name, expected in self._files.items():
            try:
                found = _sha256((self.root / name).read_bytes())
            except OSError as error:
                raise KitError(f"{self.root / name}: {error.strerror}{again}") from error
            if found != expected:
                raise KitError(f"{self.root / name}: SHA-256 is {found[:12]}, expected {expected[:12]}: damaged{again}")
        if self.fingerprint != _fingerprint(self._files):
            raise KitError(f"{self.root / 'dataset.json'}: the fingerprint is not that of the files{again}")


def prepare(track: Track, data_dir: Path) -> Prepared:
    """The track's data, prepared under `data_dir` if it is not there yet, and checked.

    Raises:
        KitError: The dataset is unknown, damaged, or not the one that the track names.
    """
    root = data_dir / track.dataset
    if not os.path.exists(root / "dataset.json"):
        if track.dataset not in SOURCES:
            raise KitError(f"there is no dataset '{track.dataset}'; known: {', '.join(sorted(SOURCES))}")
        try:
            _write(SOURCES[track.dataset](), track.dataset, root)
        except OSError as error:
            raise KitError(f"cannot prepare {track.dataset} in {root}: {error.strerror}") from error
    prepared = read(root)
    prepared.verify()
    if track.dataset_fingerprint is not None and prepared.fingerprint != track.dataset_fingerprint:
        raise KitError(
            f"{root}: fingerprint {prepared.fingerprint[:12]} is not that of track {track.name} version "
            f"{track.version}, {track.dataset_fingerprint[:12]}; remove the folder and it is prepared again"
        )
    return prepared


def read(root: Path) -> Prepared:
    """Open a prepared dataset.

    Raises:
        KitError: There is none, or its description cannot be read.
    """
    try:
        manifest = Manifest.model_validate_json((root / "dataset.json").read_bytes())
    except OSError as error:
        raise KitError(f"{root / 'dataset.json'}: {error.strerror}") from error
    except ValidationError as error:
        raise KitError(
            f"{root / 'dataset.json'}: {first_problem(error)}; remove {root} and prepare it again"
        ) from error
    return Prepared(root, manifest)


def _write(raw: RawDataset, name: str, root: Path) -> None:
    """Write beside the final place and rename, so that a killed preparation is never taken for a whole one."""
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root.parent))
    try:
        arrays: dict[str, NDArray[np.generic]] = {
            f"public/{TRAIN_IMAGES}": raw.train_images,
            f"public/{TRAIN_LABELS}": raw.train_labels,
            f"public/{TEST_IMAGES}": raw.test_images,
            f"private/{TEST_LABELS}": raw.test_labels,
        }
        for path, array in arrays.items():
            (partial / path).parent.mkdir(exist_ok=True)
            np.save(partial / path, array, allow_pickle=False)
        (partial / "private").chmod(0o700)
        files = {path: _sha256((partial / path).read_bytes()) for path in arrays}
        pixels = raw.train_images / 255.0
        _, channels, height, width = raw.train_images.shape
        spec = DatasetSpec(
            name=name,
            channels=channels,
            height=height,
            width=width,
            classes=raw.classes,
            train_count=len(raw.train_labels),
            test_count=len(raw.test_labels),
            mean=tuple(pixels.mean((0, 2, 3)).tolist()),
            std=tuple(pixels.std((0, 2, 3)).tolist()),
        )
        manifest = Manifest(spec=spec, files=files, fingerprint=_fingerprint(files))
        (partial / "dataset.json").write_text(manifest.model_dump_json(indent=2) + "\n")
        partial.chmod(0o755)
        os.rename(partial, root)
    except OSError:
        if not (root / "dataset.json").exists():  # else another process prepared the same data first
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fingerprint(files: dict[str, str]) -> str:
    return _sha256("".join(f"{path} {files[path]}\n" for path in sorted(files)).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class PublicArrays:
    """The public folder, read through its descriptor: images (N, C, H, W) uint8, labels (N,) int64."""

    def __init__(self, descriptor: int) -> None:
        self.train_images: NDArray[np.uint8] = _load(descriptor, TRAIN_IMAGES)
        self.train_labels: NDArray[np.int64] = _load(descriptor, TRAIN_LABELS)
        self.test_images: NDArray[np.uint8] = _load(descriptor, TEST_IMAGES)


def _load(folder: int, name: str) -> NDArray[Any]:
    with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    return array
