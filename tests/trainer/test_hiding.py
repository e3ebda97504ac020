"""Six ways to hide matrix products: each is seen by the counter, the list of uncounted operators or the audit."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import register_flop_formula

from kit.protocol import AuditedWindow, Window
from kit.trainer.auditing import Auditor
from kit.trainer.counting import counting
from kit.trainer.flops import OperatorCounter

SIZE = 96
ONE = 2 * SIZE**3
LEFT, RIGHT = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)


@dataclass
class Seen:
    """What became of a program."""

    flops: int
    uncounted: list[str]
    window: AuditedWindow

    @property
    def audit_agrees(self) -> bool:
        counted, profiled = sum(self.window.counted.values()), sum(self.window.profiled.values())
        return abs(counted - profiled) <= 0.01 * max(counted, profiled)


def see(*work: Callable[[], object]) -> Seen:
    counter = OperatorCounter()
    auditor = Auditor(counter, [Window(first=0, ticks=1)], everywhere=True)
    with counting(auditor), auditor.active():
        for part in work:
            part()
    counted = auditor.counted()
    (window,) = auditor.audited
    return Seen(sum(row.flops for row in counted.operators), [row.operator for row in counted.uncounted], window)


def honest() -> None:
    _ = LEFT @ RIGHT


@torch.library.custom_op("kit_hiding::product", mutates_args=())
def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right


@torch.library.custom_op("kit_hiding::understated", mutates_args=())
def understated(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right


@torch.library.custom_op("kit_hiding::stated", mutates_args=())
def stated(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right


def in_another_thread() -> None:
    thread = threading.Thread(target=honest)
    thread.start()
    thread.join()


def with_modes_disabled() -> None:
    with _disable_current_modes():
        honest()


def by_transform() -> None:
    torch.fft.irfft(torch.fft.rfft(LEFT) * torch.fft.rfft(RIGHT), SIZE)


def by_multiplying_and_summing() -> None:
    (LEFT[:, :, None] * RIGHT[None]).sum(1)


def in_integers() -> None:
    torch._int_mm(LEFT.to(torch.int8), RIGHT.to(torch.int8))


def test_an_honest_program_passes_all_three() -> None:
    layer, images = torch.nn.Conv2d(3, 4, 3, groups=1), torch.randn(2, 3, 8, 8, requires_grad=True)
    seen = see(honest, lambda: layer(images).sum().backward())
    assert seen.flops == ONE + 3 * 2 * 2 * 4 * 36 * 27
    assert seen.uncounted == []
    assert seen.window.counted == seen.window.profiled == {"gemm": ONE, "conv": 3 * 2 * 2 * 4 * 36 * 27}
    assert seen.window.elsewhere_calls == 0
    assert 0 < seen.window.with_rule_s <= seen.window.busy_s


def test_a_product_in_a_custom_operator_is_listed_and_found_by_the_audit() -> None:
    seen = see(honest, lambda: product(LEFT, RIGHT))
    assert seen.flops == ONE
    assert seen.uncounted == ["kit_hiding.product"]
    assert not seen.audit_agrees
    assert seen.window.profiled == {"gemm": 2 * ONE}


def test_a_product_in_another_thread_is_found_by_the_audit() -> None:
    seen = see(honest, in_another_thread)
    assert (seen.flops, seen.uncounted) == (ONE, [])
    assert not seen.audit_agrees
    assert seen.window.elsewhere_flops == ONE
    assert seen.window.elsewhere_calls > 0


def test_a_product_with_modes_disabled_is_found_by_the_audit() -> None:
    seen = see(honest, with_modes_disabled)
    assert (seen.flops, seen.uncounted) == (ONE, [])
    assert not seen.audit_agrees
    assert seen.window.elsewhere_flops == 0


def test_a_convolution_by_fourier_transform_is_counted() -> None:
    assert see(by_transform).flops >= 3 * 2.5 * SIZE**2


def test_a_product_spread_out_elementwise_is_listed() -> None:
    assert see(by_multiplying_and_summing).uncounted == ["aten.mul (broadcast product)"]


def test_a_product_of_integers_is_counted() -> None:
    seen = see(in_integers)
    assert seen.flops == ONE
    assert seen.audit_agrees


@pytest.mark.parametrize(
    ("name", "rule", "declared"),
    [
        ("understated", lambda left, right, *_, out_shape=None, **__: 8, 8),
        ("stated", lambda left, right, *_, out_shape=None, **__: 2 * left[0] * left[1] * right[1], ONE),
    ],
    ids=["understated", "stated"],
)
def test_what_shows_inside_an_operator_with_a_rule_of_its_own_stands_beside_what_it_declares(
    name: str, rule: Callable[..., int], declared: int
) -> None:
    register_flop_formula(getattr(torch.ops.kit_hiding, name))(rule)
    seen = see(honest, lambda: getattr(torch.ops.kit_hiding, name)(LEFT, RIGHT))
    assert seen.window.counted == {"gemm": ONE, "declared": declared}
    assert seen.window.profiled == {"gemm": ONE, "declared": ONE}


def test_windows_lie_where_they_were_asked_for_and_the_rest_is_still_counted() -> None:
    layer = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def steps(auditor: Auditor) -> None:
        with counting(auditor), auditor.active():
            for _ in range(20):
                layer(torch.randn(5, 4)).sum().backward()
                optimizer.step()

    one_step = 2 * (2 * 5 * 4 * 3)
    windows = [Window(first=2, ticks=3), Window(first=10, ticks=4), Window(first=40, ticks=1)]
    for everywhere, expected in ((True, 20), (False, 7)):
        auditor = Auditor(OperatorCounter(), list(windows), everywhere=everywhere)
        steps(auditor)
        assert sum(row.flops for row in auditor.counted().operators) == expected * one_step
        assert [(window.first, window.ticks) for window in auditor.audited] == [(2, 3), (10, 4)]
        for window in auditor.audited:
            assert window.counted == window.profiled == {"gemm": window.ticks * one_step}


def test_models_of_every_kind_are_read_from_the_profile_as_they_are_counted() -> None:
    lstm, gru = torch.nn.LSTM(4, 6), torch.nn.GRU(4, 6)
    depthwise = torch.nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6)
    transposed = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    encoder = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    sequences, tokens = torch.randn(5, 3, 4, requires_grad=True), torch.randn(3, 5, 8, requires_grad=True)

    def infer() -> None:
        with torch.no_grad():
            encoder(tokens)

    seen = see(
        lambda: lstm(sequences)[0].sum().backward(),
        lambda: gru(sequences)[0].sum().backward(),
        lambda: depthwise(torch.randn(2, 6, 8, 8, requires_grad=True)).sum().backward(),
        lambda: transposed(torch.randn(2, 4, 5, 5, requires_grad=True)).sum().backward(),
        lambda: attention(tokens, tokens, tokens, need_weights=False)[0].sum().backward(),
        infer,
        lambda: torch.randn(3, 4, dtype=torch.complex64) @ torch.randn(4, 5, dtype=torch.complex64),
    )
    assert seen.window.counted == seen.window.profiled
    assert set(seen.window.counted) == {"gemm", "conv", "depthwise_conv", "attention", "rnn"}
    assert seen.window.unread == []


@pytest.mark.gpu
def test_the_audit_agrees_with_a_backward_pass_on_a_gpus_own_thread() -> None:
    counter = OperatorCounter(torch.device("cuda"))
    layer, inputs = torch.nn.Linear(64, 32, device="cuda"), torch.randn(16, 64, device="cuda", requires_grad=True)
    auditor = Auditor(counter, [Window(first=0, ticks=1)], everywhere=True)
    with counting(auditor), auditor.active():
        layer(inputs).sum().backward()
        torch.cuda.synchronize()
    (window,) = auditor.audited
    assert window.counted == window.profiled == {"gemm": 3 * 2 * 16 * 64 * 32}
    assert window.elsewhere_flops == 0
