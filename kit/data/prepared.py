"""Prepared data on disk: `public/` is what a trainer may see, `private/` what only the referee reads.

DATA_DIR/<dataset>/dataset.json                 fingerprint, shapes, hash of every file
DATA_DIR/<dataset>/public/                      arrays, or shards of encoded images (see `kit.data.public`)
DATA_DIR/<dataset>/private/test_labels.npy      what the referee scores against
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.track import DatasetSpec, Model, Track

MANIFEST_FILE = "dataset.json"
TEST_LABELS = "private/test_labels.npy"


class FileFacts(Model):
    """What a file must be."""

    sha256: str
    bytes: int = Field(ge=0)


class Manifest(Model):
    """What `dataset.json` says."""

    format_version: Literal[2] = 2
    spec: DatasetSpec
    rehearsal: bool
    """Made from data that was not checked to be the published data."""
    class_names: tuple[str, ...] | None = None
    files: dict[str, FileFacts]
    """By path below the dataset's folder."""
    fingerprint: str
    """SHA-256 over the sorted hashes: the dataset's identity."""


class Prepared:
    """A prepared dataset."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.spec = manifest.spec
        self.fingerprint = manifest.fingerprint
        self.rehearsal = manifest.rehearsal
        self._files = manifest.files

    @property
    def public_dir(self) -> Path:
        """All that a trainer gets."""
        return self.root / "public"

    @property
    def total_bytes(self) -> int:
        """Size of all files."""
        return sum(facts.bytes for facts in self._files.values())

    def test_labels(self) -> NDArray[np.int64]:
        """The hidden labels, (test_count,) int64. For the referee alone."""
        labels: NDArray[np.int64] = np.load(self.root / TEST_LABELS, allow_pickle=False)
        return labels

    def refusal(self, track: Track) -> str | None:
        """Why a run on this track may not use these data, or None."""
        if track.dataset_fingerprint is not None and self.fingerprint != track.dataset_fingerprint:
            return (
                f"{self.root}: fingerprint {self.fingerprint[:12]} is not that of track {track.name} version "
                f"{track.version}, {track.dataset_fingerprint[:12]}; remove the folder and prepare it again"
            )
        if self.rehearsal and not track.rehearsal:
            return (
                f"{self.root}: rehearsal data, not the published data of track {track.name}; add track.rehearsal=true "
                "to run on it all the same, or remove the folder and prepare the published data"
            )
        return None

    def verify(self, *, shards: bool = True, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Read every file again.

        Args:
            shards: False looks at the sizes of shards alone, which takes milliseconds instead of minutes.
            tell: Told how many bytes are read, and how many there are.

        Raises:
            KitError: A file is missing or differs; the message names it.
        """
        again = f"; remove {self.root} and prepare it again"
        done = 0
        for name, expected in self._files.items():
            path = self.root / name
            try:
                size = path.stat().st_size
                found = _sha256_of(path) if shards or path.suffix != ".tar" else expected.sha256
            except OSError as error:
                raise KitError(f"{path}: {error.strerror}{again}") from error
            if size != expected.bytes:
                raise KitError(f"{path}: {size:,} bytes, expected {expected.bytes:,}: damaged{again}")
            if found != expected.sha256:
                raise KitError(f"{path}: SHA-256 is {found[:12]}, expected {expected.sha256[:12]}: damaged{again}")
            done += size
            tell(done, self.total_bytes)
        if self.fingerprint != fingerprint(self._files):
            raise KitError(f"{self.root / MANIFEST_FILE}: the fingerprint is not that of the files{again}")


def read(root: Path) -> Prepared:
    """Open a prepared dataset.

    Raises:
        KitError: There is none, or its description cannot be read.
    """
    path = root / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise KitError(f"{path}: {first_problem(error)}; remove {root} and prepare it again") from error
    return Prepared(root, manifest)


def facts(path: Path) -> FileFacts:
    """Size and hash of a file as it is now."""
    return FileFacts(sha256=_sha256_of(path), bytes=path.stat().st_size)


def fingerprint(files: dict[str, FileFacts]) -> str:
    """The identity of a dataset with these files."""
    lines = "".join(f"{path} {files[path].sha256}\n" for path in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
