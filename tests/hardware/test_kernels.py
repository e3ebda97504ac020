"""The suite and the workloads: what is timed is what the counter of records calls by the same name."""

import math
from collections import Counter
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from kit.hardware.calibration.isolate import isolate
from kit.hardware.calibration.kernels import Operands, Program, Series, kernels
from kit.hardware.calibration.settings import Setting, found_settings
from kit.hardware.calibration.suite import SUITE
from kit.hardware.calibration.workloads import LARGE, SMALL, Classifier, operators_of, residual_cnn
from kit.hardware.profile import OperatorClass

CPU = torch.device("cpu")
FLOAT32 = Setting("float32")


def test_forward_and_backward_operators_are_told_apart() -> None:
    images = torch.randn(4, 8, 8, 8, requires_grad=True)
    weight = torch.randn(16, 8, 3, 3, requires_grad=True)
    forward, backward = isolate(lambda: F.conv2d(images, weight, padding=1).sum().backward(), "conv")
    assert (forward.operator, forward.backward) == ("convolution", False)
    assert (backward.operator, backward.backward) == ("convolution_backward", True)
    assert forward.flops == 2 * 4 * 16 * 8 * 9 * 64
    assert backward.flops == 2 * forward.flops
    assert forward.size_bytes == 4 * (images.numel() + weight.numel() + 4 * 16 * 64)


def test_an_isolated_operator_repeats_the_original() -> None:
    left, right = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    (product,) = isolate(lambda: left @ right, "gemm")
    again = product.call()
    assert isinstance(again, torch.Tensor)
    assert torch.equal(again, left @ right)
    assert not again.requires_grad


def runs_lstm(dtype: str) -> bool:
    """Whether oneDNN has it for this processor: in bfloat16 not on all."""
    of = getattr(torch, dtype)
    try:
        with torch.autocast("cpu", of, enabled=of is not torch.float32):
            torch.nn.LSTM(32, 32)(torch.zeros(8, 8, 32))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_suite_has_every_class_and_every_series(dtype: str) -> None:
    """In the smallest sizes, which are quick."""
    setting = Setting(dtype)  # type: ignore[arg-type]
    smallest = [Series(series.name, series.operator_class, series.prepare, series.sizes[:1]) for series in SUITE]
    found = list(kernels(CPU, setting, smallest))
    directions = {(kernel.isolated.operator_class, kernel.isolated.backward) for kernel in found}
    both = {"conv", "depthwise_conv", "attention", "rnn", "norm", "elementwise", "reduction", "gather"}
    lacking = set() if runs_lstm(dtype) else {"rnn"}
    forward = set(get_args(OperatorClass)) - lacking
    assert directions == {(kind, False) for kind in forward} | {(kind, True) for kind in both - lacking}
    assert {kernel.isolated.dtype for kernel in found} == {dtype}
    missing = {series.name for series in SUITE} - {kernel.series.partition(":")[0] for kernel in found}
    # torch has no GRU of one operator on a CPU, and some processors no LSTM in bfloat16.
    assert missing == {"GRU"} | ({"LSTM"} if lacking else set())
    twice = [name for name, times in Counter((k.isolated.operator_class, k.series) for k in found).items() if times > 1]
    assert not twice


@pytest.mark.parametrize("series", SUITE, ids=lambda series: f"{series.operator_class}-{series.name}")
def test_sizes_of_a_series_grow_and_do_not_leap(series: Series) -> None:
    sizes = [math.prod(size) for size in series.sizes]
    assert sizes == sorted(sizes)
    assert len(sizes) >= 5


def test_a_series_ends_where_operands_get_too_large() -> None:
    huge = Series("square", "gemm", _square, ((16,), (1 << 14,), (32,)))
    assert [kernel.isolated.flops for kernel in kernels(CPU, FLOAT32, [huge])] == [2 * 16**3]


def _square(make: Operands, size: int) -> Program:
    left, right = make.of(size, size), make.of(size, size)
    return lambda: left @ right


def test_settings_hold_inside_and_are_undone() -> None:
    threads, onednn = torch.get_num_threads(), torch._C._get_mkldnn_enabled()
    with Setting("float32", threads=threads + 1, onednn=not onednn).applied():
        inside = found_settings()
    assert (inside.threads, inside.onednn) == (threads + 1, not onednn)
    after = found_settings()
    assert (after.threads, after.onednn) == (threads, onednn)


def test_settings_tell_the_environment_that_steers_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    environment = found_settings().environment
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "SECRET_TOKEN" not in environment


@pytest.mark.parametrize("workload", SMALL, ids=lambda workload: workload.name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_workload_trains(workload: Classifier, dtype: str) -> None:
    if workload.name.startswith("lstm") and not runs_lstm(dtype):
        pytest.skip(f"this processor has no LSTM in {dtype}")
    step = workload.make(dtype, CPU)  # type: ignore[arg-type]
    rows = operators_of(step, CPU)
    assert {row.phase for row in rows} == {"training", "optimizer"}
    products = {"gemm", "conv", "depthwise_conv", "attention", "rnn"}
    assert {row.dtype for row in rows if row.operator_class in products and row.flops_per_call} == {dtype}
    assert any(row.backward for row in rows)


def test_a_workload_is_the_same_every_time_and_leaves_torchs_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    rows = [
        [row.model_copy(update={"busy_s": None}) for row in operators_of(SMALL[0].make("float32", CPU), CPU)]
        for _ in range(2)
    ]
    assert rows[0] == rows[1]
    assert torch.equal(torch.rand(1), expected)


def test_workloads_differ_in_what_they_are_made_of() -> None:
    names = [workload.name for workload in (*SMALL, *LARGE)]
    assert len(set(names)) == len(names)
    dominant = set()
    for workload in SMALL:
        rows = operators_of(workload.make("float32", CPU), CPU)
        dominant |= {row.operator_class for row in rows if row.flops_per_call}
    assert dominant == {"gemm", "conv", "depthwise_conv", "attention", "rnn"}


def test_anyone_can_add_a_workload() -> None:
    held_out = Classifier("held_out", lambda: residual_cnn(4), lambda: torch.randn(2, 3, 16, 16), adam=True)
    assert operators_of(held_out.make("float32", CPU), CPU)
