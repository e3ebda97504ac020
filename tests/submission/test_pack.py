"""A pack is the same bytes everywhere, gives back what went in, and nothing else is taken for one."""

import hashlib
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz
from hostile_packs import CASES, GOOD, PACK, archive, member, members
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import KitError
from kit.results.source import source_sha256
from kit.submission.files import MAX_FILES
from kit.submission.pack import MAX_PACK_BYTES, decode, encode, pack, read_pack, unpack

GOLDEN = "c3862253060012fd90facb060433b76218bab893ee35f3e148a1396566852835"


def written(folder: Path, files: dict[str, bytes] = GOOD) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# ---- packing


def test_the_bytes_of_a_pack_are_the_same_on_every_machine() -> None:
    assert hashlib.sha256(PACK).hexdigest() == GOLDEN


def test_times_order_modes_and_umask_change_nothing(tmp_path: Path) -> None:
    one, _ = pack(written(tmp_path / "one"), tmp_path / "one.zip")
    before = os.umask(0o077)
    try:
        other = written(tmp_path / "other", dict(reversed(GOOD.items())))
    finally:
        os.umask(before)
    for number, name in enumerate(GOOD):
        os.utime(other / name, (number, 10**9 + number))
        (other / name).chmod(0o700)
    two, _ = pack(other, tmp_path / "two.zip")
    assert one.read_bytes() == two.read_bytes() == PACK


def test_a_pack_gives_back_the_files_and_the_hash_that_records_have(tmp_path: Path) -> None:
    folder = written(tmp_path / "made", {**GOOD, "notes/one.txt": b"1", "notes.txt": b"", "notes/a/LICENSE": b"\xff"})
    path, packed = pack(folder, tmp_path / "made.zip")
    assert read_pack(path) == packed
    out = unpack(packed, tmp_path / "out")
    assert {it.relative_to(out).as_posix(): it.read_bytes() for it in out.rglob("*") if it.is_file()} == packed.files
    assert source_sha256(out) == source_sha256(folder) == packed.source_sha256
    assert packed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}(/[a-z0-9_]{1,5}){0,2}\.(py|yaml|md|txt)", fullmatch=True)
FILES = st.dictionaries(NAMES, st.binary(max_size=200), max_size=8)


@given(files=FILES)
def test_whatever_files_there_are_come_back(files: dict[str, bytes]) -> None:
    chosen = {name.casefold(): name for name in files}.values()
    whole = {name: files[name] for name in chosen if name.casefold() not in map(str.casefold, GOOD)} | GOOD
    assert decode(encode(whole), "made").files == whole


def test_caches_and_hidden_files_stay_out(tmp_path: Path) -> None:
    folder = written(tmp_path / "made", {**GOOD, "__pycache__/submission.pyc": b"x", ".git/config": b"x", ".x": b"x"})
    assert pack(folder, tmp_path / "made.zip")[1].files == GOOD


def test_what_the_check_calls_an_error_is_not_packed(submission: Callable[..., Path], tmp_path: Path) -> None:
    folder = submission("def train(run, state): ...\nimport sklearn\n")
    with pytest.raises(KitError, match=r"not packed: submission\.py: setup is missing, and 1 more; kit check"):
        pack(folder, tmp_path / "made.zip")
    assert not (tmp_path / "made.zip").exists()


def test_another_file_is_not_overwritten_and_an_older_pack_is(tmp_path: Path) -> None:
    folder, target = written(tmp_path / "made"), tmp_path / "made.zip"
    target.write_text("a thesis")
    with pytest.raises(KitError, match="is there already, and is no pack"):
        pack(folder, target)
    assert target.read_text() == "a thesis"
    target.write_bytes(encode({**GOOD, "README.md": b"an older one"}))
    pack(folder, target)
    assert target.read_bytes() == PACK


def test_a_pack_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    folder = written(tmp_path / "made")
    with pytest.raises(KitError, match=r"cannot write .*nowhere"):
        pack(folder, tmp_path / "nowhere" / "made.zip")


# ---- reading


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_pack_is_refused_with_the_reason_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    make, reason = CASES[name]
    path = tmp_path / "made.kit.zip"
    path.write_bytes(make())
    with pytest.raises(KitError) as caught:
        unpack(read_pack(path), tmp_path / "out")
    assert str(caught.value).startswith(f"{path}")
    assert reason in str(caught.value)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == [path]


def test_a_huge_pack_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "huge.zip"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(KitError, match="larger than"):
            read_pack(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_PACK_BYTES


def test_ten_million_members_are_refused_at_once(tmp_path: Path) -> None:
    """As a real archive of as many would begin and end."""
    path = tmp_path / "many.zip"
    with path.open("wb") as file:
        file.write(PACK)
        file.truncate(10_000_000 * 100)
        file.seek(0, os.SEEK_END)
        file.write(PACK[-22:])
    with pytest.raises(KitError, match="larger than"):
        read_pack(path)


def test_the_most_files_that_a_pack_can_have_are_taken() -> None:
    files = {f"notes{number}.txt": b"x" for number in range(MAX_FILES - len(GOOD))} | GOOD
    assert decode(encode(files), "made").files == files


@pytest.mark.parametrize("what", ["nowhere", "folder", "pipe"])
def test_what_is_no_file_is_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KitError, match=what):
        read_pack(tmp_path / what)


def test_a_pack_is_not_unpacked_over_anything(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(KitError, match=r"cannot unpack to .*out"):
        unpack(decode(PACK, "made"), tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KitError, match=r"cannot unpack to .*link"):
        unpack(decode(PACK, "made"), tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


# ---- fuzzing


def taken_or_refused(data: bytes) -> None:
    """Only a pack is taken, and nothing but a KitError comes out."""
    try:
        packed = decode(data, "fuzzed")
    except KitError:
        return
    assert encode(packed.files) == data


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """The good pack with some bytes changed, left out, put in, repeated or moved."""
    data = bytearray(PACK)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)) | st.integers(max(0, len(data) - 300), len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del data[at : at + draw(st.integers(1, 64))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=16))
            case 3:
                data[at : at + 4] = draw(st.sampled_from([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])).to_bytes(4, "little")
            case _:
                start = draw(st.integers(0, len(data)))
                data[at:at] = data[start : start + draw(st.integers(1, 200))]
    return bytes(data)


ODD_NAMES = st.sampled_from(
    ["README.md", "../x.txt", "/x.txt", "a\\b.txt", "x.txt/", "pack.json", "readme.MD", "\u00e9.md"]
)
ODD_MEMBERS = st.builds(
    member,
    st.text(min_size=1, max_size=12) | ODD_NAMES,
    st.binary(max_size=30),
    mode=st.integers(0, 0xFFFF),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]),
)


@st.composite
def built(draw: st.DrawFn) -> bytes:
    """Archives that are whole, of odd members among good ones."""
    parts: list[Any] = draw(st.permutations(members()))[: draw(st.integers(0, 4))]
    parts += draw(st.lists(ODD_MEMBERS, max_size=3))
    return archive(parts, draw(st.binary(max_size=4)))


@pytest.mark.timeout(3600)
def test_whatever_bytes_come_they_are_a_pack_or_refused(fuzz_inputs: int) -> None:
    fuzz(taken_or_refused, st.binary(max_size=200) | mutations() | built(), fuzz_inputs)
