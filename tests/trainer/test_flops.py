"""Counts against values worked out by hand. A multiply-add is two operations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kit.protocol import Counted
from kit.trainer.flops import OperatorCounter


def counted(work: Callable[[], Any]) -> Counted:
    with OperatorCounter() as counter:
        work()
    count: Counted = counter.counted()
    return count


def total(count: Counted, operator_class: str | None = None) -> int:
    return sum(row.flops for row in count.operators if operator_class in (None, row.operator_class))


@pytest.mark.parametrize(
    ("work", "flops", "operator_class"),
    [
        (lambda: torch.ones(3, 4) @ torch.ones(4, 5), 2 * 3 * 4 * 5, "gemm"),
        (lambda: torch.ones(2, 3, 4) @ torch.ones(2, 4, 5), 2 * 2 * 3 * 4 * 5, "gemm"),
        (lambda: torch.ones(3, 4) @ torch.ones(4), 2 * 3 * 4, "gemm"),
        (lambda: torch.dot(torch.ones(7), torch.ones(7)), 2 * 7, "gemm"),
        (lambda: torch.addmv(torch.ones(3), torch.ones(3, 4), torch.ones(4)), 2 * 3 * 4, "gemm"),
        (lambda: torch.einsum("ij,kj->ik", torch.ones(3, 4), torch.ones(5, 4)), 2 * 3 * 4 * 5, "gemm"),
        (lambda: F.linear(torch.ones(3, 4), torch.ones(5, 4), torch.ones(5)), 2 * 3 * 4 * 5, "gemm"),
        (lambda: F.conv2d(torch.ones(2, 3, 8, 8), torch.ones(5, 3, 3, 3)), 2 * 2 * 5 * 6 * 6 * 3 * 9, "conv"),
        (lambda: F.conv2d(torch.ones(2, 4, 8, 8), torch.ones(6, 2, 3, 3), groups=2), 2 * 2 * 6 * 36 * 2 * 9, "conv"),
        (lambda: F.conv2d(torch.ones(1, 4, 8, 8), torch.ones(4, 1, 3, 3), groups=4), 2 * 4 * 36 * 9, "depthwise_conv"),
        (lambda: F.conv2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3), dilation=2), 2 * 16 * 9, "conv"),
        (lambda: F.conv_transpose2d(torch.ones(1, 2, 4, 4), torch.ones(2, 3, 2, 2)), 2 * 16 * 2 * 3 * 4, "conv"),
    ],
)
def test_one_operator_is_counted_exactly(work: Callable[[], Any], flops: int, operator_class: str) -> None:
    count = counted(work)
    assert total(count) == total(count, operator_class) == flops
    assert count.uncounted == []


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 10)],
        [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=4), nn.Flatten(), nn.Linear(8 * 16, 10)],
        [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(4 * 16, 10)],
    ],
    ids=["plain", "grouped", "depthwise"],
)
def test_a_training_step_is_three_forwards_less_the_first_layers_forward(layers: list[nn.Module]) -> None:
    model, images = nn.Sequential(*layers), torch.randn(2, 3, 8, 8)
    forward = total(counted(lambda: model(images)))
    first_layer = total(counted(lambda: layers[0](images)))
    assert total(counted(lambda: model(images).sum().backward())) == 3 * forward - first_layer


def test_an_lstm_is_counted() -> None:
    lstm, inputs = nn.LSTM(5, 7), torch.randn(3, 2, 5)
    with torch.no_grad():
        assert total(counted(lambda: lstm(inputs))) == 2 * 3 * 2 * 4 * 7 * (5 + 7)


def test_attention_is_two_products() -> None:
    query = torch.randn(2, 4, 16, 8)
    assert total(counted(lambda: F.scaled_dot_product_attention(query, query, query))) == 2 * (2 * 2 * 4 * 16 * 16 * 8)


def test_elementwise_work_has_calls_and_bytes_and_no_operations() -> None:
    count = counted(lambda: torch.ones(10) + torch.ones(10))
    assert total(count) == 0
    assert sum(row.bytes for row in count.operators) >= 3 * 40
    assert count.uncounted == []


def test_phases_are_kept_apart() -> None:
    left = torch.ones(2, 2)
    with OperatorCounter() as counter:
        left @ left
        counter.enter("evaluation")
        left @ left
        left @ left
    by_phase = {row.phase: row.flops for row in counter.counted().operators if row.operator_class == "gemm"}
    assert by_phase == {"training": 16, "evaluation": 32}


def test_the_dtype_is_the_one_computed_in() -> None:
    layer, inputs = nn.Linear(4, 4), torch.randn(2, 4)

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            layer(inputs)

    (row,) = [row for row in counted(work).operators if row.flops]
    assert row.dtype == "bfloat16"


def test_an_operator_that_computes_without_a_rule_is_listed() -> None:
    @torch.library.custom_op("kit_test::hidden", mutates_args=())
    def hidden(values: torch.Tensor) -> torch.Tensor:
        return values @ values

    count = counted(lambda: (hidden(torch.ones(4, 4)), torch.fft.rfft(torch.ones(8))))
    assert {row.operator for row in count.uncounted} == {"kit_test.hidden", "aten._fft_r2c"}
    assert all(row.calls == 1 and row.bytes > 0 for row in count.uncounted)


def test_a_gradient_penalty_is_counted() -> None:
    model, inputs = nn.Linear(3, 1), torch.randn(5, 3, requires_grad=True)

    def work() -> None:
        (gradient,) = torch.autograd.grad(model(inputs).tanh().sum(), inputs, create_graph=True)
        gradient.square().sum().backward()

    assert total(counted(work)) > 2 * 2 * 5 * 3
