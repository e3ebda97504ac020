"""A submission as one file: the same bytes on every machine, and nothing hidden in them.

A pack is a zip archive of one shape only: members stored, never compressed (compressors differ), in the order of their
names after `pack.json`, which holds the hash of each; all times 1980, all modes 0644, no comments, no extra fields. So
reading is simple: whatever is not byte for byte what packing the same files would give is refused.
"""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from kit.catalog import track_names
from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.source import digest
from kit.submission import manifest
from kit.submission.files import MAX_BYTES, MAX_FILES, missing, name_problems, write_files
from kit.submission.manifest import MANIFEST_FILE, Manifest
from kit.submission.problem import printable
from kit.submission.static import Examined, examine_folder
from kit.track import Model

SUFFIX = ".kit.zip"
CONTENTS = "pack.json"
SCHEMA_VERSION = 1
MAX_CONTENTS_BYTES = 64 << 10
MAX_PACK_BYTES = MAX_BYTES + (256 << 10)
"""The files, and what an archive says of 100 of them."""
TIME = (1980, 1, 1, 0, 0, 0)
MODE = stat.S_IFREG | 0o644
END = struct.Struct("<4s4H2LH")
END_MAGIC = b"PK\x05\x06"
ZIP64_MAGIC = b"PK\x06\x07"
ZIP64_LOCATOR_BYTES = 20
LOCAL_HEADER_BYTES = 30

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PackedFile(Model):
    """What `pack.json` says of one file."""

    path: str
    bytes: int = Field(ge=0)
    sha256: Sha256


class Contents(Model):
    """What `pack.json` says."""

    schema_version: int
    source_sha256: Sha256
    """As in the records of its runs."""
    files: tuple[PackedFile, ...]


@dataclass(frozen=True)
class Pack:
    """A pack that was read and found whole."""

    manifest: Manifest
    files: dict[str, bytes]
    source_sha256: str
    sha256: str
    """Of the pack itself."""


def pack(folder: Path, output: Path | None = None) -> tuple[Path, Pack]:
    """Write a submission's pack.

    Args:
        folder: The submission.
        output: Where to; by default the submission's name with `.kit.zip`, here.

    Raises:
        KitError: The check found an error, or the file cannot be written.
    """
    data = encode(_without_errors(folder).files)
    packed = decode(data, str(folder))
    path = output or Path(f"{packed.manifest.name}{SUFFIX}")
    try:
        if path.exists():
            _refuse_to_replace_another_file(path)
        descriptor, partial = tempfile.mkstemp(prefix=".pack-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as failure:
        raise KitError(f"cannot write {path}: {failure.strerror}") from failure
    return path, packed


def _without_errors(folder: Path) -> Examined:
    examined = examine_folder(folder, track_names())
    errors = [problem for problem in examined.problems if problem.severity == "error"]
    if errors:
        more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise KitError(f"{folder}: not packed: {errors[0].where}: {errors[0].what}{more}; kit check shows what to do")
    return examined


def _refuse_to_replace_another_file(path: Path) -> None:
    try:
        read_pack(path)
    except KitError:
        raise KitError(f"{path}: is there already, and is no pack; remove it or give another place with -o") from None


def encode(files: Mapping[str, bytes]) -> bytes:
    """The pack of these files."""
    contents = Contents(
        schema_version=SCHEMA_VERSION,
        source_sha256=digest(files),
        files=tuple(
            PackedFile(path=name, bytes=len(files[name]), sha256=hashlib.sha256(files[name]).hexdigest())
            for name in sorted(files)
        ),
    )
    first = json.dumps(contents.model_dump(mode="json"), indent=2) + "\n"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in ((CONTENTS, first.encode()), *sorted(files.items())):
            member = zipfile.ZipInfo(name, TIME)
            member.create_system = 3  # Unix, wherever it is written
            member.external_attr = MODE << 16
            archive.writestr(member, content)
    return out.getvalue()


def read_pack(path: Path) -> Pack:
    """Read a pack and check all of it, in bounded memory; nothing is written.

    Raises:
        KitError: It is none, or not whole; the message says why.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise KitError(f"{path}: not a file")
        with path.open("rb") as file:
            data = file.read(MAX_PACK_BYTES + 1)
    except OSError as failure:
        raise KitError(f"{path}: {failure.strerror}") from failure
    return decode(data, str(path))


def decode(data: bytes, where: str) -> Pack:
    """The pack that these bytes are.

    Args:
        data: All of it.
        where: How it is called in errors.

    Raises:
        KitError: They are none; the message says why.
    """
    try:
        files = _files(data)
    except _Refused as refused:
        raise KitError(f"{where}: refused: {printable(str(refused))}") from None
    read = manifest.parse(files[MANIFEST_FILE], f"{where}/{MANIFEST_FILE}")
    return Pack(read, files, digest(files), hashlib.sha256(data).hexdigest())


def unpack(packed: Pack, target: Path) -> Path:
    """Write a pack's files into a new folder.

    Raises:
        KitError: It is there already, or cannot be written; nothing is left then.
    """
    try:
        target.mkdir()
    except OSError as failure:
        raise KitError(f"cannot unpack to {target}: {failure.strerror}") from failure
    try:
        write_files(packed.files, target)
    except OSError as failure:
        shutil.rmtree(target, ignore_errors=True)
        raise KitError(f"cannot unpack to {target}: {failure.strerror}") from failure
    return target


# ---- reading what a stranger wrote


class _Refused(Exception):  # noqa: N818 - becomes the message of an error
    """Why bytes are no pack."""


def _files(data: bytes) -> dict[str, bytes]:
    if len(data) > MAX_PACK_BYTES:
        raise _Refused(f"larger than {MAX_PACK_BYTES:,} bytes, which no pack is")
    _check_end(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members)
            content = {member.orig_filename: archive.read(member) for member in members}
    except (zipfile.BadZipFile, struct.error, zlib.error, ValueError, EOFError, OverflowError) as failure:
        raise _Refused(f"not a whole zip archive: {failure}") from None
    except (NotImplementedError, RuntimeError, OSError) as failure:
        raise _Refused(f"a zip archive of a kind that no pack is: {failure}") from None
    first = content.pop(CONTENTS)
    _check_contents(_contents(first), content)
    if problems := [*name_problems(content), *missing(content)]:
        raise _Refused(f"{problems[0].where}: {problems[0].what}")
    if encode(content) != data:
        raise _Refused("its bytes are not those that packing its files gives (times, modes, order or gaps)")
    return content


def _check_end(data: bytes) -> None:
    """What the end of an archive says, before anything is done by it."""
    if data[-END.size :][: len(END_MAGIC)] != END_MAGIC or len(data) < END.size:
        raise _Refused(
            "data after the archive's end, or a comment" if END_MAGIC in data else "not a zip archive, or cut off"
        )
    _, disk, first_disk, here, count, size, offset, comment = END.unpack(data[-END.size :])
    if (
        0xFFFF in (here, count)
        or 0xFFFFFFFF in (size, offset)
        or data[: -END.size][-ZIP64_LOCATOR_BYTES:].startswith(ZIP64_MAGIC)
    ):
        raise _Refused("zip64, which no pack needs")
    if disk or first_disk or here != count:
        raise _Refused("one of several parts of an archive")
    if count > MAX_FILES + 1:
        raise _Refused(f"{count:,} members; expected at most {MAX_FILES + 1}")
    if comment:
        raise _Refused("a comment, or data after the archive's end")
    if offset + size + END.size != len(data):
        raise _Refused("data before the archive, or between its members and its end")


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """What the archive's directory says, before any member is read."""
    if len(members) > MAX_FILES + 1:
        raise _Refused(f"{len(members):,} members; expected at most {MAX_FILES + 1}")
    seen: dict[str, str] = {}
    for member in members:
        name = member.orig_filename
        if (why := _bad_name(name) or _bad_member(member)) is not None:
            raise _Refused(f"{name[:80]}: {why}")
        same = unicodedata.normalize("NFKC", name).casefold()
        if (other := seen.setdefault(same, name)) != name:
            raise _Refused(f"{name[:80]}: the same name as {other[:80]} on some machines")
    if len(seen) < len(members):
        raise _Refused("two members of one name")
    if members[0].orig_filename != CONTENTS if members else True:
        raise _Refused(f"{CONTENTS} is not its first member")
    if members[0].file_size > MAX_CONTENTS_BYTES:
        raise _Refused(f"{CONTENTS}: larger than {MAX_CONTENTS_BYTES >> 10} KiB")
    if sum(member.file_size for member in members[1:]) > MAX_BYTES:
        raise _Refused(f"more than {MAX_BYTES:,} bytes in all")
    end = 0
    for member in sorted(members, key=lambda it: it.header_offset):
        if member.header_offset < end:
            raise _Refused(f"{member.orig_filename[:80]}: overlaps another member")
        end = member.header_offset + LOCAL_HEADER_BYTES + len(member.orig_filename) + member.file_size


def _bad_name(name: str) -> str | None:
    if name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if "\\" in name:
        return "a backslash in a name"
    if name.endswith("/"):
        return "a folder, where only files are expected"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a path that leads out of the pack or is not plain"
    if not name.isascii():
        return "a name that is not plain ASCII"
    if not name.isprintable():
        return "a control character in a name"
    return None


def _bad_member(member: zipfile.ZipInfo) -> str | None:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "neither a file nor a link"
    if member.flag_bits & 0x2041:  # encrypted, strongly encrypted, names hidden
        return "encrypted"
    if member.compress_type != zipfile.ZIP_STORED:
        return "compressed; members of a pack are stored as they are"
    if member.compress_size != member.file_size:
        return f"its sizes differ: {member.compress_size:,} and {member.file_size:,} bytes"
    return None


def _contents(content: bytes) -> Contents:
    try:
        version = json.loads(content)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Refused(f"{CONTENTS}: says no schema version") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise _Refused(f"{CONTENTS}: schema {version} is newer than this kit's ({SCHEMA_VERSION}); update the kit")
    try:
        return Contents.model_validate_json(content)
    except ValidationError as failure:
        raise _Refused(f"{CONTENTS}: {first_problem(failure)}") from None


def _check_contents(contents: Contents, files: Mapping[str, bytes]) -> None:
    listed = {file.path: file for file in contents.files}
    for name, content in files.items():
        if name not in listed:
            raise _Refused(f"{name}: not listed in {CONTENTS}")
        if len(content) != listed[name].bytes:
            raise _Refused(f"{name}: {len(content):,} bytes, and {CONTENTS} says {listed[name].bytes:,}")
        if hashlib.sha256(content).hexdigest() != listed[name].sha256:
            raise _Refused(f"{name}: its SHA-256 is not the one in {CONTENTS}: it was changed")
    if absent := sorted(set(listed) - set(files)):
        raise _Refused(f"{absent[0][:80]}: listed in {CONTENTS}, and not there")
    if contents.source_sha256 != digest(files):
        raise _Refused(f"{CONTENTS}: the hash of the source is not that of the files")
