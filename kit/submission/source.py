"""What can be said of a submission's source without running it: its syntax, and its two entry points."""

import ast
import warnings
from collections.abc import Iterator, Sequence

from kit.submission.manifest import SOURCE_FILE
from kit.submission.problem import Problem, error

ENTRY_POINTS = {"setup": ("run",), "train": ("run", "state")}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parse(name: str, content: bytes) -> ast.Module | Problem:
    """The syntax tree, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content, name)
    except SyntaxError as failure:
        where = name if failure.lineno is None else f"{name}:{failure.lineno}"
        return error(where, f"not Python: {failure.msg}", "mend the syntax")
    except (ValueError, RecursionError, MemoryError) as failure:
        return error(name, f"not Python: {str(failure) or type(failure).__name__}", "simplify what cannot be read")


def entry_points(module: ast.Module) -> dict[str, ast.AST]:
    """What the names `setup` and `train` are bound to at the top level, where they are."""
    bound = dict(_bindings(module.body))
    return {name: bound[name] for name in ENTRY_POINTS if name in bound}


def entry_problems(module: ast.Module) -> list[Problem]:
    """What is wrong with `setup(run)` and `train(run, state)`."""
    bound = entry_points(module)
    problems = []
    for name, parameters in ENTRY_POINTS.items():
        shown = f"def {name}({', '.join(parameters)}):"
        node = bound.get(name)
        if node is None:
            problems.append(error(SOURCE_FILE, f"{name} is missing", f"define it at the top level: {shown}"))
        elif isinstance(node, Function):
            problems += _signature_problems(node, len(parameters), shown)
        elif isinstance(node, ast.ClassDef):
            problems.append(error(f"{SOURCE_FILE}:{node.lineno}", f"{name} is a class", f"make it a function: {shown}"))
    return problems


def _bindings(body: Sequence[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """Names that statements bind in their own scope, in order: the last one holds."""
    waiting = list(reversed(body))
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name.partition(".")[0], node) for alias in node.names)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from ((it.id, node) for target in targets for it in ast.walk(target) if isinstance(it, ast.Name))
            case _:
                blocks = (getattr(node, block, []) for block in ("body", "handlers", "orelse", "finalbody"))
                waiting += reversed([part for block in blocks if isinstance(block, list) for part in block])


def _signature_problems(node: Function, count: int, shown: str) -> list[Problem]:
    where = f"{SOURCE_FILE}:{node.lineno}"
    given = node.args
    positional = len(given.posonlyargs) + len(given.args)
    required = positional - len(given.defaults)
    keywords = [default for default in given.kw_defaults if default is None]
    problems = []
    if required > count or (positional < count and given.vararg is None) or keywords:
        arguments = "one argument" if count == 1 else f"{count} arguments"
        problems.append(error(where, f"{node.name} cannot be called with {arguments}", f"write {shown}"))
    if isinstance(node, ast.AsyncFunctionDef):
        problems.append(error(where, f"{node.name} is async: called, it would do nothing", f"write {shown}"))
    elif any(isinstance(part, ast.Yield | ast.YieldFrom) for part in _own_scope(node)):
        problems.append(error(where, f"{node.name} is a generator: called, it would do nothing", "remove the yield"))
    return problems


def _own_scope(function: Function) -> Iterator[ast.AST]:
    """Every node of a function's body, without the bodies of functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))
