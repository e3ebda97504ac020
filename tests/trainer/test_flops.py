"""Operations, exact by hand; a multiply-add is two."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kit.protocol import Counted
from kit.trainer.flops import OperatorCounter


def count(work: Callable[[], Any]) -> Counted:
    counter = OperatorCounter()
    with counter:
        work()
    return counter.counted()


def total(counted: Counted, **which: str) -> int:
    return sum(
        entry.flops
        for entry in counted.operators
        if all(getattr(entry, name) == value for name, value in which.items())
    )


def flops(work: Callable[[], Any], **which: str) -> int:
    return total(count(work), **which)


def forward_backward(module: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> tuple[int, int]:
    """Operations of both passes, apart."""
    counter = OperatorCounter()
    with counter:
        loss = module(*inputs).sum()
        counter.enter("optimizer")
        loss.backward()
    counted = counter.counted()
    assert not counted.uncounted
    return total(counted, phase="training"), total(counted, phase="optimizer")


@pytest.mark.parametrize("bias", [False, True])
def test_a_linear_layer_costs_two_per_weight_and_row_and_twice_that_backward(bias: bool) -> None:
    inputs = torch.randn(7, 5, requires_grad=True)
    forward, backward = forward_backward(nn.Linear(5, 3, bias=bias), inputs)
    assert forward == 2 * 7 * 5 * 3
    assert backward == 2 * forward


def test_a_linear_layer_over_sequences_costs_the_same_per_row() -> None:
    assert flops(lambda: nn.Linear(5, 3)(torch.randn(2, 4, 5))) == 2 * 8 * 5 * 3


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_evaluation_without_gradients_costs_what_a_forward_costs(mode: Callable[[], Any]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    images = torch.randn(2, 3, 8, 8)
    with mode():
        assert flops(lambda: model(images)) == 2 * 2 * 4 * 36 * 3 * 9 + 2 * 2 * 4 * 36 * 10


def test_the_first_layer_needs_no_gradient_of_its_input() -> None:
    forward, backward = forward_backward(nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8))
    assert forward == 2 * 2 * 4 * 36 * 3 * 9
    assert backward == forward


@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 4),
    into=st.integers(1, 3),
    out=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
    bias=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_a_convolution_costs_two_per_tap_and_output_and_twice_that_backward(
    batch: int, groups: int, into: int, out: int, kernel: int, stride: int, padding: int, dilation: int, bias: bool
) -> None:
    conv = nn.Conv2d(groups * into, groups * out, kernel, stride, padding, dilation, groups=groups, bias=bias)
    images = torch.randn(batch, groups * into, 8, 7, requires_grad=True)  # as large as the widest kernel
    outputs = conv(images).numel()
    forward, backward = forward_backward(conv, images)
    assert forward == 2 * outputs * into * kernel**2
    assert backward == 2 * forward


def test_an_embedding_looks_up_and_multiplies_nothing_but_one_hot_vectors_are_a_product() -> None:
    embedding, words = nn.Embedding(50, 8), torch.randint(50, (4, 6))
    counted = count(lambda: embedding(words).sum().backward())
    assert total(counted) == 0
    assert not counted.uncounted
    gathers = [row for row in counted.operators if row.operator_class == "gather"]
    assert {(row.backward, row.calls) for row in gathers} == {(False, 1), (True, 1)}
    assert flops(lambda: F.one_hot(words, 50).float() @ embedding.weight) == 2 * 24 * 50 * 8


def test_a_depthwise_convolution_is_counted_apart_and_exactly() -> None:
    images = torch.randn(2, 6, 8, 8, requires_grad=True)
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    counted = count(lambda: conv(images).sum().backward())
    assert total(counted, operator_class="depthwise_conv") == total(counted) == 3 * 2 * 2 * 6 * 64 * 9


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_costs_two_per_tap_and_input(groups: int) -> None:
    images = torch.randn(2, 4, 5, 5, requires_grad=True)
    conv = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
    forward, backward = forward_backward(conv, images)
    assert forward == 2 * images.numel() * (6 // groups) * 9
    assert backward == 2 * forward


@pytest.mark.parametrize("dimensions", [1, 3])
def test_convolutions_of_other_dimensions_are_exact(dimensions: int) -> None:
    conv = (nn.Conv1d if dimensions == 1 else nn.Conv3d)(2, 3, 2)
    images = torch.randn(2, 2, *[5] * dimensions, requires_grad=True)
    forward, backward = forward_backward(conv, images)
    assert forward == 2 * 2 * 3 * 4**dimensions * 2 * 2**dimensions
    assert backward == 2 * forward


def test_a_training_step_costs_three_forwards_less_the_first_layers_input_gradient() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4, 10),
    )
    images, labels = torch.randn(5, 3, 8, 8), torch.arange(5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    first = 2 * 5 * 8 * 64 * 3 * 9
    forward = first + 2 * 5 * 16 * 16 * 8 * 9 + 2 * 5 * 64 * 10
    assert flops(lambda: model(images)) == forward
    counted = count(step)
    assert total(counted) == 3 * forward - first
    assert not counted.uncounted


PRODUCTS: dict[str, tuple[Callable[[], Any], int]] = {
    "mm": (lambda: torch.randn(3, 4) @ torch.randn(4, 5), 2 * 3 * 4 * 5),
    "bmm": (lambda: torch.bmm(torch.randn(2, 3, 4), torch.randn(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
    "baddbmm": (
        lambda: torch.baddbmm(torch.randn(2, 3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)),
        2 * 2 * 3 * 4 * 5,
    ),
    "addbmm": (
        lambda: torch.addbmm(torch.randn(3, 5), torch.randn(2, 3, 4), torch.randn(2, 4, 5)),
        2 * 2 * 3 * 4 * 5,
    ),
    "einsum": (lambda: torch.einsum("bij,bjk->bik", torch.randn(2, 3, 4), torch.randn(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
    "mv": (lambda: torch.randn(3, 4) @ torch.randn(4), 2 * 3 * 4),
    "addmv": (lambda: torch.addmv(torch.randn(3), torch.randn(3, 4), torch.randn(4)), 2 * 3 * 4),
    "dot": (lambda: torch.randn(4) @ torch.randn(4), 2 * 4),
    "outer by mm": (lambda: torch.randn(3, 1) @ torch.randn(1, 5), 2 * 3 * 5),
    "integers": (
        lambda: torch._int_mm(torch.ones(32, 16, dtype=torch.int8), torch.ones(16, 8, dtype=torch.int8)),
        2 * 32 * 16 * 8,
    ),
}


@pytest.mark.parametrize(("work", "expected"), PRODUCTS.values(), ids=PRODUCTS.keys())
def test_a_product_costs_two_per_multiply_add(work: Callable[[], Any], expected: int) -> None:
    counted = count(work)
    assert total(counted, operator_class="gemm") == total(counted) == expected
    assert not counted.uncounted


def test_a_batched_product_costs_twice_backward() -> None:
    left, right = (torch.randn(2, *shape, requires_grad=True) for shape in ((3, 4), (4, 5)))
    forward, backward = forward_backward(torch.bmm, left, right)
    assert backward == 2 * forward == 2 * 2 * 2 * 3 * 4 * 5


@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_an_lstm_costs_its_matrix_products(layers: int, directions: int, training: bool) -> None:
    steps, batch, inputs, hidden = 5, 3, 4, 6
    lstm = nn.LSTM(inputs, hidden, layers, bidirectional=directions == 2)
    first = 4 * hidden * (inputs + hidden)
    further = 4 * hidden * (directions * hidden + hidden)
    expected = 2 * steps * batch * directions * (first + (layers - 1) * further)
    with torch.set_grad_enabled(training):
        assert flops(lambda: lstm(torch.randn(steps, batch, inputs))) == expected


def test_the_backward_of_an_lstm_is_counted_or_listed() -> None:
    lstm = nn.LSTM(4, 6)
    forward = 2 * 5 * 3 * 4 * 6 * (4 + 6)
    counted = count(lambda: lstm(torch.randn(5, 3, 4, requires_grad=True))[0].sum().backward())
    assert total(counted) == 3 * forward or any("rnn" in entry.operator for entry in counted.uncounted)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_costs_its_two_dense_products(causal: bool) -> None:
    query, key, value = (torch.randn(2, 4, 16, 8) for _ in range(3))
    assert (
        flops(lambda: F.scaled_dot_product_attention(query, key, value, is_causal=causal))
        == 2 * 2 * 2 * 4 * 16 * 16 * 8
    )


def test_attention_backward_costs_at_least_twice_its_forward() -> None:
    query, key, value = (torch.randn(2, 4, 16, 8, requires_grad=True) for _ in range(3))
    forward, backward = forward_backward(F.scaled_dot_product_attention, query, key, value)
    assert forward == 4 * 2 * 4 * 16 * 16 * 8
    assert backward in (2 * forward, 2 * forward + forward // 2)


def test_phases_are_counted_apart() -> None:
    counter, layer = OperatorCounter(), nn.Linear(5, 3)
    with counter:
        layer(torch.randn(2, 5))
        counter.enter("evaluation")
        layer(torch.randn(7, 5))
        counter.enter("optimizer")
        torch.randn(4, 4) @ torch.randn(4, 4)
        counter.enter("training")
        layer(torch.randn(1, 5))
    counted = counter.counted()
    assert total(counted, phase="training") == 2 * 3 * 5 * 3
    assert total(counted, phase="evaluation") == 2 * 7 * 5 * 3
    assert total(counted, phase="optimizer") == 2 * 64


def test_what_runs_outside_is_not_counted() -> None:
    counter = OperatorCounter()
    torch.randn(3, 4) @ torch.randn(4, 5)
    with counter:
        pass
    torch.randn(3, 4) @ torch.randn(4, 5)
    assert counter.counted().operators == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_operations_belong_to_the_dtype_they_ran_in(dtype: torch.dtype) -> None:
    counted = count(lambda: torch.randn(3, 4, dtype=dtype) @ torch.randn(4, 5, dtype=dtype))
    assert total(counted, dtype=str(dtype).removeprefix("torch.")) == total(counted) == 2 * 3 * 4 * 5


def test_autocast_is_counted_in_the_dtype_it_casts_to() -> None:
    layer, inputs = nn.Linear(5, 3), torch.randn(7, 5)

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = layer(inputs)
        outputs.sum().backward()

    counted = count(work)
    assert total(counted, dtype="bfloat16") == total(counted) == 2 * 2 * 7 * 5 * 3
    assert total(counted, dtype="float32") == 0


def test_elementwise_work_norms_and_reductions_cost_nothing_but_appear_with_calls_and_bytes() -> None:
    x = torch.randn(4, 8)
    counted = count(lambda: F.layer_norm((x + x).relu().exp() * x, (8,)).softmax(1).sum())
    assert total(counted) == 0
    assert not counted.uncounted
    assert sum(entry.calls for entry in counted.operators) >= 6
    assert sum(entry.bytes for entry in counted.operators) > 6 * x.numel() * 4
    assert any(entry.operator_class == "norm" for entry in counted.operators)


@pytest.mark.parametrize("function", [torch.lgamma, torch.digamma, torch.erf, torch.sigmoid])
def test_elementwise_functions_are_not_listed_as_uncounted(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.rand(8) + 1
    counted = count(lambda: function(x))
    assert not counted.uncounted
    assert {entry.operator_class for entry in counted.operators} == {"elementwise"}


def test_views_are_no_work() -> None:
    x = torch.randn(4, 8)
    assert count(lambda: x.view(8, 4).t()[1:].unsqueeze(0)).operators == []


def test_bytes_are_those_of_operands_and_result() -> None:
    left, right = torch.randn(3, 4), torch.randn(4, 5)
    (entry,) = count(lambda: left @ right).operators
    assert entry.calls == 1
    assert entry.bytes == 4 * (12 + 20 + 15)


def test_calls_of_one_row_lie_in_one_octave_of_operations_and_of_bytes() -> None:
    sizes = [4, 5, 8, 9, 16, 100]
    rows = count(lambda: [torch.randn(size, 8) @ torch.randn(8, 8) for size in sizes]).operators
    products = [row for row in rows if row.operator_class == "gemm"]
    octaves = [((2 * size * 64).bit_length(), (4 * (2 * size * 8 + 64)).bit_length()) for size in sizes]
    assert len(products) == len(set(octaves)) > 3
    for row in products:
        inside = [
            size
            for size, octave in zip(sizes, octaves, strict=True)
            if octave == ((row.flops // row.calls).bit_length(), (row.bytes // row.calls).bit_length())
        ]
        assert (row.calls, row.flops) == (len(inside), sum(2 * size * 64 for size in inside))


def test_kinds_of_backward_passes_stand_in_rows_of_their_own() -> None:
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    conv = nn.Conv2d(3, 4, 3)
    rows = [row for row in count(lambda: conv(images).sum().backward()).operators if row.operator_class == "conv"]
    assert {row.backward: row.flops for row in rows} == {False: rows[-1].flops, True: 2 * rows[-1].flops}


def test_time_inside_operators_adds_up_to_no_more_than_the_whole() -> None:
    layer, attention = nn.Linear(64, 64), nn.MultiheadAttention(64, 4, batch_first=True)
    tokens = torch.randn(8, 16, 64)
    begun_s = perf_counter()
    counted = count(lambda: attention(layer(tokens), tokens, tokens)[0].sum().backward())
    whole_s = perf_counter() - begun_s
    busy_s = [row.busy_s for row in counted.operators]
    assert all(seconds is not None and seconds > 0 for seconds in busy_s)
    assert sum(seconds or 0 for seconds in busy_s) <= whole_s


def test_where_launches_return_early_rows_have_no_time() -> None:
    counter = OperatorCounter(torch.device("cuda"))
    with counter:
        torch.randn(3, 4) @ torch.randn(4, 5)
    assert {row.busy_s for row in counter.counted().operators} == {None}


# ---- what has no rule is listed


@torch.library.custom_op("kit_tests::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x @ x


@torch.library.custom_op("kit_tests::fast_convolution", mutates_args=())
def fast_convolution(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@torch.library.custom_op("kit_tests::convolution_scaled", mutates_args=())
def convolution_scaled(x: torch.Tensor, scale: float) -> torch.Tensor:
    return x * scale


def listed(work: Callable[[], Any]) -> dict[str, int]:
    return {entry.operator: entry.calls for entry in count(work).uncounted}


def test_a_custom_operator_is_listed_with_its_calls_and_bytes() -> None:
    x = torch.randn(4, 4)
    counted = count(lambda: (mystery(x), mystery(x)))
    (entry,) = counted.uncounted
    assert entry.operator == "kit_tests.mystery"
    assert entry.calls == 2
    assert entry.bytes == 2 * 2 * 16 * 4


def test_a_custom_operator_named_like_a_convolution_is_listed() -> None:
    x = torch.randn(4, 4)
    assert listed(lambda: fast_convolution(x)) == {"kit_tests.fast_convolution": 1}
    assert listed(lambda: convolution_scaled(x, 2.0)) == {"kit_tests.convolution_scaled": 1}


def encoder_layer() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        return layer(torch.randn(2, 4, 8))


UNCOUNTED: dict[str, Callable[[], Any]] = {
    "fft": lambda: torch.fft.fft(torch.randn(8)),
    "rfft2": lambda: torch.fft.rfft2(torch.randn(8, 8)),
    "inverse": lambda: torch.linalg.inv(torch.eye(4)),
    "svd": lambda: torch.linalg.svd(torch.randn(4, 4)),
    "solve": lambda: torch.linalg.solve(torch.eye(4), torch.randn(4)),
    "cdist": lambda: torch.cdist(torch.randn(30, 4), torch.randn(30, 4), compute_mode="donot_use_mm_for_euclid_dist"),
    "cdist by products": lambda: torch.cdist(torch.randn(30, 4), torch.randn(30, 4)),
    "bilinear": lambda: nn.Bilinear(3, 4, 5)(torch.randn(2, 3), torch.randn(2, 4)),
    "geqrf": lambda: torch.geqrf(torch.randn(4, 4)),
    "sparse": lambda: torch.eye(4).to_sparse() @ torch.randn(4, 4),
    "compressed sparse": lambda: torch.eye(4).to_sparse_csr() @ torch.randn(4, 4),
    "fused encoder layer": encoder_layer,
}


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
@pytest.mark.parametrize("work", UNCOUNTED.values(), ids=UNCOUNTED.keys())
def test_what_computes_without_a_rule_is_counted_or_listed(work: Callable[[], Any]) -> None:
    counted = count(work)
    assert counted.uncounted or total(counted) > 0
