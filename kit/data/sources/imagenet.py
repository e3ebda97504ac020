"""ImageNet (ILSVRC 2012), and any other data set in class folders: where every image lies, and its class.

Either a tree, `train/<class>/*` and `val/<class>/*`, or the published tar files. Only names and sizes are read here;
nothing is unpacked, and whether an image decodes is for the preparation to find out.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from kit.data.sources import ImageEntry, RawFiles
from kit.errors import KitError

SITE = "https://image-net.org/download (after registering)"
CLASSES, TRAIN_COUNT, VAL_COUNT, VAL_PER_CLASS = 1000, 1_281_167, 50_000, 50
TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
VAL_MD5 = "29b22e2961454d5413ddabcf34fc5622"
"""The training tar's 138 GB are not hashed: its counts are checked, and every image is decoded in the preparation."""
SYNSETS = ("imagenet_2012_validation_synset_labels.txt", "synset_labels.txt")
SUFFIXES = (".jpg", ".jpeg", ".png")
TREE = "train/<class>/ and val/<class>/"


def find(path: Path | None, *, rehearsal: bool) -> RawFiles:
    """ImageNet, from a tree or from the tar files.

    Args:
        path: The folder that holds either.
        rehearsal: Accept other classes and counts.

    Raises:
        KitError: Something is missing, or not as published; the message names it.
    """
    if path is None:
        raise KitError(
            f"imagenet cannot be downloaded without an account: give --source FOLDER with {TREE}, or with {TRAIN_TAR}, "
            f"{VAL_TAR} and {SYNSETS[0]}, from {SITE}"
        )
    tars = (path / TRAIN_TAR).exists() or (path / VAL_TAR).exists()
    raw = _from_tars(path, rehearsal) if tars else _from_tree(path)
    if not rehearsal:
        _check_counts(raw, path)
    return raw


def find_folders(path: Path | None) -> RawFiles:
    """Anybody's own images, in class folders.

    Raises:
        KitError: As `find`.
    """
    if path is None:
        raise KitError(f"give --source FOLDER with {TREE}")
    return _from_tree(path)


def _check_counts(raw: RawFiles, path: Path) -> None:
    found = (len(raw.class_names), len(raw.train), len(raw.test))
    if found != (CLASSES, TRAIN_COUNT, VAL_COUNT):
        raise KitError(
            f"{path}: expected {CLASSES:,} classes, {TRAIN_COUNT:,} training and {VAL_COUNT:,} validation images, "
            f"found {found[0]:,}, {found[1]:,} and {found[2]:,}; get the rest from {SITE}, or add --rehearsal for "
            "other data in this format"
        )
    per_class = [0] * CLASSES
    for entry in raw.test:
        per_class[entry.label] += 1
    for name, count in zip(raw.class_names, per_class, strict=True):
        if count != VAL_PER_CLASS:
            raise KitError(f"{path}: expected {VAL_PER_CLASS} validation images of class {name}, found {count}")


# ---- a tree


def _from_tree(path: Path) -> RawFiles:
    folders = {split: path / split for split in ("train", "val", "test")}
    try:
        names = {entry.name for entry in os.scandir(path)}
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}; expected a folder with {TREE}") from None
    held_out = "val" if "val" in names else "test"
    if not {"train", held_out} <= names:
        missing = "train" if "train" not in names else "val"
        raise KitError(f"{path / missing}: not there; expected a folder with {TREE}")
    train, test = (set(_classes(folders[split])) for split in ("train", held_out))
    for ours, theirs, split in ((train, test, held_out), (test, train, "train")):
        if alone := sorted(ours - theirs):
            raise KitError(f"{folders[split] / alone[0]}: not there; expected the same classes in train and {held_out}")
    class_names = tuple(sorted(train))
    if len(class_names) < 2:
        raise KitError(f"{folders['train']}: expected at least two class folders, found {len(class_names)}")
    return RawFiles(
        train=_entries(folders["train"], class_names),
        test=_entries(folders[held_out], class_names),
        class_names=class_names,
    )


def _classes(folder: Path) -> list[str]:
    """Names of the class folders; hidden entries are not meant."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise KitError(f"{error.filename}: {error.strerror}; expected a folder of class folders") from None
    for name, is_folder in found:
        if not is_folder:
            raise KitError(f"{folder / name}: expected class folders alone, found something else")
    return [name for name, _ in found]


def _entries(split: Path, class_names: tuple[str, ...]) -> list[ImageEntry]:
    entries: list[ImageEntry] = []
    for label, name in enumerate(class_names):
        found = [
            ImageEntry(path, 0, size, f"{name}/{file_name}", label) for file_name, path, size in _images(split / name)
        ]
        if not found:
            raise KitError(f"{split / name}: expected images ({', '.join(SUFFIXES)}), found none")
        entries += found
    return sorted(entries, key=lambda entry: entry.name)


def _images(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Name, path and size of each image; files that are no images by their name are left out."""
    path = folder
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                    continue
                path = folder / entry.name
                size = entry.stat().st_size
                if not entry.is_file():
                    raise KitError(f"{path}: expected an image, found something that is not a file")
                if size == 0:
                    raise KitError(f"{path}: the file is empty; get it again from where the data set came from")
                yield entry.name, entry.path, size
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from None


# ---- the tar files


def _from_tars(path: Path, rehearsal: bool) -> RawFiles:
    train_tar, val_tar = path / TRAIN_TAR, path / VAL_TAR
    for tar in (train_tar, val_tar):
        if not tar.is_file():
            raise KitError(f"{tar}: not there; get it from {SITE}")
    if not rehearsal:
        _check_md5(val_tar)
    train = _train_members(train_tar)
    class_names = tuple(sorted({name.split("/")[0] for name, _, _ in train}))
    labels = {name: label for label, name in enumerate(class_names)}
    synsets = _synsets(path)
    val = sorted(_members(val_tar, val_tar, 0, val_tar.stat().st_size))
    if len(synsets) != len(val):
        raise KitError(
            f"{val_tar}: {len(val):,} images, and {len(synsets):,} lines in the synset list; expected as many"
        )
    if unknown := sorted(set(synsets) - set(labels)):
        raise KitError(f"{path}: the synset list names {unknown[0]!r}, of which {TRAIN_TAR} has no images")
    if unseen := sorted(set(labels) - set(synsets)):
        raise KitError(f"{path}: class {unseen[0]} of {TRAIN_TAR} is not in the synset list")
    return RawFiles(
        train=sorted(
            (
                ImageEntry(str(train_tar), offset, size, name, labels[name.split("/")[0]])
                for name, offset, size in train
            ),
            key=lambda entry: entry.name,
        ),
        test=sorted(
            (
                ImageEntry(str(val_tar), offset, size, f"{synset}/{name}", labels[synset])
                for (name, offset, size), synset in zip(val, synsets, strict=True)
            ),
            key=lambda entry: entry.name,
        ),
        class_names=class_names,
    )


def _check_md5(path: Path) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from None
    if found != VAL_MD5:
        raise KitError(
            f"{path}: MD5 is {found}, expected {VAL_MD5}: not the published file; get it from {SITE}, or add "
            "--rehearsal for other data in this format"
        )


def _synsets(folder: Path) -> list[str]:
    """The class of each validation image, in the order of their numbers."""
    for name in SYNSETS:
        path = folder / name
        if path.exists():
            try:
                return path.read_text("ascii").split()
            except (OSError, UnicodeDecodeError) as error:
                raise KitError(f"{path}: {error}; expected one synset (n01440764) per line") from None
    raise KitError(f"{folder / SYNSETS[0]}: not there; expected the synset of each validation image, one per line")


def _train_members(outer: Path) -> list[tuple[str, int, int]]:
    """Name (`class/file`), offset in the outer tar and size of every training image."""
    found: list[tuple[str, int, int]] = []
    for name, offset, size in _members(outer, outer, 0, outer.stat().st_size):
        if not name.endswith(".tar"):
            raise KitError(f"{outer}: expected a tar file for each class, found {name}")
        images = _members(outer, outer / name, offset, size)
        class_name = name.removesuffix(".tar")
        if not images:
            raise KitError(f"{outer / name}: expected images, found none")
        found += [(f"{class_name}/{image}", at, length) for image, at, length in images]
    if not found:
        raise KitError(f"{outer}: expected a tar file for each class, found none; get it from {SITE}")
    return found


def _members(container: Path, where: Path, start: int, length: int) -> list[tuple[str, int, int]]:
    """Bare name, absolute offset and size of each file of the tar that lies in a stretch of `container`.

    Folders that a member's name leads through mean nothing: nothing is unpacked.
    """
    found: dict[str, tuple[str, int, int]] = {}
    try:
        with container.open("rb") as file:
            file.seek(start)
            # With an offset of its own in the file, a tar inside a tar reads as it is.
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.isdir():
                        continue
                    end = member.offset_data + member.size
                    if not member.isreg() or not member.size:
                        raise KitError(f"{where}: {member.name} is no file, or an empty one; get it again from {SITE}")
                    if end > start + length:
                        raise KitError(f"{where}: cut off inside {member.name}; get it again from {SITE}")
                    name = member.name.rpartition("/")[2]
                    if name in found:
                        raise KitError(f"{where}: {name} is in it twice; get it again from {SITE}")
                    found[name] = (name, member.offset_data, member.size)
                file.seek(tar.offset)
                # tarfile takes the end of the file, or a header that it cannot read, for the end of the archive.
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE or tar.offset >= start + length:
                    raise KitError(f"{where}: damaged or cut off after byte {tar.offset:,}; get it again from {SITE}")
    except (tarfile.TarError, EOFError) as error:
        raise KitError(f"{where}: not a whole tar file ({error}); get it again from {SITE}") from None
    except OSError as error:
        raise KitError(f"{where}: {error.strerror}") from None
    return list(found.values())
