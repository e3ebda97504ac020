"""Switches counting on for a replay: what torch does not tell a dispatch mode by itself."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from kit.protocol import Counted, Phase
from kit.trainer.flops import OperatorCounter
from kit.trainer.tally import Tally
from kit.trainer.watch import Watch

TOLD: tuple[tuple[Any, str], ...] = (
    (torch.autograd, "backward"),
    (torch.autograd, "grad"),
    (torch.optim.Optimizer, "zero_grad"),
    (torch.nn.Module, "zero_grad"),
)
"""Functions whose calls a watch is told of."""


class Phases(Watch):
    """Tells a counter which phase it counts in."""

    def __init__(self, counter: OperatorCounter) -> None:
        self.counter = counter
        self._thread = threading.get_ident()
        self._active = False
        """Hooks are called in `setup` too, and what happens there is no part of what is counted."""
        self._stepping: list[int] = []
        """Optimizers inside their `step`, the outermost first."""

    def on_phase(self, phase: Phase) -> None:
        """An evaluation begins or ends."""
        self.counter.enter(phase)

    def on_optimizer(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """Whatever an optimizer does is its own, also steps of others inside."""
        self._forget(optimizer)  # an earlier step of it raised
        self._stepping.append(id(optimizer))
        self.counter.enter("optimizer")

    def on_optimizer_done(self, optimizer: torch.optim.Optimizer) -> None:
        """Back to training."""
        self._forget(optimizer)
        if not self._stepping:
            self.counter.enter("training")

    def _forget(self, optimizer: torch.optim.Optimizer) -> None:
        if id(optimizer) in self._stepping:
            del self._stepping[self._stepping.index(id(optimizer)) :]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count what runs inside."""
        with self.counter:
            self._active = True
            try:
                yield
            finally:
                self._active = False

    def may_switch(self) -> bool:
        """Whether the counter may come or go: modes belong to a thread, in backward passes and transforms to those."""
        return (
            self._active
            and threading.get_ident() == self._thread
            and torch._C._current_graph_task_id() == -1
            and torch._C._functorch.peek_interpreter_stack() is None
            and not self.counter.aside
        )

    def counted(self) -> Counted:
        """What all of it came to."""
        return self.counter.counted()


@contextmanager
def counting(watch: Phases) -> Iterator[None]:
    """Count what runs inside: eager, optimizers, activation checkpoints and CUDA graphs told apart.

    Compiled code runs as the eager program that it stands for. To be entered before the submission is imported, which
    may take names out of torch's modules; what runs inside `watch.active()` is counted.
    """
    hooks = (
        register_optimizer_step_pre_hook(
            lambda optimizer, args, kwargs: watch.on_optimizer(optimizer, any((*args[1:], *kwargs.values())))
        ),
        register_optimizer_step_post_hook(lambda optimizer, *_: watch.on_optimizer_done(optimizer)),
    )
    checkpoint = torch.utils.checkpoint.checkpoint
    torch.utils.checkpoint.checkpoint = _noticing(checkpoint, watch)
    originals = [(owner, name, getattr(owner, name)) for owner, name in TOLD]
    for owner, name, original in originals:
        setattr(owner, name, _told(original, watch))
    try:
        with torch.compiler.set_stance("force_eager"), _graphs(watch.counter):
            yield
    finally:
        torch.utils.checkpoint.checkpoint = checkpoint
        for owner, name, original in originals:
            setattr(owner, name, original)
        for hook in hooks:
            hook.remove()


def _told(function: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """A function whose calls are told."""

    @functools.wraps(function)
    def telling(*args: Any, **kwargs: Any) -> Any:
        watch.on_call(function.__name__, args, kwargs)
        return function(*args, **kwargs)

    return telling


def _noticing(checkpoint: Callable[..., Any], watch: Phases) -> Callable[..., Any]:
    """A checkpoint whose function knows whether it is run again, inside a backward pass."""

    @functools.wraps(checkpoint)
    def noticed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(function)
        def run(*inputs: Any, **options: Any) -> Any:
            if torch._C._current_graph_task_id() == -1:
                return function(*inputs, **options)
            with watch.counter.recomputing():
                return function(*inputs, **options)

        watch.on_call("checkpoint", args, kwargs)
        return checkpoint(run, *args, **kwargs)

    return noticed


@contextmanager
def _graphs(counter: OperatorCounter) -> Iterator[None]:
    """What a CUDA graph captures, also in `setup`, is executed not then but at each replay.

    No GPU has confirmed this yet.
    """
    graph_class = torch.cuda.CUDAGraph
    captured: WeakKeyDictionary[Any, Tally] = WeakKeyDictionary()
    capture = ExitStack()

    def begin(graph: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(graph, *args, **kwargs)
        captured[graph] = Tally()
        capture.enter_context(counter.into(captured[graph]))
        return result

    def end(graph: Any, original: Callable[..., Any]) -> Any:
        capture.close()
        return original(graph)

    def replay(graph: Any, original: Callable[..., Any]) -> Any:
        counter.repeat(captured.get(graph, Tally()))
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
