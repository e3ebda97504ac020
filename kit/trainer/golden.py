"""A self-test of the counter at the start of every replay: torch renames operators from version to version.

Each case was worked out by hand; two operations per multiply-add.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from kit.trainer.flops import OperatorCounter


def _linear(device: torch.device) -> int:
    inputs = torch.randn(3, 4, device=device, requires_grad=True)
    nn.Linear(4, 5, device=device)(inputs).sum().backward()
    return 3 * (2 * 3 * 4 * 5)


def _matrix_vector(device: torch.device) -> int:
    _ = torch.randn(3, 4, device=device) @ torch.randn(4, device=device)
    return 2 * 3 * 4


def _grouped_convolution(device: torch.device) -> int:
    images = torch.randn(2, 4, 6, 6, device=device, requires_grad=True)
    nn.Conv2d(4, 8, 3, padding=1, groups=4, device=device)(images).sum().backward()
    return 3 * (2 * 2 * 8 * 36 * 9)


def _transposed_convolution(device: torch.device) -> int:
    images = torch.randn(2, 4, 6, 6, device=device, requires_grad=True)
    nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, device=device)(images).sum().backward()
    return 3 * (2 * 2 * 4 * 36 * 3 * 9)


def _attention(device: torch.device) -> int:
    query, key, value = (torch.randn(2, 4, 16, 8, device=device) for _ in range(3))
    F.scaled_dot_product_attention(query, key, value)
    return 2 * (2 * 2 * 4 * 16 * 16 * 8)


def _lstm(device: torch.device) -> int:
    with torch.no_grad():
        nn.LSTM(4, 6, device=device)(torch.randn(5, 3, 4, device=device))
    return 2 * 5 * 3 * 4 * 6 * (4 + 6)


def _gru(device: torch.device) -> int:
    with torch.no_grad():
        nn.GRU(4, 6, device=device)(torch.randn(5, 3, 4, device=device))
    return 2 * 5 * 3 * 3 * 6 * (4 + 6)


CASES: tuple[Callable[[torch.device], int], ...] = (
    _linear,
    _matrix_vector,
    _grouped_convolution,
    _transposed_convolution,
    _attention,
    _lstm,
    _gru,
)
"""Run something and return its operations."""


def check_counter(device: torch.device) -> None:
    """Count what is known.

    Raises:
        RuntimeError: A count is wrong, so no other one can be believed.
    """
    for case in CASES:
        counter = OperatorCounter(device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), counter:
            expected = case(device)
        counted = counter.counted()
        found = sum(row.flops for row in counted.operators)
        if found != expected or counted.uncounted:
            raise RuntimeError(
                f"the counter does not fit torch {torch.__version__}: {case.__name__.strip('_').replace('_', ' ')} "
                f"gave {found} operations, expected {expected}"
            )
