"""Prepared data: whole or not there, checked on every use, and its public part without test labels."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit.data.preparation import prepare
from kit.data.prepared import Prepared, read
from kit.data.public import PublicArrays
from kit.data.sources import SOURCES, RawDataset, Request
from kit.errors import KitError
from kit.track import Limits, Track

CONF = Path(__file__).parents[2] / "conf"
FILES = ["public/train_images.npy", "public/train_labels.npy", "public/test_images.npy", "private/test_labels.npy"]


def made_dataset(seed: int = 0) -> RawDataset:
    random = np.random.default_rng(seed)
    return RawDataset(
        train_images=random.integers(0, 256, (30, 3, 5, 4), dtype=np.uint8),
        train_labels=random.integers(0, 7, 30),
        test_images=random.integers(0, 256, (20, 3, 5, 4), dtype=np.uint8),
        test_labels=random.integers(0, 7, 20),
        classes=7,
    )


def track(**differently: Any) -> Track:
    content: dict[str, Any] = {
        "name": "made",
        "version": 1,
        "title": "Made",
        "dataset": "made",
        "metric": "top1",
        "target": 0.9,
        "limits": Limits(run_s=10),
        "baseline": "baselines/made",
    }
    return Track(**content | differently)


@pytest.fixture(autouse=True)
def made_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "made", lambda request: made_dataset())


@pytest.fixture(scope="module")
def digits_track() -> Track:
    return Track(**yaml.safe_load((CONF / "track" / "digits.yaml").read_text()))


@pytest.fixture
def made(tmp_path: Path) -> Prepared:
    return prepare(track(), tmp_path)


@pytest.fixture
def public(made: Prepared) -> Iterator[int]:
    descriptor = os.open(made.public_dir, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def bytes_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_digits_have_the_fingerprint_that_their_track_names(digits_track: Track, data_dir: Path) -> None:
    assert digits_track.dataset_fingerprint is not None
    assert prepare(digits_track, data_dir).fingerprint == digits_track.dataset_fingerprint


def test_two_preparations_have_the_same_fingerprint_and_the_same_files(digits_track: Track, tmp_path: Path) -> None:
    first, second = (prepare(digits_track, tmp_path / name) for name in ("one", "two"))
    assert first.fingerprint == second.fingerprint
    assert [*bytes_below(first.root).values()] == [*bytes_below(second.root).values()]


def test_other_data_has_another_fingerprint(made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "made", lambda request: made_dataset(seed=1))
    assert prepare(track(), tmp_path / "other").fingerprint != made.fingerprint


def test_other_test_labels_alone_are_another_fingerprint(
    made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = made_dataset()
    raw.test_labels[0] = (raw.test_labels[0] + 1) % raw.classes
    monkeypatch.setitem(SOURCES, "made", lambda request: raw)
    assert prepare(track(), tmp_path / "other").fingerprint != made.fingerprint


def test_what_was_prepared_is_read_back(made: Prepared, public: int) -> None:
    raw, arrays = made_dataset(), PublicArrays(public)
    np.testing.assert_array_equal(arrays.train_images, raw.train_images, strict=True)
    np.testing.assert_array_equal(arrays.train_labels, raw.train_labels, strict=True)
    np.testing.assert_array_equal(arrays.test_images, raw.test_images, strict=True)
    np.testing.assert_array_equal(made.test_labels(), raw.test_labels, strict=True)


def test_the_description_holds_shape_and_statistics_of_the_training_images(made: Prepared) -> None:
    raw, spec = made_dataset(), made.spec
    assert (spec.channels, spec.height, spec.width, spec.classes) == (3, 5, 4, 7)
    assert (spec.train_count, spec.test_count) == (30, 20)
    scaled = raw.train_images.transpose(1, 0, 2, 3).reshape(3, -1) / 255
    np.testing.assert_allclose(spec.mean, scaled.mean(1))
    np.testing.assert_allclose(spec.std, scaled.std(1))


def test_the_public_folder_holds_no_test_labels(digits_track: Track, data_dir: Path) -> None:
    prepared = prepare(digits_track, data_dir)
    labels = prepared.test_labels()
    assert len(labels) == 797
    encodings = [labels.astype(dtype).tobytes() for dtype in ("u1", "<i2", "<i4", "<i8", "<f4", "<f8", ">i4", ">i8")]
    public = bytes_below(prepared.public_dir)
    assert {path.name for path in public} == {"train_images.npy", "train_labels.npy", "test_images.npy"}
    for path, content in public.items():
        assert not any(encoding in content for encoding in encodings), path
        array = np.load(path, allow_pickle=False)
        assert array.ndim == 4 or array.shape == (1000,), path


def test_nobody_else_may_look_into_the_private_folder(made: Prepared) -> None:
    assert (made.root / "private").stat().st_mode & 0o077 == 0


def test_data_that_is_there_is_not_prepared_again(
    made: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(SOURCES, "made")
    assert prepare(track(), tmp_path).fingerprint == made.fingerprint


# ---- what is damaged is named


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def turn_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, truncate, empty, lengthen, Path.unlink, turn_into_a_folder])
def test_a_damaged_file_is_named(made: Prepared, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(made.root / name)
    with pytest.raises(KitError) as caught:
        prepare(track(), tmp_path)
    assert str(made.root / name) in str(caught.value)


@pytest.mark.parametrize("damage", [truncate, empty, turn_into_a_folder])
def test_a_damaged_description_is_named(made: Prepared, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = made.root / "dataset.json"
    if damage is truncate:
        path.write_bytes(path.read_bytes()[:-3])
    else:
        damage(path)
    with pytest.raises(KitError) as caught:
        prepare(track(), tmp_path)
    assert str(path) in str(caught.value)


@given(content=st.binary(max_size=100) | st.sampled_from([b"[" * 60000, b"{}", b"null", b"\xff", b'{"spec": NaN}']))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_description_holds_the_error_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(KitError, match=r"dataset\.json"):
        read(tmp_path)


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"nowhere/dataset\.json"):
        read(tmp_path / "nowhere")


def test_another_fingerprint_than_the_tracks_is_an_error_that_names_the_folder(made: Prepared, tmp_path: Path) -> None:
    with pytest.raises(KitError) as caught:
        prepare(track(dataset_fingerprint="0" * 64), tmp_path)
    assert str(made.root) in str(caught.value)
    assert made.fingerprint[:12] in str(caught.value)
    assert "0" * 12 in str(caught.value)


def test_a_description_rewritten_to_fit_other_labels_does_not_keep_the_fingerprint(
    made: Prepared, tmp_path: Path
) -> None:
    import hashlib

    labels, description = made.root / "private" / "test_labels.npy", made.root / "dataset.json"
    before = hashlib.sha256(labels.read_bytes()).hexdigest()
    np.save(labels, np.zeros_like(made.test_labels()))
    after = hashlib.sha256(labels.read_bytes()).hexdigest()
    description.write_text(description.read_text().replace(before, after))
    with pytest.raises(KitError, match="fingerprint"):
        prepare(track(dataset_fingerprint=made.fingerprint), tmp_path)


def test_an_unknown_dataset_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"'nothing'.*digits"):
        prepare(track(dataset="nothing"), tmp_path)
    assert not any(tmp_path.iterdir())


# ---- whole or not at all


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError) as caught:
        prepare(track(), tmp_path / "file" / "data")
    assert str(tmp_path / "file" / "data") in str(caught.value)


def test_a_folder_whose_name_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(KitError) as caught:
        prepare(track(), tmp_path / ("x" * 300))
    assert "x" * 300 in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and look everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_folder_without_permission_is_named(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=mode)
    with pytest.raises(KitError) as caught:
        prepare(track(), folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("failing", ["numpy.save", "os.rename"])
def test_a_disk_that_is_full_leaves_nothing_that_could_be_taken_for_prepared_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(KitError, match=r"made.*No space left"):
            prepare(track(), tmp_path)
    assert not (tmp_path / "made").exists()
    prepare(track(), tmp_path)


def test_a_preparation_that_was_killed_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(track(), tmp_path)
    assert not (tmp_path / "made").exists()
    assert (tmp_path / ".made.partial").is_dir()
    prepare(track(), tmp_path).verify()
    assert not (tmp_path / ".made.partial").exists()


def test_a_folder_without_its_description_is_not_taken_for_a_whole_one(made: Prepared, tmp_path: Path) -> None:
    (made.root / "dataset.json").unlink()
    with pytest.raises(KitError) as caught:
        prepare(track(), tmp_path)
    assert str(made.root) in str(caught.value)


def test_who_prepares_second_takes_what_the_first_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    both_ask = threading.Barrier(2)

    def slow(request: Request) -> RawDataset:
        made.append(1)
        return made_dataset()

    def ask() -> str:
        both_ask.wait()
        return prepare(track(), tmp_path).fingerprint

    monkeypatch.setitem(SOURCES, "made", slow)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask) for _ in range(2)]
        assert len({one.result() for one in asked}) == 1
    assert len(made) == 1
