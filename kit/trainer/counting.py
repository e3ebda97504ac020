"""Switches counting on for a replay: what torch does not tell a dispatch mode by itself."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from kit.trainer.flops import OperatorCounter, Tally


@contextmanager
def counting(counter: OperatorCounter) -> Iterator[None]:
    """Count what runs inside: eager, optimizers, activation checkpoints and CUDA graphs told apart.

    Compiled code runs as the eager program that it stands for. To be entered before the submission is imported, which
    may take names out of torch's modules; what runs inside `with counter:` is counted.
    """
    hooks = (
        register_optimizer_step_pre_hook(lambda *_: counter.enter("optimizer")),
        register_optimizer_step_post_hook(lambda *_: counter.enter("training")),
    )
    checkpoint = torch.utils.checkpoint.checkpoint
    torch.utils.checkpoint.checkpoint = _noticing(checkpoint, counter)
    try:
        with torch.compiler.set_stance("force_eager"), _graphs(counter):
            yield
    finally:
        torch.utils.checkpoint.checkpoint = checkpoint
        for hook in hooks:
            hook.remove()


def _noticing(checkpoint: Callable[..., Any], counter: OperatorCounter) -> Callable[..., Any]:
    """A checkpoint whose function knows whether it is run again, inside a backward pass."""

    @functools.wraps(checkpoint)
    def noticed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(function)
        def run(*inputs: Any, **options: Any) -> Any:
            if torch._C._current_graph_task_id() == -1:
                return function(*inputs, **options)
            with counter.recomputing():
                return function(*inputs, **options)

        return checkpoint(run, *args, **kwargs)

    return noticed


@contextmanager
def _graphs(counter: OperatorCounter) -> Iterator[None]:
    """What a CUDA graph captures is not executed then, but at each replay. No GPU has confirmed this yet."""
    graph_class = torch.cuda.CUDAGraph
    captured: WeakKeyDictionary[Any, Tally] = WeakKeyDictionary()
    capture = ExitStack()

    def begin(graph: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(graph, *args, **kwargs)
        capture.enter_context(counter.into(captured.setdefault(graph, Tally())))
        return result

    def end(graph: Any, original: Callable[..., Any]) -> Any:
        capture.close()
        return original(graph)

    def replay(graph: Any, original: Callable[..., Any]) -> Any:
        counter.add(captured.get(graph, Tally()))
        return original(graph)

    # Older versions of torch have no capture_end_pre: capture_end does all.
    wrappers = {"capture_begin": begin, "capture_end_pre": end, "capture_end": end, "replay": replay}
    originals = {name: getattr(graph_class, name) for name in wrappers if hasattr(graph_class, name)}
    for name, original in originals.items():
        setattr(graph_class, name, functools.partialmethod(wrappers[name], original))
    try:
        yield
    finally:
        capture.close()
        for name, original in originals.items():
            setattr(graph_class, name, original)
