"""Counting a long run by kinds of steps: each kind is counted, and its repeats are multiplied.

The program is cut into steps wherever a batch is fetched, an optimizer's step begins or ends, or an evaluation begins
or ends. What a step is seen to do without counting (modules with their inputs, outputs and parameters, batches,
backward passes, optimizers, checkpoints) is its signature. A step is counted from its beginning until what was seen of
it so far can only become a signature that has been counted; then the counter leaves, and what it had counted of this
step is dropped. If the step turns out otherwise, the next ones that begin alike are counted to their ends until that
signature has been met again. Whenever a new signature is met, the program has changed, and every other one has to be
counted once more before it is relied on.

Counted to the end, always: steps in which no module is called, since nothing tells them apart; optimizers that are not
torch's own, that do not do the same at every step or that are given a closure; kinds whose recount differed. Recounted
are 1 % of the repeats, at first more, drawn from a seed that the submission cannot know beforehand.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.modules.module import register_module_forward_hook

from kit.data.loaders import Batch
from kit.protocol import Counted, Phase, Sampling
from kit.trainer.counting import Phases
from kit.trainer.flops import OperatorCounter
from kit.trainer.tally import Tally

RECOUNTED = 0.01
"""Share of the repeats."""
RECOUNTED_AT_FIRST = 10
"""The n-th repeat is recounted with a probability of at least this / (n + this)."""
MAX_SIGNATURES = 1000
"""A program of more kinds of steps is counted in full from there."""
IRREGULAR = (torch.optim.LBFGS,)
"""Of torch's own optimizers: does not do the same at every step."""


@dataclass
class _Kind:
    """Steps of one signature."""

    tally: Tally = field(default_factory=Tally)
    """Of those that were counted."""
    first: Tally | None = None
    counted: int = 0
    skipped: int = 0
    differs: bool = False
    """A recount came to something else."""
    to_count: bool = False
    """No step of this kind may be skipped knowingly."""
    met_when: int = 0
    """How many kinds of this phase there were when one was counted last."""
    stand_in: "_Kind | None" = None
    """What the first step that was skipped had been taken for."""


@dataclass
class _Node:
    """What was seen of a step so far."""

    following: dict[Any, "_Node"] = field(default_factory=dict)
    kind: _Kind | None = None
    """Of the step that ends here."""
    to_count: int = 0
    """Kinds here and below of which no step may be skipped."""
    latest: _Kind | None = None
    """Here or below, the kind that was counted last."""

    def certain(self, kinds: int) -> bool:
        """Whether what goes on from here has been counted, since there are that many kinds."""
        return self.to_count == 0 and self.latest is not None and self.latest.met_when == kinds


class Sampler(Phases):
    """Switches a counter off for steps that it has counted already.

    Args:
        counter: Active; it is on again whenever a step begins.
        seed: Draws the recounts.
    """

    def __init__(self, counter: OperatorCounter, seed: int) -> None:
        super().__init__(counter)
        self._random = Random(seed)
        self._modules: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()
        self._optimizers: WeakKeyDictionary[torch.optim.Optimizer, int] = WeakKeyDictionary()
        self._met = 0
        self._roots: dict[Phase, _Node] = {"training": _Node(), "optimizer": _Node(), "evaluation": _Node()}
        self._met_in: dict[Phase, int] = dict.fromkeys(self._roots, 0)
        """Number of kinds."""
        self._kinds: list[_Kind] = []
        self._total = Tally()
        self._steps = self._counted = self._recounted = self._mismatches = 0
        self._in_full = False
        self._begin("training")

    # ---- what cuts the program into steps

    def on_phase(self, phase: Phase) -> None:
        """An evaluation begins or ends."""
        self._cut(phase)
        super().on_phase(phase)

    def on_fetch(self) -> None:
        """A batch begins a step."""
        self._cut(self._phase)

    def on_optimizer(self, optimizer: torch.optim.Optimizer, closure: bool) -> None:
        """An optimizer's step is a step of its own, unless it is part of another's or of a backward pass."""
        if not self._stepping:
            self._cut("optimizer")
        super().on_optimizer(optimizer, closure)
        kind = type(optimizer)
        self._irregular |= closure or not kind.__module__.startswith("torch.optim.") or issubclass(kind, IRREGULAR)
        self._see("optimizer", self._describe_optimizer(optimizer))

    def on_optimizer_done(self, optimizer: torch.optim.Optimizer) -> None:
        """Back to training."""
        super().on_optimizer_done(optimizer)
        if not self._stepping:
            self._cut("training")

    # ---- what is seen of a step

    def on_batch(self, batch: Batch, first: bool) -> None:
        """The first batch of an epoch takes more work than others."""
        self._see("batch", first, _describe(batch))

    def on_call(self, name: str, *arguments: Any) -> None:
        """A backward pass, a checkpoint, or gradients that are dropped."""
        self._see(name, _describe(arguments), torch.is_grad_enabled())

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count what runs inside, or skip it."""
        hook = register_module_forward_hook(self._on_module, with_kwargs=True)
        try:
            with super().active():
                self._begin("training")
                try:
                    yield
                finally:
                    self._end()
        finally:
            hook.remove()

    def _on_module(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        autocast = torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu")
        self._sees_modules = True
        self._see(
            self._number(self._modules, module),
            module.training,
            _describe((args, kwargs, output)),
            tuple([_describe_parameter(parameter) for parameter in module._parameters.values()]),
            torch.is_grad_enabled(),
            autocast,
            (torch.get_autocast_dtype("cuda"), torch.get_autocast_dtype("cpu")) if any(autocast) else None,
        )

    def _describe_optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """State and gradients, and which options are on: rates and counters change from step to step."""
        described: list[Any] = [self._number(self._optimizers, optimizer), len(optimizer.state)]
        for group in optimizer.param_groups:
            described += [parameter.grad is None for parameter in group["params"]]
            described += [
                (name, value if isinstance(value, str) else bool(value))
                for name, value in group.items()
                if isinstance(value, (str, bool, int, float, type(None)))
            ]
        return tuple(described)

    def _number(self, known: WeakKeyDictionary[Any, int], thing: Any) -> int:
        """Like an identity, but never used again for another."""
        if thing not in known:
            self._met += 1
            known[thing] = self._met
        return known[thing]

    # ---- deciding

    def _begin(self, phase: Phase) -> None:
        self._phase: Phase = phase
        self._path: list[_Node] = []
        self._node = self._roots[phase]
        self._on, self._decided = True, False
        self._taken_for: _Kind | None = None
        self._sees_modules = self._irregular = False
        self.counter.tally = Tally()

    def _see(self, *event: Any) -> None:
        if not self._active or self._in_full:
            return
        if threading.get_ident() != self._thread and torch._C._current_graph_task_id() == -1:
            return  # the counter does not see other threads either
        node = self._node.following.get(event)
        if node is None:
            node = self._node.following[event] = _Node()
        self._node = node
        self._path.append(node)
        if self._on and not self._decided and node.certain(self._met_in[self._phase]) and self.may_switch():
            self._decided = True
            assert node.latest is not None
            repeats = node.latest.counted + node.latest.skipped
            chance = max(RECOUNTED, RECOUNTED_AT_FIRST / (RECOUNTED_AT_FIRST + repeats))
            if self._random.random() >= chance:
                self._on, self._taken_for = False, node.latest
                self.counter.switch(on=False)

    def _cut(self, phase: Phase) -> None:
        if self.may_switch():
            self._end()
            self._begin(phase)

    def _end(self) -> None:
        tally = self.counter.tally
        if not self._on:
            self.counter.switch(on=True)
        self._steps += bool(self._path or tally.rows)
        self._counted += self._on and bool(self._path or tally.rows)
        if not self._path:
            self._total.add(tally)
            return
        kind = self._node.kind
        if kind is None:
            kind = self._node.kind = _Kind()
            self._kinds.append(kind)
            self._met_in[self._phase] += 1
            self._in_full = len(self._kinds) >= MAX_SIGNATURES
        tells = (self._sees_modules or self._phase == "optimizer") and not self._irregular
        if self._on:
            kind.met_when = self._met_in[self._phase]
            self._compare(kind, tally, tells)
            for node in self._path:
                node.latest = kind
        else:
            kind.skipped += 1
            kind.stand_in = kind.stand_in or self._taken_for
        to_count = not tells or kind.differs or kind.counted == 0
        if to_count != kind.to_count:
            kind.to_count = to_count
            for node in self._path:
                node.to_count += 1 if to_count else -1

    def _compare(self, kind: _Kind, tally: Tally, tells: bool) -> None:
        if kind.first is None:
            kind.first = tally
        elif tells:
            self._recounted += 1
            if not tally.same(kind.first):
                self._mismatches += 1
                kind.differs = True
        kind.tally.add(tally)
        kind.counted += 1

    # ---- the end

    def counted(self) -> Counted:
        """Every kind times the number of its steps; what was never counted, as what it was taken for."""
        total, estimated = Tally(), 0
        total.add(self._total)
        for kind in self._kinds:
            total.add(kind.tally)
            source = kind if kind.counted else kind.stand_in
            if kind.skipped and source is not None:
                total.add(source.tally.times(kind.skipped, source.counted))
                estimated += kind.skipped if kind.differs or source is not kind else 0
        return self.counter.as_message(
            total,
            Sampling(
                steps=self._steps,
                signatures=len(self._kinds),
                counted=self._counted,
                recounted=self._recounted,
                mismatches=self._mismatches,
                estimated=estimated,
            ),
        )


def _describe_parameter(parameter: torch.nn.Parameter | None) -> Any:
    """A gradient that is there is added to."""
    return None if parameter is None else (_describe(parameter), parameter.grad is None)


def _describe(value: Any) -> Any:
    """What of an argument decides the cost: shapes and types, not contents."""
    if isinstance(value, torch.Tensor):
        if value.is_nested:
            return object()  # like nothing else: such steps are all counted
        return value.shape, value.dtype, value.requires_grad
    if isinstance(value, (tuple, list)):
        return tuple([_describe(item) for item in value])
    if isinstance(value, dict):
        return tuple([(name, _describe(item)) for name, item in value.items()])
    return value if isinstance(value, (bool, int, str, type(None))) else type(value)
