"""Kernels of growing size, one by one: as far as a device carries them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from time import perf_counter

import torch
from torch import Tensor

from kit.hardware.calibration.isolate import Isolated, isolate
from kit.hardware.calibration.settings import TORCH_DTYPES, Setting

LONG_S = 0.003
"""A series ends with the first call that takes longer."""
TRIES = 5
MAX_OPERANDS_BYTES = {"cpu": 96 << 20, "cuda": 1 << 30}
POOL = 1 << 16


@dataclass(frozen=True)
class Kernel:
    """One operator in one shape and dtype."""

    series: str
    isolated: Isolated


class TooLargeError(Exception):
    """A program wants more operands than this kind of device is measured with."""


class Operands:
    """Makes the tensors of one program."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._left = MAX_OPERANDS_BYTES[device.type]

    def of(self, *shape: int) -> Tensor:
        """Random numbers, with a gradient to come.

        Raises:
            TooLargeError: With those made before, this is more than the device's limit.
        """
        count = prod(shape)
        self._left -= count * self.dtype.itemsize
        if self._left < 0:
            raise TooLargeError
        numbers = _pool_of(self.device, self.dtype).repeat(-(-count // POOL))
        return numbers[:count].view(shape).clone().requires_grad_()

    def indices(self, count: int, below: int) -> Tensor:
        """Random integers."""
        return torch.randint(below, (count,), generator=torch.Generator().manual_seed(0)).to(self.device)


@cache
def _pool_of(device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(POOL, generator=torch.Generator().manual_seed(0)).to(device, dtype)


Program = Callable[[], object]
"""What a model would write; its operators are told apart afterwards."""


@dataclass(frozen=True)
class Series:
    """One program in growing sizes, of which the operators of one class are timed."""

    name: str
    operator_class: str
    prepare: Callable[..., Program]
    """Takes `Operands` and a size."""
    sizes: tuple[tuple[int, ...], ...]


def kernels(device: torch.device, setting: Setting, suite: Sequence[Series]) -> Iterator[Kernel]:
    """A suite on one device in one setting: as far as its series go, and where torch has such operators."""
    with setting.applied():
        for series in suite:
            for size in series.sizes:
                found = _isolated(series, size, device, setting)
                yield from found
                if not found or any(_is_long(kernel.isolated, device) for kernel in found):
                    break


def _isolated(series: Series, size: tuple[int, ...], device: torch.device, setting: Setting) -> list[Kernel]:
    try:
        program = series.prepare(Operands(device, TORCH_DTYPES[setting.dtype]), *size)
        operators = isolate(program, series.operator_class)
    except TooLargeError:
        return []
    except RuntimeError as error:  # out of memory, or nobody has written this operator for this dtype and device
        if isinstance(error, (NotImplementedError, torch.OutOfMemoryError)) or "not implemented" in str(error):
            return []
        raise
    kernels, names = [], []
    for isolated in operators:
        if isolated.dtype == setting.dtype:
            names.append(isolated.operator)
            again = names.count(isolated.operator)
            label = f"{series.name}: {isolated.operator}{f' {again}' if again > 1 else ''}"
            kernels.append(Kernel(label, isolated))
    return kernels


def _is_long(isolated: Isolated, device: torch.device) -> bool:
    """Whether no call of several is short: beside a busy neighbour single ones stumble."""
    for _ in range(TRIES):
        synchronise(device)
        begun = perf_counter()
        isolated.call()
        synchronise(device)
        if perf_counter() - begun <= LONG_S:
            return False
    return True


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
