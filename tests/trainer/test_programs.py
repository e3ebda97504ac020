"""One program, written, compiled or run in many ways, costs what it costs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.flop_counter import register_flop_formula

from kit.protocol import Counted
from kit.trainer.counting import Phases, counting
from kit.trainer.flops import OperatorCounter

BATCH, SIDE = 4, 8
IMAGES, LABELS = torch.randn(BATCH, 3, SIDE, SIDE), torch.arange(BATCH)
FIRST = 2 * BATCH * 8 * SIDE**2 * 3 * 9
SECOND = 2 * BATCH * 16 * (SIDE // 2) ** 2 * 8 * 9
LINEAR = 2 * BATCH * 16 * 10
FORWARD = FIRST + SECOND + LINEAR
STEP = 3 * FORWARD - FIRST


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
    )


def count(work: Callable[[], Any]) -> Counted:
    counter = OperatorCounter()
    with counting(Phases(counter)), counter:
        work()
    return counter.counted()


def total(counted: Counted, **which: str) -> int:
    return sum(row.flops for row in counted.operators if all(getattr(row, key) == which[key] for key in which))


def recomputed(counted: Counted) -> int:
    return sum(row.recomputed_flops for row in counted.operators)


def step_of(model: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor = IMAGES) -> Callable[[], None]:
    return lambda: F.cross_entropy(model(images), LABELS[: len(images)]).backward()


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch.compiler.reset()


COMPILED: dict[str, dict[str, Any]] = {
    "default": {},
    "without graph breaks": {"fullgraph": True},
    "aot_eager": {"backend": "aot_eager", "fullgraph": True},
    "dynamic": {"dynamic": True},
}


def test_an_eager_step() -> None:
    counted = count(step_of(network()))
    assert total(counted) == STEP
    assert recomputed(counted) == 0
    assert not counted.uncounted


@pytest.mark.parametrize("options", COMPILED.values(), ids=COMPILED.keys())
def test_a_compiled_step_is_counted_as_the_eager_program(options: dict[str, Any]) -> None:
    assert total(count(step_of(torch.compile(network(), **options)))) == STEP


def test_what_was_compiled_before_is_counted_as_the_eager_program() -> None:
    compiled = torch.compile(network(), backend="aot_eager", fullgraph=True)
    step_of(compiled)()
    assert total(count(step_of(compiled))) == STEP


def test_a_compiled_module_in_place_and_a_compiled_function() -> None:
    model = network()
    model.compile(fullgraph=True)
    assert total(count(step_of(model))) == STEP
    assert total(count(torch.compile(step_of(network()), fullgraph=False))) == STEP


def test_autocast_changes_the_dtype_and_not_the_number() -> None:
    model = network()

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(IMAGES), LABELS)
        loss.backward()

    counted = count(work)
    assert total(counted) == total(counted, dtype="bfloat16") == STEP


def test_channels_last() -> None:
    model = network().to(memory_format=torch.channels_last)
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    assert total(count(step_of(model, images))) == STEP


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_is_counted_as_executed_and_apart(reentrant: bool) -> None:
    model = network()

    def forward(images: torch.Tensor) -> torch.Tensor:
        hidden = model[0](images)
        hidden = torch.utils.checkpoint.checkpoint(model[1], hidden, use_reentrant=reentrant)
        return model[2](hidden)  # type: ignore[no-any-return]

    counted = count(step_of(forward))
    assert total(counted) == STEP + SECOND
    assert recomputed(counted) == SECOND


def test_checkpoints_in_sequence_are_seen_too() -> None:
    model = network()
    counted = count(step_of(lambda images: checkpoint_sequential(model, 3, images, use_reentrant=False)))
    assert total(counted) - recomputed(counted) == STEP
    assert recomputed(counted) == FIRST + SECOND


def test_a_checkpoint_keeps_its_name_and_works_as_before_afterwards() -> None:
    count(step_of(network()))
    assert torch.utils.checkpoint.checkpoint is checkpoint


def test_gradient_accumulation_costs_the_sum_of_its_parts() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def work() -> None:
        for part in IMAGES.split(2):
            step_of(model, part)()
        optimizer.step()

    assert total(count(work)) == STEP


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("foreach", [False, True])
def test_elementwise_optimizers_add_no_operations_but_calls(kind: Any, foreach: bool) -> None:
    model = network()
    optimizer = kind(model.parameters(), lr=0.1, foreach=foreach)

    def work() -> None:
        step_of(model)()
        optimizer.step()

    counted = count(work)
    assert total(counted) == STEP
    assert sum(row.calls for row in counted.operators if row.phase == "optimizer") > 0
    assert not counted.uncounted


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised by five Newton-Schulz steps of three products each."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                x = parameter.grad / parameter.grad.norm()
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                parameter.sub_(0.02 * x)


def test_the_products_of_muon_belong_to_the_optimizer() -> None:
    layer = nn.Linear(12, 6, bias=False)
    optimizer = Muon(layer.parameters())

    def work() -> None:
        layer(torch.randn(5, 12)).sum().backward()
        optimizer.step()

    counted = count(work)
    assert total(counted, phase="training") == 2 * (2 * 5 * 12 * 6)
    assert total(counted, phase="optimizer") == 5 * 2 * (6 * 12 * 6 + 6 * 6 * 6 + 6 * 6 * 12)


def test_the_muon_that_ships_with_torch_costs_five_rounds_of_three_products() -> None:
    layer = nn.Linear(12, 6, bias=False)
    optimizer = torch.optim.Muon(layer.parameters())

    def work() -> None:
        layer(torch.randn(5, 12)).sum().backward()
        optimizer.step()

    assert total(count(work), phase="optimizer") == 5 * 2 * (6 * 12 * 6 + 6 * 6 * 6 + 6 * 6 * 12)


def test_gradients_per_sample_cost_what_those_of_the_batch_do() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * SIDE**2, 10))
    parameters: dict[str, torch.Tensor] = dict(layers.named_parameters())

    def loss(parameters: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        scores = torch.func.functional_call(layers, parameters, (image.unsqueeze(0),))
        return F.cross_entropy(scores, label.unsqueeze(0))

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    linear = 2 * BATCH * 8 * SIDE**2 * 10
    assert total(count(lambda: per_sample(parameters, IMAGES, LABELS))) == 3 * (FIRST + linear) - FIRST


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_a_forward_derivative_costs_three_products_per_layer() -> None:
    """The value, the tangent of the inputs, and the weights' tangent: zero, but torch multiplies by it."""
    first, second = torch.randn(5, 6), torch.randn(6, 7)

    def function(inputs: torch.Tensor) -> torch.Tensor:
        return (inputs @ first).relu() @ second

    inputs = torch.randn(3, 5)
    forward = 2 * 3 * (5 * 6 + 6 * 7)
    assert total(count(lambda: torch.func.jvp(function, (inputs,), (inputs,)))) == 3 * forward


@pytest.mark.parametrize(("of_outputs", "products"), [(torch.sum, 3), (lambda x: x.square().sum(), 6)])
def test_a_gradient_penalty_counts_its_second_backward(of_outputs: Callable[..., torch.Tensor], products: int) -> None:
    """The gradient of x W is W.T once more, of which W has a gradient; that of (x W)^2 depends on x and W twice."""
    weight = torch.randn(6, 4, requires_grad=True)
    inputs = torch.randn(5, 6, requires_grad=True)

    def work() -> None:
        (gradient,) = torch.autograd.grad(of_outputs(inputs @ weight), inputs, create_graph=True)
        gradient.square().sum().backward()

    assert total(count(work)) == products * 2 * 5 * 6 * 4


def test_a_gradient_penalty_through_a_module() -> None:
    model = network()
    images = IMAGES.clone().requires_grad_()

    def work() -> None:
        (gradient,) = torch.autograd.grad(model(images).sum(), images, create_graph=True)
        gradient.square().sum().backward()

    counted = count(work)
    assert not counted.uncounted
    assert total(counted) > 2 * FORWARD


def test_graphs_of_autograd_functions_and_scripts_are_counted() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(left, right)
            return left @ right

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            left, right = ctx.saved_tensors
            return grad @ right.T, left.T @ grad

    left, right = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    assert total(count(lambda: Doubled.apply(left, right).sum().backward())) == 3 * 2 * 3 * 4 * 5


def _rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(network())
    counted = count(step_of(model))
    torch.distributed.destroy_process_group()
    Path(folder, str(rank)).write_text(counted.model_dump_json())


def test_each_of_two_processes_counts_its_own_step(tmp_path: Path) -> None:
    spawn(_rank, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        counted = Counted.model_validate_json((tmp_path / str(rank)).read_text())
        assert total(counted) == STEP
        assert not counted.uncounted


# ---- attention, by backend


@pytest.mark.parametrize("backend", [nn.attention.SDPBackend.MATH, nn.attention.SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention_costs_three_forwards_in_every_backend(backend: Any, heads: tuple[int, int]) -> None:
    rows, columns, width = 16, 24, 8
    query = torch.randn(2, heads[0], rows, width, requires_grad=True)
    key, value = (torch.randn(2, heads[1], columns, width, requires_grad=True) for _ in range(2))

    def work() -> None:
        with nn.attention.sdpa_kernel(backend):
            F.scaled_dot_product_attention(query, key, value, enable_gqa=heads[0] != heads[1]).sum().backward()

    counted = count(work)
    forward = 2 * (2 * 2 * heads[0] * rows * columns * width)
    assert total(counted) - recomputed(counted) == 3 * forward
    assert recomputed(counted) in (0, forward // 2)
    assert not counted.uncounted


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flexible_attention_costs_what_attention_costs() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    query, key, value = (torch.randn(2, 4, 16, 8) for _ in range(3))
    with torch.no_grad():
        counted = count(lambda: flex_attention(query, key, value))
    assert total(counted) == 2 * (2 * 2 * 4 * 16 * 16 * 8)


# ---- recurrent layers


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_recurrent_layer_costs_its_products_and_twice_that_backward(
    kind: Any, gates: int, bidirectional: bool
) -> None:
    steps, batch, inputs, hidden = 5, 3, 4, 6
    layer = kind(inputs, hidden, bidirectional=bidirectional)
    forward = 2 * steps * batch * gates * hidden * (inputs + hidden) * (1 + bidirectional)
    sequences = torch.randn(steps, batch, inputs, requires_grad=True)
    with torch.no_grad():
        assert total(count(lambda: layer(sequences))) == forward
    state = torch.randn(1 + bidirectional, batch, hidden, requires_grad=True)
    start = (state, state.clone()) if kind is nn.LSTM else state
    counted = count(lambda: layer(sequences, start)[0].sum().backward())
    assert total(counted) == 3 * forward
    assert not counted.uncounted


# ---- Fourier transforms and linear algebra


TRANSFORMS: dict[str, tuple[Callable[[], Any], float]] = {
    "complex": (lambda: torch.fft.fft(torch.randn(3, 8, dtype=torch.complex64)), 3 * 5 * 8 * 3),
    "real": (lambda: torch.fft.rfft(torch.randn(3, 8)), 3 * 2.5 * 8 * 3),
    "back to real": (lambda: torch.fft.irfft(torch.randn(3, 5, dtype=torch.complex64), 8), 3 * 2.5 * 8 * 3),
    "two dimensions": (lambda: torch.fft.rfft2(torch.randn(8, 16)), 2.5 * 128 * 7),
    "one point": (lambda: torch.fft.fft(torch.randn(3, 1, dtype=torch.complex64)), 0),
    "cholesky": (lambda: torch.linalg.cholesky(torch.eye(6).expand(2, 6, 6)), 2 * 72),
    "inverse": (lambda: torch.linalg.inv(torch.eye(6)), 2 * 216),
    "solve": (lambda: torch.linalg.solve(torch.eye(6), torch.randn(6, 3)), 144 + 2 * 36 * 3),
    "solve for a vector": (lambda: torch.linalg.solve(torch.eye(6), torch.randn(6)), 144 + 2 * 36),
    "triangular": (lambda: torch.linalg.solve_triangular(torch.eye(6), torch.randn(6, 3), upper=True), 36 * 3),
    "eigenvalues": (lambda: torch.ops.aten._linalg_eigh(torch.eye(6), "L", False), 288),
    "eigenvectors": (lambda: torch.linalg.eigh(torch.eye(6)), 9 * 216),
    "singular values": (lambda: torch.ops.aten._linalg_svd(torch.randn(9, 6), False, False), 4 * 9 * 36 - 288),
    "singular vectors": (
        lambda: torch.linalg.svd(torch.randn(9, 6), full_matrices=False),
        6 * 9 * 36 + 20 * 216,
    ),
    "orthogonal and triangular": (lambda: torch.linalg.qr(torch.randn(9, 6)), 2 * (2 * 36 * 7)),
    "least squares": (
        lambda: torch.linalg.lstsq(torch.randn(9, 6), torch.randn(9, 2)),
        2 * 36 * 7 + (4 * 9 * 6 - 36) * 2,
    ),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5, bias=False)(torch.randn(2, 3), torch.randn(2, 4)), 3 * 2 * 3 * 4 * 5),
    "complex product": (
        lambda: torch.randn(3, 4, dtype=torch.complex64) @ torch.randn(4, 5, dtype=torch.complex64),
        4 * 2 * 3 * 4 * 5,
    ),
}


@pytest.mark.parametrize(("work", "expected"), TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_transforms_and_linear_algebra_cost_their_textbook_terms(work: Callable[[], Any], expected: float) -> None:
    counted = count(work)
    assert total(counted) == round(expected)
    assert not counted.uncounted


def test_the_fused_encoder_layer_costs_what_its_parts_do() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    tokens = torch.randn(3, 5, 8)
    with torch.no_grad():
        fused = count(lambda: layer(tokens))
    apart = count(lambda: layer(tokens.clone().requires_grad_()))
    assert any(row.operator_class == "attention" for row in fused.operators)
    assert total(fused) == total(apart) == 2 * 15 * (4 * 8 * 8 + 2 * 8 * 16) + 4 * 3 * 2 * 5 * 5 * 4


# ---- rules of a submission's own


@torch.library.custom_op("kit_programs::squared", mutates_args=())
def squared(x: torch.Tensor) -> torch.Tensor:
    return x @ x


@torch.library.custom_op("kit_programs::broken", mutates_args=())
def broken(x: torch.Tensor) -> torch.Tensor:
    return x @ x


@torch.library.custom_op("kit_programs::negative", mutates_args=())
def negative(x: torch.Tensor) -> torch.Tensor:
    return x @ x


def test_a_submission_may_give_the_rule_of_its_own_operator() -> None:
    x = torch.randn(4, 4)
    assert [row.operator for row in count(lambda: squared(x)).uncounted] == ["kit_programs.squared"]
    register_flop_formula(torch.ops.kit_programs.squared)(lambda shape, out_shape=None, **_: 2 * shape[0] ** 3)
    counted = count(lambda: squared(x))
    assert total(counted) == 2 * 64
    assert not counted.uncounted
    (row,) = counted.declared
    assert (row.operator, row.calls, row.flops) == ("kit_programs.squared", 1, 128)


@pytest.mark.parametrize(("name", "rule"), [("broken", lambda shape, **_: 1 // 0), ("negative", lambda shape, **_: -5)])
def test_a_rule_that_gives_no_number_leaves_its_operator_listed_with_its_time(name: str, rule: Any) -> None:
    operator = getattr(torch.ops.kit_programs, name)
    register_flop_formula(operator)(rule)
    x = torch.randn(64, 64)
    counted = count(lambda: [operator(x) for _ in range(3)])
    (row,) = counted.uncounted
    assert row.calls == 3
    assert row.busy_s > 0
    assert total(counted) == 0


def test_the_rules_of_torchs_own_operators_cannot_be_replaced() -> None:
    from torch.utils.flop_counter import flop_registry

    before = flop_registry[torch.ops.aten.mm]
    flop_registry[torch.ops.aten.mm] = lambda *_, **__: 0
    try:
        assert total(count(lambda: torch.randn(3, 4) @ torch.randn(4, 5))) == 2 * 3 * 4 * 5
    finally:
        flop_registry[torch.ops.aten.mm] = before


# ---- products in disguise


def test_a_product_spread_out_elementwise_is_listed_with_its_time() -> None:
    left, right = torch.randn(64, 32), torch.randn(32, 48)
    for spread in (
        lambda: (left[:, :, None] * right[None]).sum(1),
        lambda: (left[:, :, None].expand(64, 32, 48) * right.expand(64, 32, 48)).sum(1),
    ):
        (row,) = count(spread).uncounted
        assert row.operator == "aten.mul (broadcast product)"
        assert row.busy_s > 0


def test_ordinary_broadcasting_is_not_listed() -> None:
    images = torch.randn(8, 16, 8, 8)
    counted = count(lambda: (images * torch.randn(16, 1, 1), images * 2, images * images, images * torch.tensor(3.0)))
    assert not counted.uncounted


# ---- CUDA graphs, as far as they go without a GPU


class Graph:
    """Records like torch.cuda.CUDAGraph, and repeats nothing."""

    def capture_begin(self) -> None:
        pass

    def capture_end(self) -> None:
        pass

    def replay(self) -> None:
        pass


def test_what_a_graph_captured_counts_at_each_replay_also_when_it_was_captured_in_setup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    counter, x = OperatorCounter(), torch.randn(4, 4)
    with counting(Phases(counter)):
        graph = Graph()
        graph.capture_begin()
        x @ x
        graph.capture_end()
        x @ x
        with counter:
            for _ in range(3):
                graph.replay()
            counter.enter("evaluation")
            graph.replay()
    counted = counter.counted()
    assert total(counted, phase="training") == 3 * 2 * 64
    assert total(counted, phase="evaluation") == 2 * 64


@pytest.mark.gpu
def test_a_real_graph_counts_at_each_replay() -> None:
    counter = OperatorCounter(torch.device("cuda"))
    x = torch.randn(64, 64, device="cuda")
    x @ x  # the library's own set-up is not to be captured
    with counting(Phases(counter)):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            x @ x
        with counter:
            for _ in range(7):
                graph.replay()
    torch.cuda.synchronize()
    assert total(counter.counted()) == 7 * 2 * 64**3


@pytest.mark.gpu
def test_a_gpu_is_never_counted_above_its_peak() -> None:
    """Without tensor cores: at most 128 multiply-adds per multiprocessor and cycle at the highest clock."""
    import pynvml

    pynvml.nvmlInit()
    clock_hz = 1e6 * pynvml.nvmlDeviceGetMaxClockInfo(pynvml.nvmlDeviceGetHandleByIndex(0), pynvml.NVML_CLOCK_SM)
    peak = 2 * 128 * torch.cuda.get_device_properties(0).multi_processor_count * clock_hz
    left, right = torch.randn(4096, 4096, device="cuda"), torch.randn(4096, 4096, device="cuda")
    allowed, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    counter = OperatorCounter(torch.device("cuda"))
    try:
        left @ right
        torch.cuda.synchronize()
        begun_s = perf_counter()
        with counter:
            for _ in range(20):
                left @ right
        torch.cuda.synchronize()
        took_s = perf_counter() - begun_s
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    counted = counter.counted()
    assert total(counted, dtype="float32") == total(counted) == 20 * 2 * 4096**3
    assert total(counted) <= peak * took_s


@pytest.mark.gpu
def test_a_training_step_on_a_gpu_costs_what_it_costs_on_a_cpu() -> None:
    model = network().cuda()
    images, labels = IMAGES.cuda(), LABELS.cuda()
    counter = OperatorCounter(torch.device("cuda"))
    with counting(Phases(counter)), counter:
        F.cross_entropy(model(images), labels).backward()
    assert total(counter.counted()) == STEP
    assert {row.busy_s for row in counter.counted().operators} == {None}
