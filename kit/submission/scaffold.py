"""`kit new`: a submission that runs as it is, from a template or from another submission."""

import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from kit.catalog import shipped
from kit.errors import KitError
from kit.submission import manifest
from kit.submission.files import collect, write_files
from kit.submission.manifest import MANIFEST_FILE
from kit.submission.plain_yaml import read_yaml
from kit.submission.static import PLACEHOLDER
from kit.track import Name

ROOT = Path("submissions")


def new(name: str, base: str | None, today: date) -> Path:
    """Write a new submission below `submissions/`, here.

    Args:
        name: Of the submission and its folder.
        base: What to copy: a folder, or a baseline that ships with the kit; None takes the template.
        today: What its manifest gives as date.

    Raises:
        KitError: The name is none, or taken; there is no such base; it cannot be written, and then nothing is left.
    """
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise KitError(
            f"'{name}' is no name of a submission: expected up to 64 lower case letters, digits and _"
        ) from None
    source, called = (shipped("submissions") / "template", "") if base is None else _folder(base)
    read = manifest.load(source)
    files = _renamed(dict(collect(source)[0]), read.name, name)
    changes = {"name": name, "authors": f"[{_quoted(_author())}]", "date": today.isoformat()}
    if base is not None:
        changes |= {"base": _quoted(called), "changes": '""'}
    files[MANIFEST_FILE] = _edited(files[MANIFEST_FILE], changes)
    manifest.parse(files[MANIFEST_FILE], f"{source / MANIFEST_FILE}, edited")
    return _write(files, ROOT / name)


def _folder(base: str) -> tuple[Path, str]:
    """A folder here or a baseline that ships with the kit, and how it is called."""
    baselines = shipped("baselines")
    named = base if base.startswith(f"{baselines.name}/") else f"{baselines.name}/{base}"
    for place, called in ((Path(base), base.rstrip("/")), (baselines.parent / named, named)):
        if (place / MANIFEST_FILE).is_file():
            return place, called
    known = ", ".join(manifest.find([baselines]))
    raise KitError(f"there is no submission '{base}' to begin from; expected a submission's folder, or one of {known}")


def _renamed(files: dict[str, bytes], old: str, name: str) -> dict[str, bytes]:
    """The README's heading speaks of the new one."""
    readme = files.get("README.md")
    if readme is not None:
        heading = re.compile(rf"\A# {re.escape(old)}$".encode(), re.MULTILINE)
        files["README.md"] = heading.sub(f"# {name}".encode(), readme)
    return files


def _author() -> str:
    """Who git says this is, or a placeholder that the check asks about."""
    try:
        said = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    except (OSError, UnicodeDecodeError):
        return PLACEHOLDER
    return said.stdout.strip() if said.returncode == 0 and said.stdout.strip() else PLACEHOLDER


def _quoted(text: str) -> str:
    """As YAML in one line: plain where that reads back as the same text, and a flow sequence may hold it."""
    plain = re.fullmatch(r"[A-Za-z][\w./ -]*", text, re.ASCII) and yaml.safe_load(text) == text
    return text if plain else yaml.safe_dump(text, default_style='"', width=10_000, allow_unicode=True).strip()


def _edited(content: bytes, changes: dict[str, str]) -> bytes:
    """Set keys of the manifest and leave the rest as it is written, comments too."""
    text = content.decode("utf-8")
    for key, value in changes.items():
        root = read_yaml(text.encode())[1]
        assert isinstance(root, yaml.MappingNode)  # it was read as a manifest
        found = {name.value: (name, node) for name, node in root.value}
        if key in found:
            name, node = found[key]
            same_line = node.start_mark.line == name.start_mark.line
            start, new = (node.start_mark.index, value) if same_line else (name.end_mark.index, f": {value}")
            text = f"{text[:start]}{new}{text[_end(node) :]}"
        else:
            after = _end(found["license"][1])
            line_end = text.find("\n", after) if "\n" in text[after:] else len(text)
            text = f"{text[:line_end]}\n{key}: {value}{text[line_end:]}"
    return text.encode()


def _end(node: yaml.Node) -> int:
    """Where a value ends: that of a block would be where the next key begins."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    end: int = node.end_mark.index
    return end


def _write(files: dict[str, bytes], folder: Path) -> Path:
    try:
        folder.parent.mkdir(exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise KitError(f"{folder}: is there already; choose another name, or remove it") from None
    except OSError as failure:
        raise KitError(f"cannot write {folder}: {failure.strerror}") from failure
    try:
        write_files(files, folder)
    except OSError as failure:
        shutil.rmtree(folder, ignore_errors=True)
        raise KitError(f"cannot write {folder}: {failure.strerror}") from failure
    return folder
