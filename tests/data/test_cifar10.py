"""CIFAR-10 in each of its published forms is one data set; whatever else lies there is named in one line."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kit.data.sources import RawDataset, cifar10
from kit.errors import KitError

NAMES = (*cifar10.BATCHES, cifar10.TEST)
PER_FILE = 12


def batch(number: int, count: int = PER_FILE) -> tuple[NDArray[np.uint8], list[int]]:
    random = np.random.default_rng(number)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), [(number + row) % 10 for row in range(count)]


def python_file(rows: Any, labels: Any) -> bytes:
    return pickle.dumps({b"batch_label": b"made", b"labels": labels, b"data": rows, b"filenames": []}, protocol=2)


def binary_file(rows: NDArray[np.uint8], labels: list[int]) -> bytes:
    return np.concatenate([np.array(labels, np.uint8)[:, None], rows], axis=1).tobytes()


def files(version: cifar10.Version) -> dict[str, bytes]:
    """The six files of a version, by name."""
    encode = python_file if version.folder == cifar10.PYTHON.folder else binary_file
    return {f"{name}{version.suffix}": encode(*batch(number)) for number, name in enumerate(NAMES)}


def pack(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def archive(folder: Path, version: cifar10.Version = cifar10.PYTHON, **differently: Any) -> Path:
    """An archive of made images; `differently` replaces files or, with None, leaves them out."""
    content = {name: data for name, data in (files(version) | differently).items() if data is not None}
    return pack(folder / version.archive, {f"{version.folder}/{name}": data for name, data in content.items()})


def unpacked(folder: Path, version: cifar10.Version = cifar10.PYTHON) -> Path:
    place = folder / version.folder
    place.mkdir(parents=True)
    for name, content in files(version).items():
        (place / name).write_bytes(content)
    return place


def rehearse(path: Path) -> RawDataset:
    return cifar10.load(path, rehearsal=True, download_dir=None)


def assert_named(path: Path, *expected: str, rehearsal: bool = True) -> None:
    """The error is one line that names the file."""
    with pytest.raises(KitError) as caught:
        cifar10.load(path, rehearsal=rehearsal, download_dir=None)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in expected:
        assert part in message


VERSIONS = pytest.mark.parametrize("version", cifar10.VERSIONS, ids=["python", "binary"])


# ---- one data set


def test_every_form_gives_the_same_images_and_labels(tmp_path: Path) -> None:
    places = [form(tmp_path, version) for version in cifar10.VERSIONS for form in (archive, unpacked)]
    for version in cifar10.VERSIONS:
        for form in (archive, unpacked):
            (holder := tmp_path / f"{version.folder}-{form.__name__}").mkdir()
            form(holder, version)
            places.append(holder)
    first, *others = map(rehearse, places)
    assert len(others) == 7
    for other in others:
        for name in ("train_images", "train_labels", "test_images", "test_labels"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name), strict=True)


def test_training_images_keep_their_order_and_planes(tmp_path: Path) -> None:
    raw = rehearse(archive(tmp_path))
    expected = np.concatenate([batch(number)[0] for number in range(5)])
    np.testing.assert_array_equal(raw.train_images.reshape(-1, 3072), expected)
    assert raw.train_images.shape == (5 * PER_FILE, 3, 32, 32)
    assert raw.train_labels.tolist() == [label for number in range(5) for label in batch(number)[1]]
    assert raw.train_labels.dtype == np.int64
    assert raw.classes == 10


def test_the_order_of_test_images_follows_their_pixels_alone(tmp_path: Path) -> None:
    rows, labels = batch(5)
    raw = rehearse(archive(tmp_path))
    keys = [hashlib.sha256(b"cifar10/1/" + image.tobytes()).digest() for image in raw.test_images]
    assert keys == sorted(keys)
    known = {row.tobytes(): label for row, label in zip(rows, labels, strict=True)}
    assert [known[image.tobytes()] for image in raw.test_images] == raw.test_labels.tolist()
    (other := tmp_path / "other").mkdir()
    turned = python_file(rows[::-1].copy(), labels[::-1])
    np.testing.assert_array_equal(rehearse(archive(other, test_batch=turned)).test_labels, raw.test_labels)


def test_pickles_as_python_2_wrote_them_are_read(tmp_path: Path) -> None:
    # Byte strings as Python 2's protocol 2 spells them (SHORT_BINSTRING), an array by its old module name.
    rows, labels = batch(0)
    python3 = python_file(rows, labels)
    python2 = python3.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for key in (b"batch_label", b"labels", b"data", b"filenames"):
        spelled = pickle.dumps(key, protocol=2)[2:-1]
        head, found, tail = python2.partition(spelled)
        if found:
            python2 = head + b"U" + bytes([len(key)]) + key + tail
    raw = rehearse(archive(tmp_path, data_batch_1=python2))
    np.testing.assert_array_equal(raw.train_images[:PER_FILE].reshape(PER_FILE, -1), rows)


# ---- only the published files, unless it is a rehearsal


def published(version: cifar10.Version, path: Path) -> cifar10.Version:
    """The version, as if the made archive at `path` had been published."""
    file_md5 = {name: hashlib.md5(content).hexdigest() for name, content in files(version).items()}
    return replace(
        version,
        md5=hashlib.md5(path.read_bytes()).hexdigest(),
        file_md5=file_md5 if version.file_md5 is not None else None,
        file_bytes=None if version.file_bytes is None else PER_FILE * 3073,
    )


@VERSIONS
@pytest.mark.parametrize("form", [archive, unpacked])
def test_other_content_than_the_published_is_refused_with_where_to_get_it(
    tmp_path: Path, version: cifar10.Version, form: Callable[[Path, cifar10.Version], Path]
) -> None:
    path = form(tmp_path, version)
    expected = "--rehearsal", cifar10.SITE, str(path)
    checked = "30,730,000 bytes" if form is unpacked and version is cifar10.BINARY else "MD5"
    assert_named(path, *expected, checked, rehearsal=False)


@pytest.mark.parametrize("form", [archive, unpacked])
def test_the_published_checksums_are_what_lets_a_file_pass(
    tmp_path: Path, form: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published(cifar10.PYTHON, archive(tmp_path))
    monkeypatch.setattr(cifar10, "PYTHON", made)
    monkeypatch.setattr(cifar10, "VERSIONS", (made, cifar10.BINARY))
    path = tmp_path / made.archive if form is archive else unpacked(tmp_path)
    # The checksums agree; the counts are the next thing that is looked at.
    assert_named(path, "5,000 training and 1,000 test images", rehearsal=False)
    if form is unpacked:
        (path / "data_batch_3").write_bytes((path / "data_batch_3").read_bytes() + b"x")
        assert_named(path, f"{path / 'data_batch_3'}: MD5", rehearsal=False)


def test_the_more_strongly_checked_form_is_preferred(tmp_path: Path) -> None:
    unpacked(tmp_path, cifar10.BINARY)
    archive(tmp_path, cifar10.PYTHON)
    assert_named(tmp_path, f"{tmp_path / cifar10.PYTHON.archive}: MD5", rehearsal=False)


# ---- broken in every way


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {os.environ['TOUCHED']}",)


BROKEN_BATCHES: dict[str, bytes] = {
    "empty": b"",
    "not a pickle": b"hello",
    "a list": pickle.dumps([1, 2]),
    "cut off": python_file(*batch(0))[:-1000],
    "labels missing": pickle.dumps({b"data": batch(0)[0]}, protocol=2),
    "data of the wrong shape": python_file(batch(0)[0][:, :3000].copy(), batch(0)[1]),
    "data of the wrong type": python_file(batch(0)[0].astype(float), batch(0)[1]),
    "objects for data": python_file(np.array([[None] * 3072], object), [0]),
    "a label too many": python_file(batch(0)[0], batch(0)[1] + [0]),
    "a label of 10": python_file(batch(0)[0], [10] * PER_FILE),
    "a negative label": python_file(batch(0)[0], [-1] * PER_FILE),
    "labels that are words": python_file(batch(0)[0], ["cat"] * PER_FILE),
    "true for a label": python_file(batch(0)[0], [True] * PER_FILE),
    "no images": python_file(np.zeros((0, 3072), np.uint8), []),
    "a module of its own": b"cos\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("kind", BROKEN_BATCHES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_broken_batch_is_named(tmp_path: Path, kind: str, packed: bool) -> None:
    content = BROKEN_BATCHES[kind]
    if packed:
        assert_named(archive(tmp_path, data_batch_2=content), cifar10.PYTHON.archive, "data_batch_2", cifar10.SITE)
    else:
        folder = unpacked(tmp_path)
        (folder / "data_batch_2").write_bytes(content)
        assert_named(folder, str(folder), "data_batch_2", cifar10.SITE)


def test_a_pickle_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHED", str(tmp_path / "touched"))
    content = pickle.dumps({b"data": Hostile(), b"labels": [0]}, protocol=2)
    assert_named(archive(tmp_path, test_batch=content), "test_batch", "system")
    assert not (tmp_path / "touched").exists()


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_whatever_a_batch_holds_it_ends_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KitError, match="here"):
        cifar10.PYTHON.parse(content, "here")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_a_batch_with_any_byte_changed_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(python_file(*batch(0, 1)))
    place = data.draw(st.integers(0, 300) | st.integers(len(whole) - 60, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    try:
        images, labels = cifar10.PYTHON.parse(bytes(whole), "here")
    except KitError:
        return
    assert images.shape[1:] == (3, 32, 32)
    assert 0 <= labels.min() <= labels.max() <= 9


@pytest.mark.parametrize("size", [1, 3072, 3073 * 2 - 1])
def test_a_binary_file_of_an_odd_length_is_named(tmp_path: Path, size: int) -> None:
    path = archive(tmp_path, cifar10.BINARY, **{"data_batch_4.bin": bytes(size)})
    assert_named(path, "data_batch_4", "multiple of 3,073 bytes")


def test_a_binary_file_with_a_label_of_10_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path, cifar10.BINARY, **{"test_batch.bin": bytes([10]) + bytes(3072)})
    assert_named(path, "test_batch", "labels from 0 to 9")


@VERSIONS
@pytest.mark.parametrize("kept", [0, 10, 1000, 0.5, 0.95])
def test_a_truncated_archive_is_named(tmp_path: Path, version: cifar10.Version, kept: float) -> None:
    path = archive(tmp_path, version)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 or kept == 0 else kept * len(content))])
    assert_named(path, str(path), cifar10.SITE)


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / cifar10.PYTHON.archive
    for content in (b"<html>", gzip.compress(b"not a tar"), b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        assert_named(path, str(path), "not a whole tar archive")
    pack(path, {"readme.txt": b"hello"})
    assert_named(path, str(path), "data_batch_1")


@VERSIONS
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_batch_is_named(tmp_path: Path, version: cifar10.Version, name: str) -> None:
    assert_named(archive(tmp_path, version, **{f"{name}{version.suffix}": None}), name)
    folder = unpacked(tmp_path, version)
    (folder / f"{name}{version.suffix}").unlink()
    assert_named(tmp_path / version.folder, name if name != cifar10.TEST else version.folder)


@pytest.mark.parametrize("target", ["../../outside", "/etc/passwd", "data_batch_1"])
def test_a_link_in_place_of_a_batch_is_refused(tmp_path: Path, target: str) -> None:
    name = f"{cifar10.PYTHON.folder}/test_batch"
    members: dict[str, Any] = {f"{cifar10.PYTHON.folder}/{key}": value for key, value in files(cifar10.PYTHON).items()}
    path = pack(tmp_path / cifar10.PYTHON.archive, members | {name: link(name, target)})
    assert_named(path, "test_batch", "not a plain file")


def test_members_that_lead_out_of_the_archive_are_left_alone(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    members: dict[str, Any] = {
        "../../outside": b"x",
        "/tmp/kit-was-here": b"x",
        f"{cifar10.PYTHON.folder}/../../../outside": b"x",
        f"{cifar10.PYTHON.folder}/data_batch_1/../../../outside": b"x",
    }
    members |= {f"{cifar10.PYTHON.folder}/{key}": value for key, value in files(cifar10.PYTHON).items()}
    before = sorted(tmp_path.rglob("*"))
    raw = rehearse(pack(inside / cifar10.PYTHON.archive, members))
    assert len(raw.train_labels) == 5 * PER_FILE
    assert sorted(tmp_path.rglob("*")) == sorted([*before, inside / cifar10.PYTHON.archive])
    assert not Path("/tmp/kit-was-here").exists()


def test_a_member_that_claims_to_be_huge_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    member = tarfile.TarInfo(f"{cifar10.PYTHON.folder}/data_batch_1")
    member.size = 10 << 30
    path = tmp_path / cifar10.PYTHON.archive
    path.write_bytes(gzip.compress(member.tobuf() + bytes(10_000)))
    assert_named(path, "data_batch_1", "10,737,418,240 bytes")


def test_a_place_where_nothing_lies_is_named_with_what_was_looked_for(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place in (tmp_path / "nowhere", tmp_path, loop):
        assert_named(place, str(place), *(version.archive for version in cifar10.VERSIONS), cifar10.SITE)


def test_a_folder_in_place_of_a_batch_is_named(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    (folder / "data_batch_1").unlink()
    (folder / "data_batch_1").mkdir()
    assert_named(folder, str(folder / "data_batch_1"), "Is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path)
    path.chmod(0)
    assert_named(path, str(path), "Permission denied")


def test_a_name_with_spaces_and_unicode_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "my dätä"
    folder.mkdir()
    assert len(rehearse(archive(folder)).test_labels) == PER_FILE


def test_without_a_network_the_error_says_how_to_get_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "DOWNLOADS", "http://127.0.0.1:9")
    with pytest.raises(KitError) as caught:
        cifar10.load(None, rehearsal=False, download_dir=tmp_path)
    for part in (cifar10.PYTHON.archive, cifar10.PYTHON.md5, cifar10.SITE, "--source"):
        assert part in str(caught.value)


def test_an_archive_that_was_downloaded_before_is_used_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "DOWNLOADS", "http://127.0.0.1:9")
    archive(tmp_path)
    assert len(cifar10.load(None, rehearsal=True, download_dir=tmp_path).test_labels) == PER_FILE
