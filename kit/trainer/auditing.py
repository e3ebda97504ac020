"""What torch's profiler sees on all threads in windows of a replay, beside what the counter sees.

The profiler hooks into torch's dispatcher below every Python mode: work inside custom operators, on other threads or
with modes switched off shows there with its shapes, although the counter does not see it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, NamedTuple

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import flop_registry

from kit.data.loaders import Batch
from kit.protocol import AuditedWindow, Phase, Window
from kit.trainer.counting import Phases
from kit.trainer.flops import OperatorCounter, rule_of
from kit.trainer.rules import Rule, is_depthwise
from kit.trainer.tally import Tally

COMPARED = ("gemm", "conv", "depthwise_conv", "attention", "rnn")
"""Operator classes that are wholly made of operators whose shapes the profiler keeps."""
MAX_WINDOW_S = 2.0
"""A window ends at the next chance after this: what a profile holds takes memory, and as long again to read."""
MAX_LISTED = 50
MARK = "kit: this thread"
BACKWARD = "autograd::engine::evaluate_function"


class Auditor(Phases):
    """Profiles windows of a program, and counts in them.

    Args:
        counter: Active.
        windows: In order, apart. A tick is what `Steps` counts: an optimizer step, a batch or an evaluation.
        everywhere: Count outside of the windows too.
    """

    def __init__(self, counter: OperatorCounter, windows: list[Window], *, everywhere: bool) -> None:
        super().__init__(counter)
        self._windows = list(windows)
        self._everywhere = everywhere
        self._ticks = 0
        self._evaluating = False
        self._open: _Open | None = None
        self.audited: list[AuditedWindow] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count and profile what runs inside."""
        with super().active():
            self.counter.switch(on=self._everywhere)
            self._look()
            try:
                yield
            finally:
                self._close()
                self.counter.switch(on=True)

    # ---- where a window may begin or end

    def on_phase(self, phase: Phase) -> None:
        """An evaluation begins or ends."""
        self._evaluating = phase == "evaluation"
        self._tick(self._evaluating)
        super().on_phase(phase)

    def on_fetch(self) -> None:
        """A chance to end a window inside an evaluation."""
        self._look()

    def on_batch(self, batch: Batch, first: bool) -> None:
        """Only batches of training are ticks."""
        self._tick(not self._evaluating)

    def on_optimizer_done(self, optimizer: torch.optim.Optimizer) -> None:
        """Back to training."""
        super().on_optimizer_done(optimizer)
        self._tick(True)

    def on_call(self, name: str, *arguments: Any) -> None:
        """In a program without ticks, a chance to end a window."""
        self._look()

    def _tick(self, counts: bool) -> None:
        self._ticks += counts and self._active
        self._look()

    def _look(self) -> None:
        if not self.may_switch():
            return
        if self._open is not None and (self._ticks >= self._open.until or monotonic() > self._open.deadline_s):
            self._close()
        if self._open is None and self._windows and self._ticks >= self._windows[0].first:
            window = self._windows.pop(0)
            self._open = _Open(self._ticks, window.first + window.ticks, self.counter)

    def _close(self) -> None:
        if self._open is not None:
            tally, profiler = self._open.close(self.counter)
            self.counter.switch(on=False)  # reading runs operators of its own
            window = _read(list(profiler.events() or []), tally, on_gpu=not self.counter.timed)
            self.counter.switch(on=self._everywhere)
            self.audited.append(AuditedWindow(first=self._open.since, ticks=self._ticks - self._open.since, **window))
            self._open = None


class _Open:
    """A window that is being recorded."""

    def __init__(self, since: int, until: int, counter: OperatorCounter) -> None:
        self.since, self.until, self.deadline_s = since, until, monotonic() + MAX_WINDOW_S
        self._before, counter.tally = counter.tally, Tally()
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (not counter.timed)
        config = _ExperimentalConfig(profile_all_threads=True)
        self._profiler = profile(activities=activities, record_shapes=True, experimental_config=config)
        self._profiler.start()
        with record_function(MARK):
            pass
        counter.switch(on=True)

    def close(self, counter: OperatorCounter) -> tuple[Tally, profile]:
        """Stop recording; what was counted goes to the whole as well."""
        self._profiler.stop()
        tally = counter.tally
        self._before.add(tally)
        counter.tally = self._before
        return tally, self._profiler


def _read(events: list[Any], tally: Tally, *, on_gpu: bool) -> dict[str, Any]:
    """What a profile and a tally of the same window came to."""
    profiled: dict[str, int] = {}
    unread: set[str] = set()
    elsewhere_flops = elsewhere_calls = 0
    busy_us = with_rule_us = 0.0
    here = next((event.thread for event in events if event.name == MARK), 0)
    known = _Known()
    for event in events:
        if not _is_operator(event.name):
            continue
        above = [parent.name for parent in _ancestors(event)]
        rule, counted_above = known[event.name].rule, any(known[name].rule for name in above)
        took_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        busy_us += took_us
        with_rule_us += took_us * (counted_above or rule is not None)
        foreign = event.thread != here and not any(name.startswith(BACKWARD) for name in above)
        elsewhere_calls += foreign
        if rule is None or counted_above:
            continue
        try:
            operator_class, flops = _flops(event, rule)
        except Exception:  # a shape that the profiler did not keep: lists of tensors
            unread.add(rule.operator_class)
            continue
        if operator_class in COMPARED:
            name = "declared" if any(known[name].declared for name in above) else operator_class
            profiled[name] = profiled.get(name, 0) + flops
            elsewhere_flops += flops * foreign
    return {
        "counted": {name: flops for name, flops in _counted(tally).items() if name not in unread},
        "profiled": {name: flops for name, flops in profiled.items() if name not in unread},
        "unread": sorted(unread),
        "elsewhere_flops": elsewhere_flops,
        "elsewhere_calls": elsewhere_calls,
        "busy_s": busy_us / 1e6,
        "with_rule_s": with_rule_us / 1e6,
        "uncounted": tally.counted(timed=False).uncounted[:MAX_LISTED],
    }


def _counted(tally: Tally) -> dict[str, int]:
    counted: dict[str, int] = {}
    for (operator_class, *_), (_, flops, *_) in tally.rows.items():
        if operator_class in COMPARED:
            counted[operator_class] = counted.get(operator_class, 0) + round(flops)
    if tally.declared:
        counted["declared"] = round(sum(flops for _, flops in tally.declared.values()))
    return counted


def _is_operator(name: str) -> bool:
    return "::" in name and not name.startswith(("autograd::", "torch::", "c10d::"))


def _ancestors(event: Any) -> Iterator[Any]:
    while (event := event.cpu_parent) is not None:
        yield event


class _Operator(NamedTuple):
    rule: Rule | None
    declared: bool
    """The submission gave a rule."""


class _Known(dict[str, _Operator]):
    """Operators by the profiler's names."""

    def __missing__(self, name: str) -> _Operator:
        packet = _packet(name) if _is_operator(name) else None
        rule = None if packet is None else rule_of(packet)
        self[name] = _Operator(rule, rule is None and packet in flop_registry)
        return self[name]


def _packet(name: str) -> Any:
    namespace, _, short = name.partition("::")
    return getattr(getattr(torch.ops, namespace), short, None)


def _flops(event: Any, rule: Rule) -> tuple[str, int]:
    """From shapes alone: tensors without contents stand for the operands."""
    operands = [
        torch.empty(shape, dtype=_dtype(dtype), device="meta") if _is_tensor(dtype) else value
        for shape, dtype, value in zip(event.input_shapes, event.input_dtypes, event.concrete_inputs, strict=True)
    ]
    tensors = [operand for operand in operands if isinstance(operand, torch.Tensor)]
    try:
        cost = rule.flops(*operands, out_val=None)
    except AttributeError:  # the rule looks at the result
        cost = rule.flops(*operands, out_val=_packet(event.name)(*operands))
    flops = round(cost * (rule.complex_factor if any(tensor.is_complex() for tensor in tensors) else 1))
    if rule.operator_class == "conv" and is_depthwise(tensors, backward="backward" in event.name):
        return "depthwise_conv", flops
    return rule.operator_class, flops


def _is_tensor(dtype: str) -> bool:
    return dtype not in ("", "Scalar", "ScalarList", "TensorList")


def _dtype(name: str) -> torch.dtype:
    """Of the profiler's C++ names: what rules ask is whether a number is complex, or two share a byte."""
    if "complex" in name:
        return torch.complex64
    return torch.float4_e2m1fn_x2 if "Float4" in name else torch.float32
