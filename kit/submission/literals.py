"""What could hold data: long or random-looking text, bytes, and many numbers. A flag for people, never a verdict.

CIFAR-10's test labels fit in 4.2 kB and the digits' in 331 bytes, so no limit on sizes keeps them out. The organizer's
re-split and control run find what was carried in; this finds the clumsy ones early.
"""

import ast
import math
from collections import Counter
from collections.abc import Iterator

from kit.submission.problem import Problem, flag

LONG = 2000
"""Characters or bytes of one literal."""
MANY = 128
"""Numbers or texts in one literal, nested ones included."""
DIGITS = 40
"""Of one integer."""
UNBROKEN = 120
"""Characters without a space."""
RANDOM_BITS = 5.2
"""Bits per character, by their frequencies. English is near 4.3 and Python near 4.8; base64 is near 6."""
ENOUGH = 200
"""Characters that frequencies can be told from."""
FIX = "say in README.md what it is and how it was made; weights and labels may not be carried in"


def literal_problems(file: str, module: ast.Module) -> list[Problem]:
    """Literals that somebody should look at, in their order."""
    documentation = set(_docstrings(module))
    found: list[tuple[int, str]] = []
    waiting: list[tuple[ast.AST, bool]] = [(module, False)]
    while waiting:
        node, inside = waiting.pop()
        collection = isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict)
        if collection and not inside:
            count = sum(isinstance(part, ast.Constant) for part in ast.walk(node))
            if count > MANY:
                found.append((getattr(node, "lineno", 0), f"a literal of {count:,} values"))
        elif isinstance(node, ast.Constant):
            what = _constant(node.value, documentation=id(node) in documentation)
            if what is not None:
                found.append((node.lineno, what))
        waiting += [(child, inside or collection) for child in ast.iter_child_nodes(node)]
    return [flag(f"{file}:{line}", what, FIX) for line, what in sorted(found)]


def value_problem(where: str, value: object) -> Problem | None:
    """A default of the manifest that somebody should look at, by how much it holds; its text is looked at as text."""
    waiting, count = [value], 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
        else:
            count += 1
    return flag(where, f"a default of {count:,} values", FIX) if count > MANY else None


def text_problems(file: str, content: bytes) -> list[Problem]:
    """Lines of a file that is not Python that somebody should look at; the first of each kind."""
    found: dict[str, Problem] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        for kind, what in (("long", _too_long(line)), ("random", _random(line))):
            if what is not None:
                found.setdefault(kind, flag(f"{file}:{number}", what, FIX))
    return list(found.values())


def _docstrings(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield id(first.value)


def _constant(value: object, *, documentation: bool) -> str | None:
    match value:
        case str():
            return (None if documentation else _too_long(value)) or _random(value)
        case bytes():
            return _too_long(value) or _random(value.decode("latin-1"))
        # Not by its digits: there may be more of them than Python writes out.
        case int() if value.bit_length() > DIGITS * math.log2(10):
            return f"an integer of {value.bit_length():,} bits"
    return None


def _too_long(text: str | bytes) -> str | None:
    return (
        f"{len(text):,} {'characters' if isinstance(text, str) else 'bytes'} in one piece" if len(text) > LONG else None
    )


def _random(text: str) -> str | None:
    longest = max((len(word) for word in text.split()), default=0)
    if longest > UNBROKEN:
        return f"{longest:,} characters without a space"
    if len(text) >= ENOUGH:
        counts = Counter(text)
        bits = -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
        if bits > RANDOM_BITS:
            return f"{len(text):,} characters that look random ({bits:.1f} bits each)"
    return None
