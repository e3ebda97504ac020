"""Operators one by one: what a piece of torch code dispatches, each to be called again by itself.

So a backward operator is timed without its forward one, and whatever kernel this device and version choose is the one
that is timed. The kit's own counter says what each is, so that a point and a record's row mean the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from kit.trainer.flops import OperatorCounter


@dataclass(frozen=True)
class Isolated:
    """One operator with the operands that it had."""

    operator: str
    operator_class: str
    dtype: str
    backward: bool
    flops: float
    size_bytes: float
    call: Callable[[], object]


def isolate(program: Callable[[], object], operator_class: str) -> list[Isolated]:
    """The operators of one class that `program` dispatches, in their order."""
    with _Recorder() as recorder:
        program()
    found = []
    for function, arguments, options in recorder.calls:
        call = _Call(function, tree_map(_detached, arguments), tree_map(_detached, options))
        counter = OperatorCounter()
        with counter:
            call()
        rows = counter.counted().operators
        if len(rows) == 1 and rows[0].operator_class == operator_class:
            (row,) = rows
            name = function.name().removeprefix("aten::").partition(".")[0]
            found.append(Isolated(name, row.operator_class, row.dtype, row.backward, row.flops, row.bytes, call))
    return found


@dataclass(frozen=True)
class _Call:
    function: Any
    arguments: Any
    options: Any

    def __call__(self) -> object:
        return self.function(*self.arguments, **self.options)


def _detached(value: Any) -> Any:
    """Without a graph: it would be built anew at every call."""
    return value.detach() if isinstance(value, torch.Tensor) else value


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}))
        return out
