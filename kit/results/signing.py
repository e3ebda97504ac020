"""Signatures of records: a file beside the record that vouches for every byte of the run's folder.

RESULTS/<id>/record.sig.json    an ed25519 public key, the SHA-256 of every file, and the key's signature over these

What is added later and vouches for itself (`audit.json`) is left out, and so are hidden files.
"""

import base64
import binascii
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from kit.errors import KitError
from kit.protocol import first_problem
from kit.results.audit import AUDIT_FILE
from kit.results.record import Sha256
from kit.results.store import RECORD_FILE, read_plain, write_json
from kit.track import Model

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_FILE = "record.sig.json"
NOT_SIGNED = {SIGNATURE_FILE, AUDIT_FILE, "audit.log"}
KEY_PREFIX = "ed25519:"
SIGNED_AS = b"kit record signature 1\n"
"""Begins what is signed, so that a signature of something else is none of a record."""
MAX_SIGNATURE_BYTES = 16 << 20
MAX_KEY_BYTES = 16 << 10
SMALL_BYTES = 1 << 16
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))

PublicKey = Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]
"""The 32 bytes of the key in base64."""


class Signature(Model):
    """What `record.sig.json` says."""

    schema_version: Literal[1] = 1
    public_key: PublicKey
    files: dict[str, Sha256]
    """By path below the run's folder."""
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class Verification(Model):
    """Whether a run's folder is as somebody signed it."""

    state: Literal["valid", "missing", "invalid"]
    because: str | None = None
    """What is wrong with an invalid one."""
    public_key: str | None = None

    @property
    def fingerprint(self) -> str | None:
        """The key in sixteen digits, to compare by eye."""
        return None if self.public_key is None else fingerprint(self.public_key)


def fingerprint(public_key: str) -> str:
    """The first half of the SHA-256 of a public key."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:16]


# ---- keys


def new_key(path: Path) -> str:
    """Make a private key that only its owner can read (PKCS8, PEM), and return the public one.

    Raises:
        KitError: There is a file already, or none can be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    write_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "a key")
    return public_key(key)


def load_key(path: Path) -> "Ed25519PrivateKey":
    """Read a private key.

    Raises:
        KitError: It is not there, not an ed25519 key, or others can read it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_secret(path, f"there is no key here; kit key new {path} makes one")
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KitError(f"{path}: not an unencrypted private key in PEM; kit key new FILE makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KitError(f"{path}: a private key, but not of ed25519; kit key new FILE makes one")
    return key


def public_key(key: "Ed25519PrivateKey") -> str:
    """The public half, as text."""
    return KEY_PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def read_keys(path: Path) -> dict[str, str]:
    """Whose keys a reader trusts: a YAML file of `name: public key`, as `kit key show` prints it.

    Returns:
        Names by public key.

    Raises:
        KitError: It cannot be read, or a key is none.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        keys = TypeAdapter(dict[str, PublicKey]).validate_python(content)
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        raise KitError(
            f"{path}: expected lines as 'name: {KEY_PREFIX}...', as kit key show prints keys: {first_problem(error)}"
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise KitError(f"{path}: {' '.join(str(error).split())}") from error
    return {public: name for name, public in keys.items()}


def write_secret(path: Path, content: bytes, what: str) -> None:
    """Write a file that only its owner can read, whole or not at all, and never over another.

    Raises:
        KitError: There is a file already, or it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KitError(f"{path}: cannot write {what}: {error.strerror}") from error
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(partial, path)  # unlike a rename, fails where there is one
        finally:
            os.unlink(partial)
    except FileExistsError:
        raise KitError(f"{path}: there is a file here already, and {what} is never written over") from None
    except OSError as error:
        raise KitError(f"{path}: cannot write {what}: {error.strerror}") from error


def read_secret(path: Path, if_absent: str) -> bytes:
    """Read a file that only its owner may read.

    Raises:
        KitError: It is not there, too large for a secret, or others can read it.
    """
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_KEY_BYTES:
                raise KitError(f"{path}: not a plain file of at most {MAX_KEY_BYTES >> 10} KiB")
            if facts.st_mode & 0o077:
                raise KitError(f"{path}: others can read it (mode {stat.S_IMODE(facts.st_mode):o}); chmod 600 {path}")
            return file.read()
    except FileNotFoundError:
        raise KitError(f"{path}: {if_absent}") from None
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}") from error


# ---- signatures


def sign(run_dir: Path, key: "Ed25519PrivateKey") -> Path:
    """Vouch for a run's folder as it is now.

    Raises:
        KitError: A file cannot be read, or its name is not text.
    """
    files = _hashes(run_dir)
    signature = Signature(
        public_key=public_key(key), files=files, signature=base64.b64encode(key.sign(_message(files))).decode()
    )
    return write_json(signature, run_dir / SIGNATURE_FILE)


def verify(run_dir: Path, record: bytes | None = None) -> Verification:
    """See whether a run's folder is as it was signed. Never raises for what is in the folder.

    Args:
        run_dir: The folder.
        record: What was read from its record file, to vouch for just that.
    """
    path = run_dir / SIGNATURE_FILE
    try:
        signature = Signature.model_validate_json(read_plain(path, MAX_SIGNATURE_BYTES))
    except FileNotFoundError:
        return Verification(state="missing")
    except ValidationError as error:
        return Verification(state="invalid", because=f"{SIGNATURE_FILE} is no signature: {first_problem(error)}")
    except KitError as error:
        return Verification(state="invalid", because=str(error).replace(str(path), SIGNATURE_FILE))
    because = _objection(signature, run_dir, record)
    return Verification(
        state="valid" if because is None else "invalid", because=because, public_key=signature.public_key
    )


def _objection(signature: Signature, run_dir: Path, record: bytes | None) -> str | None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = base64.b64decode(signature.public_key.removeprefix(KEY_PREFIX), validate=True)
        signed = base64.b64decode(signature.signature, validate=True)
        Ed25519PublicKey.from_public_bytes(raw).verify(signed, _message(signature.files))
    except (InvalidSignature, ValueError, binascii.Error):
        return f"{SIGNATURE_FILE} itself was changed"
    if RECORD_FILE not in signature.files:
        return f"it does not vouch for {RECORD_FILE}"
    try:
        found = _hashes(run_dir, record)
    except KitError as error:
        return str(error)
    # The record first: it is what is ranked.
    for name in sorted(signature.files.keys() | found.keys(), key=lambda name: (name != RECORD_FILE, name)):
        if name not in found:
            return f"{name} is gone"
        if name not in signature.files:
            return f"{name} was added"
        if found[name] != signature.files[name]:
            return f"{name} was changed"
    return None


def _message(files: dict[str, str]) -> bytes:
    return SIGNED_AS + _ENCODER.encode(files).encode()


def _hashes(run_dir: Path, record: bytes | None = None) -> dict[str, str]:
    """SHA-256 of every file that is signed; of the record as it was read, if it was."""
    return {
        name: hashlib.sha256(record).hexdigest()
        if name == RECORD_FILE and record is not None
        else _sha256(run_dir, name)
        for name in sorted(_signed_files(run_dir))
    }


def _signed_files(run_dir: Path) -> Iterator[str]:
    """By path below the run's folder; links and the like as well, which have no hash."""
    root = str(run_dir)
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(f"{root}/{folder}") as entries:
                for entry in entries:
                    name = folder + entry.name
                    if entry.name.startswith(".") or name in NOT_SIGNED:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/")
                    else:
                        yield name
        except OSError as error:
            raise KitError(f"{folder or run_dir}: {error.strerror}") from error


def _sha256(run_dir: Path, name: str) -> str:
    try:
        name.encode()
        descriptor = os.open(f"{run_dir}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise KitError(f"{name} is not a plain file")
            if facts.st_size <= SMALL_BYTES:  # a file object and its buffer would cost more than the hash
                return hashlib.sha256(os.read(descriptor, facts.st_size + 1)).hexdigest()
            with open(descriptor, "rb", closefd=False) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        finally:
            os.close(descriptor)
    except UnicodeEncodeError:
        raise KitError(f"{name!a} is not a name in UTF-8") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            raise KitError(f"{name} is not a plain file") from None
        raise KitError(f"{name}: {error.strerror}") from error
