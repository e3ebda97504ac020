"""Names of pages, from names that strangers chose."""

import hashlib
import re

PLAIN = re.compile(r"[a-z0-9][a-z0-9_]{0,47}")
MAX_READABLE = 40
HASH_DIGITS = 32
"""So many that nobody finds two identities of one name: an entry could take another's page."""


def slug(name: str) -> str:
    """A file name's stem that is `name` itself where that is a track's or submission's proper name.

    Two names have two slugs, also where a file system does not tell capital letters apart.
    """
    return name if PLAIN.fullmatch(name) else slug_with(name, name)


def slug_with(name: str, identity: str) -> str:
    """What can be read of a name, and a hash of what it stands for."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()[: 4 * MAX_READABLE]).strip("-")[:MAX_READABLE].strip("-")
    mark = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{readable}-{mark}" if readable else mark
