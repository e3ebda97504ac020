"""Packs that are none: each with the reason for which it is refused."""

import io
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable

from kit.submission.pack import CONTENTS, MODE, TIME, encode

GOOD = {
    "README.md": b"# made\n",
    "submission.py": b"def setup(run): ...\ndef train(run, state): ...\n",
    "submission.yaml": b"name: made\nauthors: [a test]\ndate: 2026-11-24\nlicense: Apache-2.0\ntracks: [digits]\n",
}
PACK = encode(GOOD)
Member = tuple[zipfile.ZipInfo, bytes]


def members(data: bytes = PACK) -> list[Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(info, archive.read(info)) for info in archive.infolist()]


def member(name: str, content: bytes = b"x", *, mode: int = MODE, method: int = zipfile.ZIP_STORED) -> Member:
    info = zipfile.ZipInfo(name, TIME)
    info.create_system = 3
    info.external_attr = mode << 16
    info.compress_type = method
    return info, content


def archive(parts: Iterable[Member], comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as file:
        warnings.simplefilter("ignore")  # of names that are there twice
        for info, content in parts:
            file.writestr(info, content)
        file.comment = comment
    return out.getvalue()


def changed(name: str, content: bytes) -> bytes:
    """The good pack with other content in one member, and the list of hashes as it was."""
    return archive((info, content if info.filename == name else old) for info, old in members())


def patched(data: bytes, offset: int, layout: str, *values: int) -> bytes:
    packed = struct.pack(layout, *values)
    offset %= len(data)
    return data[:offset] + packed + data[offset + len(packed) :]


def central(data: bytes, index: int) -> int:
    """Where a member stands in the directory."""
    at = struct.unpack("<L", data[-6:-2])[0]
    for _ in range(index):
        at += 46 + sum(struct.unpack("<3H", data[at + 28 : at + 34]))
    return int(at)


def renamed(name: bytes, *, flags: int = 0) -> bytes:
    """The good pack with another name, of the same length, of its last member; flags as given."""
    old = b"submission.yaml"
    assert len(name) == len(old)
    data = PACK.replace(old, name)
    last = central(data, 3)
    data = patched(data, last + 8, "<H", flags)
    local = struct.unpack("<L", data[last + 42 : last + 46])[0]
    return patched(data, local + 6, "<H", flags)


def bomb() -> bytes:
    return archive([*members(), member("notes.txt", bytes(100 << 20), method=zipfile.ZIP_DEFLATED)])


def lying_bomb() -> bytes:
    """A gigabyte that says it is a few bytes."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = squeezed.compress(bytes(1 << 20)) + squeezed.flush()
    data = archive([*members(), member("notes.txt", content)])
    data = patched(data, central(data, 4) + 10, "<H", zipfile.ZIP_DEFLATED)
    return patched(data, central(data, 4) + 24, "<L", 10)


def overlapping() -> bytes:
    """Two members that are the same bytes of the file."""
    data = archive([*members(), member("notes.txt"), member("other.txt")])
    return patched(data, central(data, 5) + 42, "<L", struct.unpack("<L", data[-6:-2])[0] - 40 - 1)


def encrypted() -> bytes:
    return patched(PACK, central(PACK, 2) + 8, "<H", 1)


def zip64() -> bytes:
    end = PACK[-22:]
    start = struct.unpack("<L", end[16:20])[0]
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, len(PACK) - 22 - start, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(PACK) - 22, 1)
    return PACK[:-22] + record + locator + end


def many(count: int) -> bytes:
    return archive([*members(), *(member(f"notes{number}.txt") for number in range(count))])


CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "not a zip archive"),
    "text": (lambda: b"just text, and a good deal of it", "not a zip archive"),
    "a tar": (lambda: b"submission.py".ljust(100, b"\0") + bytes(10_140), "not a zip archive"),
    "cut off": (lambda: PACK[:-30], "not a zip archive, or cut off"),
    "an empty archive": (lambda: archive([]), "pack.json is not its first member"),
    "an ordinary archive": (
        lambda: archive(member(name, content) for name, content in GOOD.items()),
        "pack.json is not its first member",
    ),
    "data before": (lambda: b"#!/bin/sh\n" + PACK, "data before the archive"),
    "data after": (lambda: PACK + b"more", "data after the archive's end"),
    "a comment": (lambda: archive(members(), b"hello"), "a comment"),
    "a gap": (lambda: PACK.replace(b"PK\x01\x02", b"\0\0PK\x01\x02", 1), "between its members and its end"),
    "path traversal": (lambda: archive([*members(), member("../notes.txt")]), "leads out of the pack"),
    "path traversal inside": (lambda: archive([*members(), member("a/../../notes.txt")]), "leads out of the pack"),
    "a path with empty parts": (lambda: archive([*members(), member("a//notes.txt")]), "leads out of the pack"),
    "an absolute path": (lambda: archive([*members(), member("/etc/notes.txt")]), "an absolute path"),
    "a drive": (lambda: archive([*members(), member("C:notes.txt")]), "an absolute path"),
    "a backslash": (lambda: renamed(b"submission\\yaml"), "a backslash"),
    "a link": (
        lambda: archive([*members(), member("notes.txt", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)]),
        "notes.txt: a link",
    ),
    "a device": (lambda: archive([*members(), member("notes.txt", b"", mode=stat.S_IFBLK | 0o666)]), "neither a file"),
    "a pipe": (lambda: archive([*members(), member("notes.txt", b"", mode=stat.S_IFIFO | 0o666)]), "neither a file"),
    "a folder": (lambda: archive([*members(), member("notes/", b"", mode=0)]), "a folder"),
    "encryption": (encrypted, "encrypted"),
    "compression": (
        lambda: archive((*members(), member("notes.txt", b"x" * 99, method=zipfile.ZIP_DEFLATED))),
        "compressed",
    ),
    "a bomb": (bomb, "compressed"),
    "a bomb that lies": (lying_bomb, "compressed"),
    "overlapping members": (overlapping, "overlaps another member"),
    "one name twice": (lambda: archive([*members(), member("README.md")]), "two members of one name"),
    "names that differ in case": (lambda: archive([*members(), member("readme.md")]), "the same name as README.md"),
    "names of other letters": (lambda: archive([*members(), member("n\u00f6tes.txt")]), "not plain ASCII"),
    "names that look the same": (lambda: archive([*members(), member("\uff32EADME.md")]), "not plain ASCII"),
    "a name that is no UTF-8": (lambda: renamed(b"submission.ya\xff\xff", flags=0x800), "not a whole zip archive"),
    "a name with a NUL": (lambda: renamed(b"submission\0yaml"), "a control character"),
    "a name with an escape": (lambda: archive([*members(), member("\x1b[2Jnotes.txt")]), "a control character"),
    "a hidden file": (lambda: encode({**GOOD, ".notes.txt": b"x"}), "does not mean the same on every machine"),
    "a file of another kind": (lambda: encode({**GOOD, "weights.pt": b"x"}), "not a kind of file"),
    "bytecode": (lambda: encode({**GOOD, "submission.pyc": b"x"}), "not a kind of file"),
    "too many members": (lambda: many(101), "105 members"),
    "a directory that lies about many": (lambda: patched(PACK, -14, "<2H", 60_000, 60_000), "60,000 members"),
    "ten million members": (lambda: patched(PACK, -14, "<2H", 0xFFFF, 0xFFFF), "zip64"),
    "zip64": (zip64, "zip64"),
    "a part of an archive": (lambda: patched(PACK, -18, "<H", 1), "one of several parts"),
    "too large": (lambda: PACK + bytes(2 << 20), "larger than"),
    "too much in it": (lambda: encode({**GOOD, "notes.txt": bytes((1 << 20) + 1)}), "more than 1,048,576 bytes in all"),
    "a list that is too long": (lambda: changed(CONTENTS, b" " * (65 << 10)), "pack.json: larger than"),
    "sizes that differ": (lambda: patched(PACK, central(PACK, 1) + 24, "<L", 3), "its sizes differ"),
    "a wrong checksum": (lambda: patched(PACK, central(PACK, 1) + 16, "<L", 7), "not a whole zip archive"),
    "a changed file": (lambda: changed("README.md", b"# Made\n"), "README.md: its SHA-256"),
    "a longer file": (lambda: changed("README.md", b"# made by\n"), "10 bytes, and pack.json says 7"),
    "a file not in the list": (lambda: archive([*members(), member("notes.txt")]), "notes.txt: not listed"),
    "a file that is not there": (
        lambda: archive(members()[:-1]),
        "submission.yaml: listed in pack.json, and not there",
    ),
    "no manifest": (lambda: encode({"submission.py": b""}), "submission.yaml: is missing"),
    "no source": (lambda: encode({"submission.yaml": GOOD["submission.yaml"]}), "submission.py: is missing"),
    "a list that is no JSON": (lambda: changed(CONTENTS, b"{"), "says no schema version"),
    "a list that is deep": (lambda: changed(CONTENTS, b"[" * 60_000), "says no schema version"),
    "a list of a newer kit": (lambda: changed(CONTENTS, b'{"schema_version": 2}'), "newer than this kit's"),
    "a list without files": (lambda: changed(CONTENTS, b'{"schema_version": 1}'), "Field required"),
    "a wrong hash of the source": (
        lambda: changed(CONTENTS, members()[0][1].replace(b'"source_sha256": "', b'"source_sha256": "0')[:-1]),
        "pack.json: ",
    ),
    "other times": (lambda: patched(PACK, central(PACK, 2) + 12, "<H", 99), "its bytes are not those"),
    "another order": (lambda: archive([members()[0], *reversed(members()[1:])]), "its bytes are not those"),
    "a list in other words": (
        lambda: changed(CONTENTS, members()[0][1].replace(b"\n", b" ")),
        "its bytes are not those",
    ),
    "a manifest that is wrong": (
        lambda: encode({**GOOD, "submission.yaml": b"name: made\nlicence: x\n"}),
        "submission.yaml:2: licence",
    ),
}
