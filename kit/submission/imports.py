"""What a submission imports: what is there for it, what needs a look, and what is refused.

This is no defence: Python can reach a module in ways that no reading of the source finds. The sandbox is the defence;
this tells honest people early what will not work, and reviewers where to look.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from kit.submission.problem import Problem, error, flag

LIBRARIES = ("torch", "torchvision", "numpy", "nvidia.dali", "triton")
"""Beside the standard library, what every organizer has."""
KIT_NAMES = ("Run", "Verdict", "__version__")
REFUSED = {
    "sklearn": "scikit-learn carries the digits with their labels; a sealed run does not have them",
    "nvidia": "of nvidia's packages there is nvidia.dali",
}
LOOKS: dict[str, tuple[str, ...]] = {
    "reaches memory or code outside of Python": ("ctypes", "_ctypes", "mmap", "torch.utils.cpp_extension"),
    "reaches the network, which a sealed run does not have": (
        *("socket", "socketserver", "ssl", "http", "urllib", "ftplib", "smtplib", "poplib", "imaplib", "telnetlib"),
        *("xmlrpc", "asyncio", "torch.hub", "torchvision.datasets"),
    ),
    "starts processes": (
        *("subprocess", "multiprocessing", "pty", "concurrent.futures", "torch.multiprocessing"),
        *("os.system", "os.popen", "os.fork", "os.posix_spawn"),
    ),
    "imports or runs code by name": ("importlib", "runpy", "code", "codeop", "imp", "pkgutil", "zipimport"),
    "unpacks data that could be hidden in the source": (
        *("pickle", "marshal", "shelve", "base64", "binascii", "zlib", "gzip", "bz2", "lzma", "zipfile", "tarfile"),
        *("codecs", "torch.load", "numpy.load"),
    ),
    "looks into the kit's own objects": ("gc", "inspect", "traceback", "tracemalloc", "dis", "ast"),
    "outlives or interrupts what runs": ("signal", "atexit", "threading", "_thread", "fcntl", "resource"),
}
"""Why people look at an import or at a use, and of what."""
NAMES = {
    **dict.fromkeys(("__import__", "exec", "eval", "compile"), "imports or runs what cannot be read here"),
    **dict.fromkeys(("open", "__file__"), "reads files, and those beside the source could hold data"),
}
"""Built-in names that people look at, and why."""
ASK = "say in README.md what it is for, or do without it"


def import_problems(file: str, module: ast.Module, beside: Iterable[str]) -> list[Problem]:
    """What is wrong with a file's imports, and what of them needs a look; each once.

    Args:
        file: Its name.
        module: Its syntax tree.
        beside: Names of the submission's files.
    """
    siblings = {PurePosixPath(name).parts[0].removesuffix(".py") for name in beside if name.endswith(".py")}
    found: dict[str, Problem] = {}
    for node in ast.walk(module):
        where = f"{file}:{getattr(node, 'lineno', 0)}"
        for problem in (
            *(_refusal(name, where, siblings) for name in _imported(node)),
            *(_look(name, where) for name in _imported(node)),
            *(_look(name, where, parts=2) for name in _used(node)),
        ):
            if problem is not None:
                found.setdefault(problem.what, problem)
    return list(found.values())


def _imported(node: ast.AST) -> Iterator[str]:
    """Full names: of `from a import b` it is `a.b`, which may be a module or not."""
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(level=level, module=module, names=names):
            yield from (f"{'.' * level}{module or ''}.{alias.name}" for alias in names)


def _used(node: ast.AST) -> Iterator[str]:
    """Built-in names and attributes of modules: `exec`, `torch.hub`."""
    match node:
        case ast.Name(id=name, ctx=ast.Load()) if name in NAMES:
            yield name
        case ast.Attribute():
            parts: list[str] = []
            part: ast.expr = node
            while isinstance(part, ast.Attribute) and len(parts) < 8:
                parts.append(part.attr)
                part = part.value
            if isinstance(part, ast.Name):
                yield ".".join((*(["numpy"] if part.id == "np" else [part.id]), *reversed(parts)))


def _refusal(name: str, where: str, siblings: set[str]) -> Problem | None:
    root = name.partition(".")[0]
    if name.startswith("."):
        return error(where, "a relative import, and a submission is no package", "put all code into submission.py")
    if root == "kit":
        if name == "kit" or (name.count(".") == 1 and name.removeprefix("kit.") in KIT_NAMES):
            return None
        return error(where, f"{name} is not a submission's to import", "from kit import Run, Verdict; nothing else")
    if any(_below(name, library) for library in LIBRARIES) or root in sys.stdlib_module_names:
        return None
    if root in siblings:
        return error(where, f"imports {root}.py, which is not found in a run", "put all code into submission.py")
    why = REFUSED.get(root, "a run may not have it")
    return error(where, f"imports {root}: {why}", f"use the standard library, {', '.join(LIBRARIES)}")


def _look(name: str, where: str, parts: int = 1) -> Problem | None:
    # Of attributes `parts` is 2: a variable may well be called `signal`.
    if name in NAMES:
        return flag(where, f"{name} {NAMES[name]}", ASK)
    for why, modules in LOOKS.items():
        for module in modules:
            if module.count(".") + 1 >= parts and _below(name, module):
                return flag(where, f"{module} {why}", ASK)
    return None


def _below(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")
