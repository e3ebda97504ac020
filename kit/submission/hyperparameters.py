"""Which hyperparameters the source uses, against those that the manifest declares."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping

from kit.submission.manifest import MANIFEST_FILE
from kit.submission.problem import Problem, error, flag
from kit.submission.source import Function, entry_points


def hyperparameter_problems(modules: Mapping[str, ast.Module], declared: Mapping[str, int | None]) -> list[Problem]:
    """Hyperparameters that are used and not declared, or declared and not used.

    Args:
        modules: Syntax trees by file.
        declared: What the manifest declares, and in which line.
    """
    problems: list[Problem] = []
    used: set[str] = set()
    seen_through = True
    for file, module in modules.items():
        reader = _Reader(module)
        seen_through &= not reader.passed_on
        for name, line in sorted(reader.uses, key=lambda use: use[1]):
            if name not in declared and name not in used and not name.startswith("__"):
                fix = f"declare it under config: in {MANIFEST_FILE}"
                problems.append(error(f"{file}:{line}", f"config.{name} is used and not declared", fix))
            used.add(name)
    if seen_through:
        for name, at in ((name, at) for name, at in declared.items() if name not in used):
            where = MANIFEST_FILE if at is None else f"{MANIFEST_FILE}:{at}"
            problems.append(
                flag(where, f"config.{name} is declared and not used", f"use run.config.{name} or remove it")
            )
    return problems


class _Reader:
    """Reads of `run.config` in one file.

    Attributes:
        uses: Names that are read from it, with their lines.
        passed_on: Whether it is used in another way as well, so that there may be more.
    """

    def __init__(self, module: ast.Module) -> None:
        self.uses: list[tuple[str, int]] = []
        self.passed_on = False
        self._runs = {"run"}
        for node in entry_points(module).values():
            if isinstance(node, Function):
                self._runs.update(argument.arg for argument in [*node.args.posonlyargs, *node.args.args][:1])
        scopes: list[tuple[Iterable[ast.AST], frozenset[str]]] = [(module.body, frozenset())]
        while scopes:
            body, outer = scopes.pop()
            scopes += self._read([part for node in body for part in _scope_of(node)], outer)

    def _read(self, nodes: list[ast.AST], outer: frozenset[str]) -> Iterator[tuple[Iterable[ast.AST], frozenset[str]]]:
        """Look at one scope.

        Args:
            nodes: All of it.
            outer: Names of the scopes around it that hold the configuration.

        Returns:
            The scopes inside it, with the names that hold the configuration there.
        """
        stored = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        names = (outer - set(stored)) | {name for name in self._names(nodes) if stored.count(name) == 1}
        understood: set[int] = set()
        for node in nodes:
            if isinstance(node, ast.Attribute) and self._is_config(node.value, names):
                self.uses.append((node.attr, node.lineno))
                understood.add(id(node.value))
            elif isinstance(node, ast.Assign) and set(self._names([node])) & names:
                understood.add(id(node.value))
        for node in nodes:
            if self._is_config(node, names) and isinstance(getattr(node, "ctx", None), ast.Load):
                self.passed_on |= id(node) not in understood
            match node:
                case ast.ClassDef():
                    yield node.body, names
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    yield node.body, names - _parameters(node.args)
                case ast.Lambda():
                    yield [node.body], names - _parameters(node.args)

    def _is_config(self, node: ast.AST, names: Collection[str]) -> bool:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr="config"):
                return name in self._runs
            case ast.Name(id=name):
                return name in names
        return False

    def _names(self, nodes: Iterable[ast.AST]) -> Iterator[str]:
        """Names that are bound to the configuration."""
        for node in nodes:
            if isinstance(node, ast.Assign) and self._is_config(node.value, ()):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _scope_of(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is below it; functions and classes are given, and their bodies are scopes of their own."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        match part:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                waiting += [*part.decorator_list, *part.args.defaults, *(it for it in part.args.kw_defaults if it)]
            case ast.ClassDef():
                waiting += [*part.decorator_list, *part.bases]
            case ast.Lambda():
                waiting += part.args.defaults
            case _:
                waiting += ast.iter_child_nodes(part)


def _parameters(given: ast.arguments) -> set[str]:
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return {argument.arg for argument in every if argument is not None}
