"""Encoded images prepared into shards: original bytes, nothing revealed, nothing lost when killed, damage named."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from images import assert_same_epoch, make_loader, opened, photograph, prepare_images, track, write_images
from PIL import Image
from support import ROOT

from kit.data.preparation import prepare
from kit.data.prepared import Prepared
from kit.data.shards import IMAGES_PER_SHARD, needed_bytes
from kit.data.sources import SOURCES, ImageEntry, RawFiles, Request
from kit.errors import KitError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """More images than one shard holds."""
    folder = tmp_path_factory.mktemp("images")
    train = [photograph(24, 16, seed) for seed in range(IMAGES_PER_SHARD + 40)]
    test = [photograph(20, 30, 10_000 + seed) for seed in range(60)]
    return prepare_images(folder, train, test)


def sources(prepared: Prepared, split: str) -> dict[bytes, str]:
    """Content of each source image, with its class."""
    folder = prepared.root.parents[1] / split
    return {path.read_bytes(): path.parent.name for path in folder.rglob("*.jpg")}


def raw_tree(folder: Path, count: int = 12) -> RawFiles:
    images = [photograph(24, 16, seed) for seed in range(count)]
    return RawFiles(write_images(folder / "train", images), write_images(folder / "val", images[:6]), ("a", "b", "c"))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RawFiles:
    """A small tree, known as the source `made`."""
    raw = raw_tree(tmp_path / "tree")
    monkeypatch.setitem(SOURCES, "made", lambda request: raw)
    return raw


# ---- what is written


def test_every_image_is_kept_byte_for_byte_with_its_class_and_size(prepared: Prepared) -> None:
    public = opened(prepared)
    for split, images, labels in (
        ("train", public.train_images, public.train_labels),
        ("val", public.test_images, prepared.test_labels()),
    ):
        expected = sources(prepared, split)
        found = {}
        for number in range(len(images)):
            content = images[number].tobytes()
            found[content] = "abc"[labels[number]]
            width, height = Image.open(io.BytesIO(content)).size
            assert images.sizes[number].tolist() == [height, width]
        assert found == expected


def test_shards_are_tar_files_that_other_tools_read(prepared: Prepared) -> None:
    names = sorted(path.name for path in prepared.public_dir.glob("*.tar"))
    assert names == ["test-00000.tar", "train-00000.tar", "train-00001.tar"]
    contents = []
    for name in names[1:]:
        with tarfile.open(prepared.public_dir / name) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                contents.append(file.read())
    public = opened(prepared)
    assert contents == [public.train_images[number].tobytes() for number in range(len(public.train_images))]


def test_the_public_folder_tells_nothing_of_test_labels(prepared: Prepared) -> None:
    labels = prepared.test_labels()
    encodings = [labels.astype(dtype).tobytes() for dtype in ("u1", "<i2", "<i4", "<i8", "<f4")]
    for path in prepared.public_dir.iterdir():
        assert not any(encoding in path.read_bytes() for encoding in encodings), path
    with tarfile.open(prepared.public_dir / "test-00000.tar") as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [f"{number:06d}.jpg" for number in range(60)]
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(0, 0, "")}


def test_test_images_lie_in_an_order_that_does_not_follow_names_or_classes(tmp_path: Path) -> None:
    test = [photograph(16, 16, seed) for seed in range(300)]
    labels = prepare_images(tmp_path, test[:3], test).test_labels()
    changes = int((labels[1:] != labels[:-1]).sum())
    assert 150 < changes < 250  # of 299: two in three when classes are mixed, 2 when sorted, 299 when dealt out


def test_names_do_not_move_test_images(tmp_path: Path) -> None:
    images = [photograph(16, 16, seed) for seed in range(30)]
    plain = prepare_images(tmp_path / "plain", images[:3], images)
    renamed = [(image, f"x{30 - number}") for number, image in enumerate(images)]
    entries = []
    for number, (image, name) in enumerate(renamed):
        path = tmp_path / "renamed" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, "JPEG", quality=90)
        entries.append(ImageEntry(str(path), 0, path.stat().st_size, f"c/{name}.jpg", number % 3))
    raw = RawFiles(write_images(tmp_path / "again", images[:3]), entries, ("a", "b", "c"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "made", lambda request: raw)
        other = prepare(track(), tmp_path / "other")
    assert other.fingerprint == plain.fingerprint


def test_the_same_images_have_the_same_fingerprint_wherever_they_lie(tmp_path: Path) -> None:
    images = [photograph(24, 16, seed) for seed in range(20)]
    first, second = (prepare_images(tmp_path / name, images, images[:6]) for name in ("one", "two"))
    assert first.fingerprint == second.fingerprint
    other = prepare_images(tmp_path / "three", images[1:], images[:6])
    assert other.fingerprint != first.fingerprint


def test_images_may_lie_inside_a_larger_file(tmp_path: Path, made: RawFiles) -> None:
    whole = prepare(track(), tmp_path / "data")
    container, entries = tmp_path / "container", []
    with container.open("wb") as file:
        for entry in made.train:
            file.write(b"in between")
            entries.append(entry._replace(container=str(container), offset=file.tell()))
            file.write(Path(entry.container).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "made", lambda request: RawFiles(entries, made.test, made.class_names))
        assert prepare(track(), tmp_path / "other").fingerprint == whole.fingerprint


@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
@pytest.mark.parametrize("name", ["train-00001.tar", "test-00000.tar", "train_index.npy", "train_labels.npy"])
def test_verify_names_a_damaged_file(prepared: Prepared, name: str, damage: str) -> None:
    path = prepared.public_dir / name
    content = path.read_bytes()
    try:
        if damage == "flip":
            path.write_bytes(content[:1000] + bytes([content[1000] ^ 4]) + content[1001:])
        elif damage == "shorten":
            path.write_bytes(content[:-1])
        else:
            path.unlink()
        with pytest.raises(KitError, match=name):
            prepared.verify()
        if damage != "flip" or not name.endswith(".tar"):
            with pytest.raises(KitError, match=name):
                prepared.verify(shards=False)
    finally:
        path.write_bytes(content)
    prepared.verify()


# ---- what is refused, and what is not


def encoded(image: Image.Image, encoding: str) -> bytes:
    out = io.BytesIO()
    image.save(out, encoding)
    return out.getvalue()


PICTURE = photograph(40, 30, 1)
REFUSED: dict[str, tuple[bytes, str]] = {
    "cut in half": (encoded(PICTURE, "JPEG")[:700], "damaged"),
    "last bytes missing": (encoded(PICTURE, "JPEG")[:-2], "damaged"),
    "text": (b"<html>404</html>" * 10, "expected a JPEG or PNG"),
    "zeros": (bytes(1000), "expected a JPEG or PNG"),
    "GIF": (encoded(PICTURE.convert("P"), "GIF"), "expected a JPEG or PNG"),
    "BMP": (encoded(PICTURE, "BMP"), "expected a JPEG or PNG"),
    "PNG cut": (encoded(PICTURE, "PNG")[:-300], "damaged"),
    "PNG of 16 bits": (encoded(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG"), "colour mode"),
    "JPEG head alone": (encoded(PICTURE, "JPEG")[:20], "damaged|expected a JPEG"),
}
TAKEN: dict[str, bytes] = {
    "grey": encoded(PICTURE.convert("L"), "JPEG"),
    "CMYK": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "PNG named .jpg": encoded(PICTURE, "PNG"),
    "PNG with a palette": encoded(PICTURE.convert("P"), "PNG"),
    "PNG with transparency": encoded(PICTURE.convert("RGBA"), "PNG"),
    "one pixel": encoded(PICTURE.crop((0, 0, 1, 1)), "JPEG"),
    "one row": encoded(PICTURE.crop((0, 0, 40, 1)), "JPEG"),
    "bytes after the end": encoded(PICTURE, "JPEG") + bytes(100),
}


def replace(entry: ImageEntry, content: bytes) -> ImageEntry:
    Path(entry.container).write_bytes(content)
    return entry._replace(size=len(content))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_broken_image_is_named_and_nothing_is_prepared(tmp_path: Path, made: RawFiles, kind: str, split: str) -> None:
    content, expected = REFUSED[kind]
    entries: list[ImageEntry] = getattr(made, split)
    entries[4] = replace(entries[4], content)
    with pytest.raises(KitError, match=expected) as caught:
        prepare(track(), tmp_path / "data")
    assert entries[4].container in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data" / "made").exists()


@pytest.mark.parametrize("kind", TAKEN)
def test_an_unusual_image_is_taken_as_every_loader_takes_it(tmp_path: Path, made: RawFiles, kind: str) -> None:
    made.train[4] = replace(made.train[4], TAKEN[kind])
    public = opened(prepare(track(), tmp_path / "data"))
    loaders = [make_loader(name, public.train_images, batch_size=12, sizes=(16,)) for name in ("dali", "torch")]
    assert_same_epoch(loaders[0], loaders[1])


def test_after_a_broken_image_is_mended_the_same_command_goes_on(tmp_path: Path, made: RawFiles) -> None:
    whole = prepare(track(), tmp_path / "undisturbed").fingerprint
    content = Path(made.train[4].container).read_bytes()
    Path(made.train[4].container).write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    with pytest.raises(KitError, match="damaged"):
        prepare(track(), tmp_path / "data")
    Path(made.train[4].container).write_bytes(content)
    assert prepare(track(), tmp_path / "data").fingerprint == whole


def test_an_image_that_vanished_or_shrank_since_it_was_found_is_named(tmp_path: Path, made: RawFiles) -> None:
    path = Path(made.train[2].container)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(KitError, match=rf"{path.name}.*truncated"):
        prepare(track(), tmp_path / "data")
    path.unlink()
    with pytest.raises(KitError, match=rf"{path.name}.*No such file"):
        prepare(track(), tmp_path / "data")
    path.write_bytes(content)
    prepare(track(), tmp_path / "data").verify()


@pytest.mark.parametrize("name", ["with space.jpg", "größe.jpg", "two\nlines.jpg", "undecodable-\udcff.jpg", "-rf.jpg"])
def test_an_odd_name_is_no_obstacle_and_stays_on_one_line_of_an_error(
    tmp_path: Path, made: RawFiles, name: str
) -> None:
    path = Path(made.train[4].container).with_name(name)
    Path(made.train[4].container).rename(path)
    made.train[4] = made.train[4]._replace(container=str(path), name=f"b/{name}")
    prepare(track(), tmp_path / "data").verify()
    path.write_bytes(b"not an image")
    made.train[4] = made.train[4]._replace(size=12)
    with pytest.raises(KitError, match="expected a JPEG or PNG") as caught:
        prepare(track(), tmp_path / "other")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


# ---- room on the disk


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, made: RawFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(KitError, match=r"takes 0\.\d+ GB, and 0\.00 GB are free"):
        prepare(track(), tmp_path / "data")
    assert not any((tmp_path / "data").rglob("*.tar"))


def test_the_room_asked_for_is_what_the_shards_take(prepared: Prepared) -> None:
    tree = prepared.root.parents[1]
    splits = [
        [ImageEntry(str(path), 0, path.stat().st_size, path.name, 0) for path in (tree / split).rglob("*.jpg")]
        for split in ("train", "val")
    ]
    needed = needed_bytes(RawFiles(splits[0], splits[1], ("a",)))
    assert prepared.total_bytes <= needed <= prepared.total_bytes + (64 << 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")
def test_a_disk_that_fills_up_ends_in_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    raw_tree(tmp_path / "tree", 400)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20M", "none", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.decode().strip()}")
    try:
        filler = small / "filler"
        command = prepare_command(tmp_path / "tree", small / "data")
        # Room enough when asked for, and gone a moment later.
        start = f"""
import os, sys
from pathlib import Path
from kit.cli import main
from kit.data import preparation

check = preparation._need

def need(*arguments):
    check(*arguments)
    Path({str(filler)!r}).write_bytes(bytes(os.statvfs({str(small)!r}).f_bavail * 4096 - 300_000))

preparation._need = need
main()
"""
        full = subprocess.run([sys.executable, "-c", start, *command[3:]], capture_output=True, text=True, check=False)
        assert full.returncode == 2, full.stderr
        assert "No space left" in full.stderr
        assert len(full.stderr.strip().splitlines()) == 1
        assert not (small / "data" / "mine").exists()
        filler.unlink()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", small], check=False)


# ---- killed at any moment


def prepare_command(tree: Path, data_dir: Path) -> list[str]:
    """`kit data prepare` of a class-folder tree."""
    file = tree.parent / "mine.yaml"
    content = track("mine", source="folders").model_dump(mode="json")
    file.write_text(json.dumps(content))
    places = ["--source", str(tree), "--data-dir", str(data_dir)]
    return [sys.executable, "-m", "kit.cli", "data", "prepare", str(file), *places]


def test_a_preparation_that_is_killed_at_any_moment_goes_on_to_the_same_fingerprint(tmp_path: Path) -> None:
    raw_tree(tmp_path / "tree", 6 * IMAGES_PER_SHARD)
    whole = finish(prepare_command(tmp_path / "tree", tmp_path / "undisturbed"))
    # Moments of progress, not of time: the run is killed when it has left so many files.
    for moment in range(10):
        command = prepare_command(tmp_path / "tree", tmp_path / f"data{moment}")
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while process.poll() is None and files_below(tmp_path / f"data{moment}") < 2 * moment:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = shards_below(tmp_path / f"data{moment}")
        assert finish(command) == whole
        for path, modified in before.items():
            final = tmp_path / f"data{moment}" / "mine" / "public" / path
            assert final.stat().st_mtime_ns == modified, "a finished shard was written again"


def files_below(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def shards_below(folder: Path) -> dict[str, int]:
    """Shards that the journal knows as finished, with their times."""
    return {
        note.name.removesuffix(".json"): (folder / ".mine.partial" / "public" / note.name.removesuffix(".json"))
        .stat()
        .st_mtime_ns
        for note in (folder / ".mine.partial" / ".journal").glob("*.tar.json")
        if not note.name.startswith(".")
    }


def finish(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("fingerprint ")[1].strip()


def test_a_killed_preparation_leaves_no_process_behind(tmp_path: Path) -> None:
    import psutil

    raw_tree(tmp_path / "tree", 2 * IMAGES_PER_SHARD)
    process = subprocess.Popen(prepare_command(tmp_path / "tree", tmp_path / "data"), cwd=ROOT)
    while process.poll() is None and not (tmp_path / "data" / ".mine.partial" / ".journal" / "plan").exists():
        pass
    family: list[psutil.Process] = []
    while process.poll() is None and len(family) < 3:
        family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_other_images_under_the_same_name_begin_anew(
    tmp_path: Path, made: RawFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare(track(), tmp_path / "data")
    fewer = RawFiles(made.train[:7], made.test, made.class_names)
    monkeypatch.setitem(SOURCES, "made", lambda request: fewer)
    assert prepare(track(), tmp_path / "data").spec.train_count == 7
    clean: Callable[[Request], RawFiles] = lambda request: fewer  # noqa: E731
    monkeypatch.setitem(SOURCES, "made", clean)
    assert prepare(track(), tmp_path / "data").fingerprint == prepare(track(), tmp_path / "clean").fingerprint
