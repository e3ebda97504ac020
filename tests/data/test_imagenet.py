"""ImageNet from a tree and from its tar files is one list of images; whatever is wrong is named in one line."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.data.sources import ImageEntry, RawFiles
from kit.data.sources.imagenet import CLASSES, SYNSETS, TRAIN_TAR, VAL_TAR, find, find_folders
from kit.errors import KitError

SYNSET_NAMES = ("n01440764", "n01443537", "n02084071")
TRAIN = {
    f"{synset}/{synset}_{number}.JPEG": f"{synset} {number}".encode() for synset in SYNSET_NAMES for number in range(4)
}
VAL_SYNSETS = [SYNSET_NAMES[number % 3] for number in (1, 2, 0, 0, 1, 2)]
VAL = {f"ILSVRC2012_val_{number + 1:08d}.JPEG": f"val {number}".encode() for number in range(6)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small ImageNet in class folders."""
    folder = tmp_path / "tree"
    for name, content in TRAIN.items():
        (folder / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "train" / name).write_bytes(content)
    for (name, content), synset in zip(VAL.items(), VAL_SYNSETS, strict=True):
        (folder / "val" / synset).mkdir(parents=True, exist_ok=True)
        (folder / "val" / synset / name).write_bytes(content)
    return folder


def packed(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def class_tars() -> dict[str, bytes]:
    return {
        f"{synset}.tar": packed({name.split("/")[1]: data for name, data in TRAIN.items() if name.startswith(synset)})
        for synset in SYNSET_NAMES
    }


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """The same as published."""
    folder = tmp_path / "tars"
    folder.mkdir()
    (folder / TRAIN_TAR).write_bytes(packed(dict(class_tars())))
    (folder / VAL_TAR).write_bytes(packed(dict(VAL)))
    (folder / SYNSETS[0]).write_text("".join(f"{synset}\n" for synset in VAL_SYNSETS))
    return folder


def content(entry: ImageEntry) -> bytes:
    with open(entry.container, "rb") as file:
        return os.pread(file.fileno(), entry.size, entry.offset)


def rehearse(path: Path) -> RawFiles:
    return find(path, rehearsal=True)


def assert_named(path: Path, *expected: object, search: Callable[[Path], RawFiles] = rehearse) -> None:
    """The error is one printable line with all of this in it."""
    with pytest.raises(KitError) as caught:
        search(path)
    message = str(caught.value)
    assert message.isprintable()
    for part in expected:
        assert str(part) in message


# ---- one list of images


def test_tree_and_tars_give_the_same_names_classes_and_bytes(tree: Path, tars: Path) -> None:
    from_tree, from_tars = rehearse(tree), rehearse(tars)
    assert from_tree.class_names == from_tars.class_names == SYNSET_NAMES
    for split in ("train", "test"):
        one, other = (
            [(entry.name, entry.label, content(entry)) for entry in getattr(raw, split)]
            for raw in (from_tree, from_tars)
        )
        assert one == other
    assert {entry.name: content(entry) for entry in from_tars.train} == TRAIN
    assert [
        SYNSET_NAMES[entry.label] for entry in sorted(from_tars.test, key=lambda e: e.name.split("/")[1])
    ] == VAL_SYNSETS


def test_classes_are_numbered_in_the_order_of_their_names(tree: Path) -> None:
    for entry in rehearse(tree).train:
        assert SYNSET_NAMES[entry.label] == entry.name.split("/")[0]
    assert [entry.name for entry in rehearse(tree).train] == sorted(TRAIN)


def test_a_folder_test_does_as_well_as_val(tree: Path) -> None:
    expected = rehearse(tree)
    (tree / "val").rename(tree / "test")
    assert [entry.name for entry in rehearse(tree).test] == [entry.name for entry in expected.test]


def test_the_other_name_of_the_synset_list_is_known(tars: Path) -> None:
    (tars / SYNSETS[0]).rename(tars / SYNSETS[1])
    assert len(rehearse(tars).test) == 6


def test_only_published_counts_are_imagenet(tree: Path, tars: Path) -> None:
    def official(path: Path) -> RawFiles:
        return find(path, rehearsal=False)

    assert_named(
        tree, tree, f"{CLASSES:,} classes", "1,281,167", "50,000", "found 3, 12 and 6", "--rehearsal", search=official
    )
    assert_named(tars, tars / VAL_TAR, "MD5", "--rehearsal", search=official)
    assert len(find_folders(tree).train) == 12


def test_without_a_folder_the_error_says_what_must_lie_in_it() -> None:
    for search in (lambda path: find(None, rehearsal=False), lambda path: find_folders(None)):
        assert_named(Path(), "--source", "train/<class>/", search=search)


# ---- odd names


@pytest.mark.parametrize("name", ["with space", "größe", "two\nlines", "undecodable-\udcff", "-rf", "a'b\"c", "CON"])
def test_odd_names_of_classes_and_files_are_taken(tree: Path, name: str) -> None:
    for split in ("train", "val"):
        (tree / split / SYNSET_NAMES[2]).rename(tree / split / name)
    (tree / "train" / name / f"{name}.PNG").write_bytes(b"x")
    raw = rehearse(tree)
    assert name in raw.class_names
    assert f"{name}/{name}.PNG" in [entry.name for entry in raw.train]
    (tree / "train" / name / "empty.jpg").touch()
    assert_named(tree, "empty.jpg", "the file is empty")


def test_classes_that_differ_in_case_alone_are_two(tree: Path) -> None:
    for split in ("train", "val"):
        (tree / split / SYNSET_NAMES[0].upper()).mkdir()
        (tree / split / SYNSET_NAMES[0].upper() / "a.jpg").write_bytes(b"x")
    assert len(rehearse(tree).class_names) == 4


def test_hidden_files_and_files_that_are_no_images_are_left_out(tree: Path) -> None:
    folder = tree / "train" / SYNSET_NAMES[0]
    for name in (".DS_Store", "._x.jpg", "README.txt", "x.jpg.part", "thumbs.db"):
        (folder / name).write_bytes(b"x")
    (tree / "train" / ".cache").mkdir()
    assert len(rehearse(tree).train) == 12


def test_links_that_lead_to_images_are_followed(tree: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tree / "train").rename(elsewhere)
    (tree / "train").symlink_to(elsewhere)
    image = tree / "train" / sorted(TRAIN)[0]
    image.rename(tmp_path / "image")
    image.symlink_to(tmp_path / "image")
    assert {entry.name: content(entry) for entry in rehearse(tree).train} == TRAIN


# ---- broken trees


def test_a_folder_that_is_not_there_or_no_folder_is_named(tmp_path: Path, tree: Path) -> None:
    assert_named(tmp_path / "nowhere", tmp_path / "nowhere", "train/<class>/")
    assert_named(tree / "train" / sorted(TRAIN)[0], "Not a directory")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_is_named(tree: Path, split: str) -> None:
    (tree / split).rename(tree / "other")
    assert_named(tree, tree / split, "not there")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_is_a_file_is_named(tree: Path, tmp_path: Path, split: str) -> None:
    (tree / split).rename(tmp_path / "aside")
    (tree / split).write_bytes(b"x")
    assert_named(tree, tree / split, "Not a directory")


@pytest.mark.parametrize(("split", "other"), [("train", "val"), ("val", "train")])
def test_a_class_of_one_split_alone_is_named(tree: Path, split: str, other: str) -> None:
    (tree / split / "n99999999").mkdir()
    (tree / split / "n99999999" / "a.jpg").write_bytes(b"x")
    assert_named(tree, tree / other / "n99999999", "same classes")


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_folder_is_named(tree: Path, split: str) -> None:
    for path in (tree / split / SYNSET_NAMES[1]).iterdir():
        path.rename(path.with_suffix(".txt"))
    assert_named(tree, tree / split / SYNSET_NAMES[1], "expected images")


def test_a_file_among_class_folders_is_named(tree: Path) -> None:
    (tree / "train" / "labels.csv").write_bytes(b"x")
    assert_named(tree, tree / "train" / "labels.csv")


def test_one_class_alone_is_no_data_set(tree: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in SYNSET_NAMES[1:]:
            (tree / split / name).rename(tmp_path / f"{split}-{name}")
    assert_named(tree, tree / "train", "at least two class folders")


def test_an_image_without_bytes_is_named(tree: Path) -> None:
    path = tree / "val" / VAL_SYNSETS[3] / sorted(VAL)[3]
    path.write_bytes(b"")
    assert_named(tree, path, "the file is empty")


@pytest.mark.parametrize("kind", ["loop", "broken link"])
def test_a_link_that_leads_nowhere_is_named(tree: Path, kind: str) -> None:
    path = tree / "train" / SYNSET_NAMES[0] / "link.jpg"
    path.symlink_to(path if kind == "loop" else "nowhere.jpg")
    assert_named(tree, path, "symbolic links" if kind == "loop" else "No such file")


def test_a_class_folder_that_links_to_itself_is_named(tree: Path) -> None:
    path = tree / "train" / "n00000000"
    path.symlink_to(path)
    assert_named(tree, path)


def test_a_folder_named_as_an_image_is_named(tree: Path) -> None:
    path = tree / "train" / SYNSET_NAMES[0] / "folder.jpg"
    path.mkdir()
    assert_named(tree, path, "not a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_without_permission_is_named(tree: Path) -> None:
    folder = tree / "train" / SYNSET_NAMES[0]
    folder.chmod(0)
    assert_named(tree, folder, "Permission denied")
    folder.chmod(0o755)


# ---- broken tars


@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR, SYNSETS[0]])
def test_a_missing_file_is_named_with_where_to_get_it(tars: Path, name: str) -> None:
    (tars / name).unlink()
    assert_named(tars, tars / name)


@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR])
def test_a_tar_cut_off_anywhere_is_named(tars: Path, name: str) -> None:
    whole = (tars / name).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for kept in [0, 1, 100, 511, 512, 513, 1024, 1536, 2048, 5000, end - 1, end]:
        (tars / name).write_bytes(whole[: min(kept, end)])
        assert_named(tars, tars / name, "image-net.org")


@pytest.mark.parametrize("name", [TRAIN_TAR, VAL_TAR])
def test_a_damaged_header_is_named(tars: Path, name: str) -> None:
    whole = bytearray((tars / name).read_bytes())
    second = whole.index(b"0" * 8, 600) // 512 * 512 if name == VAL_TAR else whole.index(b"n01443537.tar")
    for place in (0, second):
        broken = bytearray(whole)
        broken[place : place + 512] = b"\xaa" * 512
        (tars / name).write_bytes(broken)
        assert_named(tars, tars / name)


def test_a_class_tar_that_is_none_is_named(tars: Path) -> None:
    for replaced in (b"hello" * 300, b"", packed({})):
        (tars / TRAIN_TAR).write_bytes(packed({**class_tars(), "n01443537.tar": replaced}))
        assert_named(tars, TRAIN_TAR, "n01443537.tar")


def test_a_class_tar_cut_off_inside_the_outer_one_is_named(tars: Path) -> None:
    inner = class_tars()["n01443537.tar"]
    (tars / TRAIN_TAR).write_bytes(packed({**class_tars(), "n01443537.tar": inner[: 512 * 3]}))
    assert_named(tars, "n01443537.tar")


def test_images_beside_class_tars_are_named(tars: Path) -> None:
    (tars / TRAIN_TAR).write_bytes(packed({**class_tars(), "stray.JPEG": b"x"}))
    assert_named(tars, TRAIN_TAR, "stray.JPEG")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_named(tars: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("ILSVRC2012_val_00000007.JPEG")
    member.type, member.linkname = kind, "/etc/passwd"
    (tars / VAL_TAR).write_bytes(packed({**VAL, member.name: member}))
    assert_named(tars, VAL_TAR, "ILSVRC2012_val_00000007.JPEG")


def test_paths_that_lead_out_of_a_tar_mean_nothing(tars: Path, tmp_path: Path) -> None:
    names = [f"{prefix}{name}" for prefix, name in zip(["../../", "/", "a/../../", "./", "", ""], VAL, strict=True)]
    (tars / VAL_TAR).write_bytes(packed(dict(zip(names, VAL.values(), strict=True))))
    before = sorted(tmp_path.rglob("*"))
    raw = rehearse(tars)
    assert sorted(entry.name.split("/")[1] for entry in raw.test) == sorted(VAL)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_there_twice_is_refused(tars: Path) -> None:
    (tars / VAL_TAR).write_bytes(packed({**VAL, f"./{sorted(VAL)[0]}": b"other"}))
    assert_named(tars, VAL_TAR, sorted(VAL)[0], "twice")


@pytest.mark.parametrize(
    ("synsets", "expected"),
    [
        (VAL_SYNSETS[:-1], "6 images, and 5 lines"),
        ([*VAL_SYNSETS, "n01440764"], "6 images, and 7 lines"),
        ([*VAL_SYNSETS[:-1], "n00000000"], "n00000000"),
        (["n01440764"] * 6, "n01443537"),
    ],
)
def test_a_synset_list_that_does_not_fit_is_refused(tars: Path, synsets: list[str], expected: str) -> None:
    (tars / SYNSETS[0]).write_text("\n".join(synsets))
    assert_named(tars, expected)


def test_a_synset_list_that_is_no_text_is_named(tars: Path) -> None:
    (tars / SYNSETS[0]).write_bytes(b"\xff\xfe\x00")
    assert_named(tars, tars / SYNSETS[0])
