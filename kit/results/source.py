"""What a submission's source is known by."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def source_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of a submission's files, caches and hidden files aside."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    seen = [path for path in files if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)]
    return digest({path.as_posix(): (folder / path).read_bytes() for path in seen})


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and contents of files, whatever their order."""
    found = hashlib.sha256()
    for name in sorted(files, key=lambda name: name.split("/")):
        found.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return found.hexdigest()
