"""The organizer's secret, and the seeds that come of it."""

import hashlib
import hmac
import secrets
from pathlib import Path

from kit.errors import KitError
from kit.results.signing import read_secret, write_secret
from kit.track import Track

SECRET_BYTES = 32


def read_or_make_secret(path: Path, results_dir: Path) -> bytes:
    """The secret in a file, made on first use so that only its owner can read it.

    Raises:
        KitError: It would lie among the results, which are published, others can read it, or it is no secret.
    """
    if path.resolve().is_relative_to(results_dir.resolve()):
        raise KitError(f"{path}: the secret would lie in the results, which are to be published; give another --secret")
    if not path.exists():
        write_secret(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n", "a secret")
    return read_secret_file(path)


def read_secret_file(path: Path) -> bytes:
    """The secret in a file.

    Raises:
        KitError: There is none, others can read it, or it is no secret.
    """
    text = read_secret(path, "there is no secret here")
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise KitError(f"{path}: expected {2 * SECRET_BYTES} hexadecimal digits, as kit score writes them")
    return secret


def seeds(secret: bytes, track: Track, count: int) -> tuple[int, ...]:
    """The seeds of a track's scoring, below 2^32: nobody can know them without the secret, or choose them with it."""
    return tuple(_seed(secret, f"{track.name}/{track.version}/{index}") for index in range(count))


def _seed(secret: bytes, text: str) -> int:
    return int.from_bytes(hmac.new(secret, text.encode(), hashlib.sha256).digest()[:4], "big")
