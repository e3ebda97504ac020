"""Counting the operations of a replay, by operator class, dtype and phase.

Convention: a multiply-add is **two** operations. Counted are matrix products, convolutions and attention, as executed,
at their dense cost; elementwise work, norms and reductions appear with their calls and bytes and no operations. An
operator that computes but has no rule is listed, never silently zero.

The rules are those of `torch.utils.flop_counter`, but for what it gets wrong or does not know (checked with torch
2.15): its weight gradient of grouped and depthwise convolutions ignores `groups`; matrix-vector products, the fused CPU
LSTM, integer and grouped matrix products count nothing there.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

from kit.protocol import Counted, OperatorCount, Phase, UncountedOperator

aten = torch.ops.aten
Rule = Callable[..., int]

MAX_UNCOUNTED = 200


def _convolution_backward(
    grad_output: torch.Tensor,
    inputs: torch.Tensor,
    weight: torch.Tensor,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: list[bool],
    **_: Any,
) -> int:
    """Each of the two gradients is a convolution of the forward's cost; the weight's shape carries the groups."""
    forward = conv_flop_count(list(inputs.shape), list(weight.shape), list(grad_output.shape), transposed=transposed)
    return forward * (bool(output_mask[0]) + bool(output_mask[1]))


def _lstm_layer(inputs: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor, *_: Any, **__: Any) -> int:
    steps, batch = inputs.shape[:2]
    return int(2 * steps * batch * (weight_ih.numel() + weight_hh.numel()))


def _product(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return int(2 * left.numel() * (right.shape[-1] if right.ndim > 1 else 1))


def _added_product(_added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> int:
    return _product(left, right)


OWN_RULES: dict[Any, Rule] = {
    aten.convolution_backward: _convolution_backward,
    aten.mkldnn_rnn_layer: _lstm_layer,
    aten.mv: _product,
    aten.addmv: _added_product,
    aten.dot: _product,
    aten.vdot: _product,
    aten.addbmm: _added_product,
    aten._int_mm: _product,
    aten._grouped_mm: _product,
}

PRODUCT = re.compile(r"(^|_|add|addb|baddb|b)mm(_|$)|(^|add)mv(_|$)|^v?dot$")
"""Names of matrix and vector products; `lgamma` is none."""

CLASSES = (
    ("convolution", "conv"),
    ("attention", "attention"),
    ("rnn", "rnn"),
    ("lstm", "rnn"),
    ("norm", "norm"),
    ("copy", "copy"),
    ("clone", "copy"),
    ("embedding", "gather"),
    ("index", "gather"),
    ("gather", "gather"),
)
"""Operator class by a part of the operator's name; the first that fits."""

COMPUTES = re.compile(
    "linalg|fft|conv(?!ert)|rnn|lstm|gru|attention|transformer|quantized|solve|svd|cdist|geqrf|cholesky|inverse|^_trilinear$"
)
"""Names of operators that do real work, beside products: without a rule they are listed as uncounted."""


class OperatorCounter(TorchDispatchMode):
    """Counts everything that runs inside `with counter:`, on this thread and in its backward passes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._phase: Phase = "training"
        self._calls: Counter[tuple[str, str, Phase]] = Counter()
        self._flops: Counter[tuple[str, str, Phase]] = Counter()
        self._bytes: Counter[tuple[str, str, Phase]] = Counter()
        self._uncounted_calls: Counter[str] = Counter()
        self._uncounted_bytes: Counter[str] = Counter()

    def enter(self, phase: Phase) -> None:
        """What follows belongs to `phase`."""
        self._phase = phase

    def counted(self) -> Counted:
        """The counts so far, largest first."""
        keys = sorted(self._calls, key=lambda key: (-self._flops[key], -self._bytes[key], key))
        return Counted(
            operators=[
                OperatorCount(
                    operator_class=key[0],
                    dtype=key[1],
                    phase=key[2],
                    calls=self._calls[key],
                    flops=self._flops[key],
                    bytes=self._bytes[key],
                )
                for key in keys
            ],
            uncounted=[
                UncountedOperator(operator=name[:128], calls=calls, bytes=self._uncounted_bytes[name])
                for name, calls in self._uncounted_calls.most_common(MAX_UNCOUNTED)
            ],
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        own = OWN_RULES.get(packet)
        rule = own or flop_registry.get(packet)
        if rule is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        if func.is_view:
            return out
        flops = int(rule(*args, **kwargs, out_val=out)) if rule is not None else 0
        self._add(str(packet), func.namespace, rule is not None, flops, args, out)
        return out

    def _add(self, name: str, namespace: str, has_rule: bool, flops: int, args: Any, out: Any) -> None:
        tensors = [*_tensors(args), *_tensors(out)]
        if not tensors:
            return
        size = sum(math.prod(tensor.shape) * tensor.element_size() for tensor in tensors)
        short = name.removeprefix("aten.")
        if not has_rule and _computes(namespace, short):
            self._uncounted_calls[name] += 1
            self._uncounted_bytes[name] += size
        operator_class = _operator_class(short, args) if namespace == "aten" else "other"
        key = (operator_class, _dtype(tensors, short, has_rule), self._phase)
        self._calls[key] += 1
        self._flops[key] += flops
        self._bytes[key] += size


def _computes(namespace: str, name: str) -> bool:
    """Whether an operator does work that ought to have a rule: what is foreign to torch is taken to."""
    own = namespace in ("aten", "prim", "prims", "profiler")
    return not own or bool(PRODUCT.search(name) or COMPUTES.search(name))


def _operator_class(name: str, args: Any) -> str:
    found = "gemm" if PRODUCT.search(name) else next((kind for part, kind in CLASSES if part in name), "other")
    if found == "conv" and _is_depthwise(name, args):
        return "depthwise_conv"
    return found


def _is_depthwise(name: str, args: Any) -> bool:
    inputs, weight = (args[1], args[2]) if "backward" in name else (args[0], args[1])
    return bool(weight.ndim > 2 and weight.shape[1] == 1 and inputs.shape[1] > 1)


def _dtype(tensors: "list[torch.Tensor]", name: str, has_rule: bool) -> str:
    """The first floating type among the operands; float32 products on a GPU are told from TF32 ones."""
    tensor = next((tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()), tensors[0])
    if has_rule and tensor.is_cuda and tensor.dtype == torch.float32:
        backend = torch.backends.cudnn if "conv" in name else torch.backends.cuda.matmul
        if backend.allow_tf32:
            return "tf32"
    return str(tensor.dtype).removeprefix("torch.")


def _tensors(values: Any) -> "Iterator[torch.Tensor]":
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
