"""Counting the operations of a replay, by operator class, dtype and phase.

Every operator that torch dispatches passes through here, on this thread and in its backward passes. One with a rule
(`kit.trainer.rules`) adds its operations; elementwise work, norms, reductions and copies appear with calls and bytes
alone; one that computes but has no rule is listed with its share of time, never silently zero.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack, _pop_mode, _push_mode
from torch.utils.flop_counter import flop_registry

from kit.protocol import Counted, Phase, Sampling
from kit.trainer.rules import RULES, Rule, is_depthwise
from kit.trainer.tally import Tally

aten = torch.ops.aten

BLOW_UP = 4
"""An elementwise product this many times larger than its largest operand is a matrix product in disguise."""

PRODUCT = re.compile(r"(^|_|add|addb|baddb|b)mm(_|$)|(^|add)mv(_|$)|^v?dot$")
"""Names of matrix and vector products; `lgamma` is none."""
COMPUTES = re.compile(
    "linalg_(?!check_errors)|fft|conv(?!ert)|rnn|lstm|gru|attention|transformer|quantized|solve|svd|cdist|euclidean|geqrf|cholesky|inverse|^_trilinear$"
)
"""Names of operators that do real work, beside products: without a rule they are listed as uncounted."""
CLASSES = (
    ("norm", re.compile("norm")),
    ("gather", re.compile("embedding|index|gather|scatter|take")),
    ("copy", re.compile("copy|clone|^cat$|stack|^fill|zero|ones|full|^constant_pad|roll|flip|repeat")),
    ("reduction", re.compile("pool|softmax|loss|cumsum|cumprod|^sum|^mean|sort|topk")),
    ("elementwise", re.compile("^_foreach|^_fused|dropout|^(bernoulli|normal|uniform|random|exponential)")),
)
"""Classes of operators without a rule by name, before torch's tags are asked."""
OWN_NAMESPACES = ("aten", "prim", "prims", "profiler", "inductor", "higher_order", "c10d", "_c10d_functional")
"""Of torch itself: only what is named like work is listed. Whatever is foreign is taken to compute."""
TORCH_RULES = dict(flop_registry)
"""As they were before a submission could add to them."""
DTYPES = {dtype: str(dtype).removeprefix("torch.") for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
NOT_WHOLE = {dtype for dtype in DTYPES if dtype.is_floating_point or dtype.is_complex}
QUERIES = {
    getattr(packet, overload)
    for packet in (
        *(aten.sym_size, aten.sym_stride, aten.sym_storage_offset, aten.sym_numel, aten.size, aten.stride),
        *(aten.storage_offset, aten.numel, aten.dim, aten.is_contiguous, aten.sym_is_contiguous),
        *(aten.is_strides_like_format, aten.is_non_overlapping_and_dense, torch.ops.prim.layout),
    )
    for overload in packet.overloads()
}
"""What tensor subclasses such as nested tensors ask themselves: no operators."""


@dataclass(frozen=True)
class _Known:
    """What is looked up once per operator."""

    name: str
    operator_class: str
    rule: Rule | None
    declared: Callable[..., Any] | None
    """A rule that the submission gave."""
    backward: bool
    composite: bool
    """Made of others: they are counted instead."""
    free: bool
    """A view, or nothing but an allocation."""
    uncounted: bool
    timed: bool
    """Uncounted, or its rule failed before."""
    multiplies: bool
    """Elementwise, and so able to hide a product."""


class OperatorCounter(TorchDispatchMode):
    """Counts everything that runs inside `with counter:`.

    Args:
        device: Where it runs. Only on the CPU does an operator return when its work is done, and can be timed.
    """

    supports_higher_order_operators = True

    def __init__(self, device: torch.device | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.timed = device is None or device.type == "cpu"
        self._phase: Phase = "training"
        self._recomputing = False
        self._known: dict[Any, _Known] = {}
        self.tally = Tally()
        """What is added to."""
        self.aside = False
        """Whether that is the tally of a CUDA graph that is being captured."""

    def enter(self, phase: Phase) -> None:
        """What follows belongs to `phase`."""
        self._phase = phase

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """What runs inside repeats work that is counted already: activation checkpoints."""
        before, self._recomputing = self._recomputing, True
        try:
            yield
        finally:
            self._recomputing = before

    @contextmanager
    def into(self, tally: Tally) -> Iterator[None]:
        """What runs inside is counted, also where nothing else is, into another tally."""
        before, self.tally, self.aside = self.tally, tally, True
        was_on = self in _get_current_dispatch_mode_stack()
        self.switch(on=True)
        try:
            yield
        finally:
            self.switch(on=was_on)
            self.tally, self.aside = before, False

    def repeat(self, captured: Tally) -> None:
        """Add what a CUDA graph holds; inside an evaluation all of it belongs there."""
        if self._phase == "evaluation":
            moved = Tally(uncounted=captured.uncounted, declared=captured.declared)
            for (operator_class, dtype, _, *size), values in captured.rows.items():
                moved.add(Tally({(operator_class, dtype, "evaluation", *size): values}))  # type: ignore[dict-item]
            captured = moved
        self.tally.add(captured)

    def switch(self, *, on: bool) -> None:
        """Count what follows, or let it run at full speed.

        Modes of the submission's own that are active keep their place above this one.
        """
        stack = _get_current_dispatch_mode_stack()
        for _ in stack:
            _pop_mode()
        for mode in [self] * on + [mode for mode in stack if mode is not self]:
            _push_mode(mode)

    def counted(self) -> Counted:
        """The counts so far, largest first."""
        return self.as_message(self.tally)

    def as_message(self, tally: Tally, sampling: Sampling | None = None) -> Counted:
        """Counts that this counter made."""
        return tally.counted(timed=self.timed, sampling=sampling)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = self._known.get(func)
        if known is None:
            if func in QUERIES:
                return NotImplemented
            known = self._known[func] = _look_up(func)
        kwargs = kwargs or {}
        if known.composite:
            with self:
                return func.decompose(*args, **kwargs)
        if known.free:
            return func(*args, **kwargs)
        disguised = known.multiplies and _blows_up(args)
        waits = not self.timed and (known.timed or disguised)
        if waits:
            torch.cuda.synchronize()
        begun_s = perf_counter()
        out = func(*args, **kwargs)
        if waits:
            torch.cuda.synchronize()
        busy_s = perf_counter() - begun_s
        if known.uncounted:
            self._list(known.name, _bytes((args, out)), busy_s)
        elif disguised:
            self._list(f"{known.name} (broadcast product)", _bytes((args, out)), busy_s)
        self._add(func, known, args, kwargs, out, busy_s)
        return out

    def _list(self, name: str, size: int, busy_s: float) -> None:
        row = self.tally.uncounted.setdefault(name, [0, 0, 0.0])
        row[0] += 1
        row[1] += size
        row[2] += busy_s

    def _add(self, func: Any, known: _Known, args: Any, kwargs: Any, out: Any, busy_s: float) -> None:
        size = 0
        dtype: torch.dtype | None = None
        for value in (*args, *out) if isinstance(out, (tuple, list)) else (*args, out):
            if isinstance(value, torch.Tensor):
                size += value.numel() * value.itemsize
                if dtype not in NOT_WHOLE:
                    found = value.dtype
                    if dtype is None or found in NOT_WHOLE:
                        dtype = found
            elif isinstance(value, (list, tuple)):
                for tensor in value:
                    if isinstance(tensor, torch.Tensor):
                        size += tensor.numel() * tensor.itemsize
                        dtype = dtype or tensor.dtype
        if dtype is None:
            return
        flops: float = 0
        recomputed: float = 0
        operator_class, name = known.operator_class, DTYPES[dtype]
        if known.rule is not None or known.declared is not None:
            try:
                flops, recomputed = _cost(known, dtype, args, kwargs, out)
            except Exception:  # a rule, of torch's or of the submission's, that does not know these arguments
                self._known[func] = replace(known, timed=True)
                self._list(known.name, size, busy_s)
            if known.declared is not None:
                row = self.tally.declared.setdefault(known.name, [0, 0])
                row[0] += 1
                row[1] += flops
            if operator_class == "conv" and is_depthwise(list(_tensors(args)), backward=known.backward):
                operator_class = "depthwise_conv"
            if dtype is torch.float32 and _is_tf32(operator_class, args):
                name = "tf32"
        octaves = int(flops).bit_length(), size.bit_length()
        key = operator_class, name, self._phase, known.backward, *octaves
        totals = self.tally.rows.get(key)
        if totals is None:
            totals = self.tally.rows[key] = [0, 0, 0, 0, 0]
        totals[0] += 1
        totals[1] += flops
        totals[2] += flops if self._recomputing else recomputed
        totals[3] += size
        totals[4] += busy_s


def _cost(known: _Known, dtype: torch.dtype, args: Any, kwargs: Any, out: Any) -> tuple[float, float]:
    if known.declared is not None:
        return _whole(known.declared(*args, **kwargs, out_val=out)), 0
    rule = known.rule
    assert rule is not None
    factor = rule.complex_factor if dtype.is_complex else 1
    flops = factor * rule.flops(*args, **kwargs, out_val=out)
    return flops, 0 if rule.recomputed is None else rule.recomputed(*args, **kwargs, out_val=out)


def _whole(flops: Any) -> int:
    if not isinstance(flops, int) or isinstance(flops, bool) or not 0 <= flops < 2**53:
        raise ValueError(f"a rule returned {flops!r}: expected a number of operations")
    return flops


def rule_of(packet: Any) -> Rule | None:
    """The kit's rule for an operator, or torch's."""
    if packet in RULES or packet not in TORCH_RULES:
        return RULES.get(packet)
    return Rule("attention" if "attention" in str(packet) else "gemm", TORCH_RULES[packet])


def _look_up(func: Any) -> _Known:
    if isinstance(func, torch._ops.HigherOrderOperator):
        rule = RULES.get(func)
        return _Known(
            name=f"higher_order.{func.name()}",
            operator_class=rule.operator_class if rule else "other",
            rule=rule,
            declared=None,
            backward="backward" in func.name(),
            composite=False,
            free=False,
            uncounted=rule is None,
            timed=rule is None,
            multiplies=False,
        )
    packet = func._overloadpacket
    name, namespace = str(packet), func.namespace
    short = name.removeprefix("aten.")
    rule = rule_of(packet)
    declared = flop_registry.get(packet) if rule is None and namespace not in OWN_NAMESPACES else None
    has_rule = rule is not None or declared is not None
    composite = not has_rule and (
        torch._C.DispatchKey.CompositeImplicitAutograd in func.py_kernels
        or torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    )
    uncounted = not has_rule and (
        namespace not in OWN_NAMESPACES or bool(PRODUCT.search(short) or COMPUTES.search(short))
    )
    return _Known(
        name=name,
        operator_class=rule.operator_class if rule else _class_of(func, namespace, short),
        rule=rule,
        declared=declared,
        backward="backward" in short,
        composite=composite,
        free=func.is_view or short.startswith(("empty", "new_empty", "_unsafe_view", "detach", "lift_fresh", "set_")),
        uncounted=uncounted,
        timed=uncounted,
        multiplies=short in ("mul", "mul_", "addcmul", "addcmul_", "multiply", "bitwise_and", "logical_and"),
    )


def _class_of(func: Any, namespace: str, name: str) -> str:
    if namespace != "aten":
        return "other"
    if PRODUCT.search(name):
        return "gemm"
    found = next((kind for kind, pattern in CLASSES if pattern.search(name)), None)
    if found is not None:
        return found
    if torch.Tag.reduction in func.tags:
        return "reduction"
    return "elementwise" if torch.Tag.pointwise in func.tags else "other"


def _blows_up(args: Any) -> bool:
    """Whether an elementwise operation spreads its operands out as the first half of a product would."""
    operands = [value for value in args if isinstance(value, torch.Tensor)]
    if len(operands) < 2:
        return False
    left, right = operands[-2:]
    if left.shape == right.shape and 0 not in left.stride() and 0 not in right.stride():
        return False
    shapes = _stored(left), _stored(right)
    return bool(math.prod(torch.broadcast_shapes(*shapes)) > BLOW_UP * max(math.prod(shapes[0]), math.prod(shapes[1])))


def _stored(tensor: torch.Tensor) -> list[int]:
    """The shape of what differs in memory: an expanded dimension is one."""
    return [size if stride else 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]


def _is_tf32(operator_class: str, args: Any) -> bool:
    tensor = next(_tensors(args), None)
    if tensor is None or not tensor.is_cuda:
        return False
    backend = (
        torch.backends.cudnn if operator_class in ("conv", "depthwise_conv", "rnn") else torch.backends.cuda.matmul
    )
    return bool(backend.allow_tf32)


def _bytes(values: Any) -> int:
    return sum(tensor.numel() * tensor.itemsize for tensor in _tensors(values))


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
