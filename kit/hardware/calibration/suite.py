"""The suite: which operators are timed, in which shapes.

Shapes are those of training: images, tokens, weights that fit a cache and weights that do not, parameters many and
small. A series grows, up to eightfold at a time, until a call takes long on this device or its operands get large: so
one list serves a laptop and a data-centre GPU.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.hardware.calibration.kernels import Operands, Program, Series

# ---- programs


def _back(out: Tensor) -> None:
    """A backward pass from a gradient of ones."""
    out.backward(torch.ones_like(out))


def _product(make: Operands, rows: int, inner: int, columns: int) -> Program:
    left, right = make.of(rows, inner).detach(), make.of(inner, columns).detach()
    return lambda: left @ right


def _linear(make: Operands, tokens: int, inputs: int, outputs: int) -> Program:
    """With bias, and both products of its backward pass, each of which reads one operand transposed."""
    tensors = make.of(tokens, inputs), make.of(outputs, inputs), make.of(outputs)
    return lambda: _back(F.linear(*tensors))


def _batched(make: Operands, batch: int, rows: int, inner: int, columns: int) -> Program:
    left, right = make.of(batch, rows, inner).detach(), make.of(batch, inner, columns).detach()
    return lambda: torch.bmm(left, right)


def _conv(make: Operands, batch: int, inputs: int, outputs: int, size: int, kernel: int, stride: int) -> Program:
    images, weight = make.of(batch, inputs, size, size), make.of(outputs, inputs, kernel, kernel)
    return lambda: _back(F.conv2d(images, weight, stride=stride, padding=kernel // 2))


def _grouped(make: Operands, batch: int, channels: int, size: int, kernel: int, groups: int) -> Program:
    images, weight = make.of(batch, channels, size, size), make.of(channels, channels // groups, kernel, kernel)
    return lambda: _back(F.conv2d(images, weight, padding=kernel // 2, groups=groups))


def _transposed_conv(make: Operands, batch: int, inputs: int, outputs: int, size: int) -> Program:
    """To twice the size, by kernels of four by four."""
    images, weight = make.of(batch, inputs, size, size), make.of(inputs, outputs, 4, 4)
    return lambda: _back(F.conv_transpose2d(images, weight, stride=2, padding=1))


def _depthwise(make: Operands, batch: int, channels: int, size: int, kernel: int, stride: int) -> Program:
    images, weight = make.of(batch, channels, size, size), make.of(channels, 1, kernel, kernel)
    return lambda: _back(F.conv2d(images, weight, stride=stride, padding=kernel // 2, groups=channels))


def _attention(make: Operands, batch: int, heads: int, tokens: int, width: int, causal: int) -> Program:
    query, key, value = (make.of(batch, heads, tokens, width) for _ in range(3))
    return lambda: _back(F.scaled_dot_product_attention(query, key, value, is_causal=bool(causal)))


def _lstm(make: Operands, batch: int, steps: int, width: int) -> Program:
    return _recurrent(nn.LSTM(width, width, batch_first=True), make, batch, steps, width)


def _gru(make: Operands, batch: int, steps: int, width: int) -> Program:
    """One operator on a GPU; on a CPU torch takes it apart into products and elementwise work."""
    return _recurrent(nn.GRU(width, width, batch_first=True), make, batch, steps, width)


def _recurrent(layer: nn.RNNBase, make: Operands, *shape: int) -> Program:
    layer.to(make.device, make.dtype)
    inputs = make.of(*shape)
    return lambda: _back(layer(inputs)[0])


def _batch_norm(make: Operands, batch: int, channels: int, size: int) -> Program:
    """Images in the dtype measured, parameters in float32, as under autocast."""
    layer, images = nn.BatchNorm2d(channels).to(make.device), make.of(batch, channels, size, size)
    return lambda: _back(layer(images))


def _layer_norm(make: Operands, tokens: int, width: int) -> Program:
    layer, inputs = nn.LayerNorm(width).to(make.device, make.dtype), make.of(tokens, width)
    return lambda: _back(layer(inputs))


def _add(make: Operands, count: int) -> Program:
    left, right = make.of(count).detach(), make.of(count).detach()
    return lambda: left + right


def _on_rows(function: Callable[[Tensor], Tensor]) -> Callable[..., Program]:
    def prepare(make: Operands, rows: int, columns: int) -> Program:
        inputs = make.of(rows, columns)
        return lambda: _back(function(inputs))

    return prepare


def _optimizer(make: Operands, tensors: int, count: int) -> Program:
    """In place over many tensors at once, as torch's optimizers move parameters."""
    parameters = [make.of(count).detach() for _ in range(tensors)]
    gradients = [make.of(count).detach() for _ in range(tensors)]
    return lambda: torch._foreach_add_(parameters, gradients, alpha=1e-6)


def _pool(make: Operands, batch: int, channels: int, size: int) -> Program:
    images = make.of(batch, channels, size, size)
    return lambda: _back(F.max_pool2d(images, 2))


def _embedding(make: Operands, tokens: int, words: int, width: int) -> Program:
    indices, weight = make.indices(tokens, words), make.of(words, width)
    return lambda: _back(F.embedding(indices, weight))


def _rows(make: Operands, taken: int, rows: int, width: int) -> Program:
    indices, table = make.indices(taken, rows), make.of(rows, width).detach()
    return lambda: table[indices]


def _to_channels_last(make: Operands, batch: int, channels: int, size: int) -> Program:
    images = make.of(batch, channels, size, size).detach()
    return lambda: images.contiguous(memory_format=torch.channels_last)


def _cast(make: Operands, count: int) -> Program:
    """To another width, as autocast does with weights."""
    numbers = make.of(count).detach()
    other = torch.bfloat16 if make.dtype == torch.float32 else torch.float32
    return lambda: numbers.to(other)


def _transposed(make: Operands, rows: int, columns: int) -> Program:
    matrix = make.of(rows, columns).detach()
    return lambda: matrix.t().contiguous()


def _joined(make: Operands, count: int) -> Program:
    halves = [make.of(count).detach() for _ in range(2)]
    return lambda: torch.cat(halves)


def _zeroed(make: Operands, count: int) -> Program:
    numbers = make.of(count).detach()
    return numbers.zero_


# ---- sizes

ROWS = tuple(
    (max(1, count >> 8), min(count, 256))
    for count in (1 << 7, 1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)
)
COUNTS = tuple((1 << power,) for power in (4, 8, 11, 14, 16, 18, 20, 22, 24, 26))
FEW_COUNTS = tuple((1 << power,) for power in (6, 9, 12, 15, 18, 20, 22, 24, 26))

SUITE = (
    Series("square", "gemm", _product, tuple((n, n, n) for n in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192))),
    Series("few rows", "gemm", _product, tuple((8, n, n) for n in (64, 160, 400, 1024, 2048, 4096, 8192))),
    Series(
        "linear",
        "gemm",
        _linear,
        (
            (32, 64, 64),
            (128, 128, 128),
            (256, 128, 512),
            (512, 256, 1024),
            (1024, 512, 2048),
            (4096, 768, 3072),
            (16384, 1024, 4096),
        ),
    ),
    Series(
        "narrow output",
        "gemm",
        _linear,
        ((32, 128, 10), (128, 512, 10), (512, 512, 16), (512, 1024, 64), (1024, 2048, 100), (4096, 2048, 200)),
    ),
    Series(
        "batched",
        "gemm",
        _batched,
        (
            (8, 16, 16, 16),
            (16, 32, 32, 32),
            (32, 64, 32, 64),
            (64, 64, 64, 64),
            (64, 128, 64, 128),
            (96, 256, 64, 256),
            (384, 512, 64, 512),
        ),
    ),
    Series(
        "3x3",
        "conv",
        _conv,
        (
            (4, 8, 8, 8, 3, 1),
            (8, 16, 16, 8, 3, 1),
            (8, 32, 32, 16, 3, 1),
            (16, 64, 64, 16, 3, 1),
            (32, 64, 64, 32, 3, 1),
            (64, 128, 128, 32, 3, 1),
            (128, 256, 256, 28, 3, 1),
            (256, 512, 512, 28, 3, 1),
        ),
    ),
    Series(
        "3x3 deep",
        "conv",
        _conv,
        (
            (4, 64, 64, 4, 3, 1),
            (8, 128, 128, 4, 3, 1),
            (16, 128, 128, 8, 3, 1),
            (32, 256, 256, 8, 3, 1),
            (64, 512, 512, 7, 3, 1),
            (256, 512, 512, 14, 3, 1),
        ),
    ),
    Series(
        "3x3 of three channels",
        "conv",
        _conv,
        (
            (4, 3, 8, 8, 3, 1),
            (8, 3, 16, 16, 3, 1),
            (16, 3, 32, 32, 3, 1),
            (32, 3, 64, 32, 3, 1),
            (256, 3, 64, 32, 3, 1),
        ),
    ),
    Series(
        "3x3 stride 2",
        "conv",
        _conv,
        (
            (4, 16, 32, 8, 3, 2),
            (8, 32, 64, 16, 3, 2),
            (16, 64, 128, 16, 3, 2),
            (32, 64, 128, 32, 3, 2),
            (128, 128, 256, 56, 3, 2),
        ),
    ),
    Series(
        "7x7 stride 2",
        "conv",
        _conv,
        (
            (1, 3, 32, 32, 7, 2),
            (2, 3, 64, 64, 7, 2),
            (4, 3, 64, 112, 7, 2),
            (16, 3, 64, 160, 7, 2),
            (64, 3, 64, 224, 7, 2),
        ),
    ),
    Series(
        "1x1",
        "conv",
        _conv,
        (
            (4, 16, 64, 8, 1, 1),
            (8, 32, 64, 16, 1, 1),
            (16, 64, 128, 16, 1, 1),
            (16, 64, 256, 32, 1, 1),
            (32, 256, 256, 32, 1, 1),
            (64, 256, 512, 56, 1, 1),
        ),
    ),
    Series(
        "1x1 narrowing",
        "conv",
        _conv,
        (
            (4, 64, 16, 8, 1, 1),
            (8, 96, 24, 16, 1, 1),
            (16, 96, 24, 32, 1, 1),
            (32, 384, 64, 28, 1, 1),
            (128, 1024, 256, 14, 1, 1),
        ),
    ),
    Series(
        "3x3 in groups",
        "conv",
        _grouped,
        (
            (4, 32, 8, 3, 4),
            (8, 64, 16, 3, 8),
            (16, 128, 16, 3, 8),
            (32, 256, 16, 3, 32),
            (64, 256, 28, 3, 32),
        ),
    ),
    Series(
        "4x4 transposed",
        "conv",
        _transposed_conv,
        (
            (4, 32, 16, 4),
            (8, 64, 32, 8),
            (32, 64, 32, 8),
            (32, 128, 64, 16),
            (64, 256, 128, 28),
        ),
    ),
    Series(
        "3x3",
        "depthwise_conv",
        _depthwise,
        (
            (4, 16, 8, 3, 1),
            (8, 32, 16, 3, 1),
            (16, 128, 8, 3, 1),
            (16, 128, 16, 3, 1),
            (16, 96, 32, 3, 1),
            (64, 192, 32, 3, 1),
            (128, 384, 56, 3, 1),
        ),
    ),
    Series(
        "3x3 stride 2",
        "depthwise_conv",
        _depthwise,
        (
            (4, 32, 8, 3, 2),
            (8, 64, 16, 3, 2),
            (16, 128, 16, 3, 2),
            (16, 96, 32, 3, 2),
            (64, 192, 32, 3, 2),
            (128, 192, 56, 3, 2),
        ),
    ),
    Series(
        "5x5",
        "depthwise_conv",
        _depthwise,
        (
            (4, 16, 8, 5, 1),
            (8, 48, 8, 5, 1),
            (16, 96, 16, 5, 1),
            (64, 192, 28, 5, 1),
            (128, 384, 56, 5, 1),
        ),
    ),
    Series(
        "7x7",
        "depthwise_conv",
        _depthwise,
        (
            (4, 16, 8, 7, 1),
            (8, 48, 8, 7, 1),
            (16, 96, 14, 7, 1),
            (64, 192, 28, 7, 1),
            (128, 384, 56, 7, 1),
        ),
    ),
    Series(
        "full",
        "attention",
        _attention,
        (
            (2, 2, 16, 16, 0),
            (2, 4, 32, 32, 0),
            (4, 4, 64, 32, 0),
            (8, 4, 64, 48, 0),
            (8, 4, 128, 48, 0),
            (8, 6, 256, 64, 0),
            (8, 8, 512, 64, 0),
            (8, 12, 1024, 64, 0),
            (16, 16, 2048, 64, 0),
        ),
    ),
    Series(
        "causal",
        "attention",
        _attention,
        ((2, 4, 32, 32, 1), (4, 4, 64, 48, 1), (8, 4, 128, 48, 1), (8, 6, 256, 64, 1), (8, 12, 1024, 64, 1)),
    ),
    Series(
        "LSTM", "rnn", _lstm, ((8, 8, 32), (16, 16, 64), (16, 32, 128), (32, 32, 192), (64, 64, 256), (128, 128, 512))
    ),
    Series(
        "GRU", "rnn", _gru, ((8, 8, 32), (16, 16, 64), (16, 32, 128), (32, 32, 192), (64, 64, 256), (128, 128, 512))
    ),
    Series(
        "batch norm",
        "norm",
        _batch_norm,
        ((4, 8, 8), (8, 16, 8), (8, 32, 16), (16, 64, 16), (16, 64, 32), (64, 64, 32), (128, 128, 32), (128, 256, 56)),
    ),
    Series(
        "layer norm",
        "norm",
        _layer_norm,
        ((16, 64), (64, 128), (256, 192), (1024, 192), (2048, 512), (8192, 512), (16384, 1024)),
    ),
    Series("add", "elementwise", _add, COUNTS),
    Series("ReLU", "elementwise", _on_rows(F.relu), ROWS),
    Series("GELU", "elementwise", _on_rows(F.gelu), ROWS),
    Series(
        "optimizer",
        "elementwise",
        _optimizer,
        (
            (4, 16),
            (16, 64),
            (16, 512),
            (16, 1 << 12),
            (16, 1 << 14),
            (16, 1 << 16),
            (16, 1 << 18),
            (16, 1 << 20),
            (16, 1 << 22),
        ),
    ),
    Series("sum", "reduction", _on_rows(torch.sum), ROWS),
    Series("sum of columns", "reduction", _on_rows(lambda rows: rows.sum(0)), ROWS),
    Series("softmax", "reduction", _on_rows(lambda rows: rows.log_softmax(1)), ROWS),
    Series(
        "pool", "reduction", _pool, ((4, 8, 8), (8, 16, 16), (16, 32, 16), (16, 64, 32), (64, 64, 32), (128, 128, 56))
    ),
    Series(
        "embedding",
        "gather",
        _embedding,
        ((16, 64, 16), (64, 256, 64), (256, 1000, 64), (1024, 1000, 192), (2048, 4000, 256), (8192, 10000, 512)),
    ),
    Series(
        "rows",
        "gather",
        _rows,
        ((16, 64, 16), (32, 256, 64), (64, 1000, 192), (256, 4000, 192), (512, 5000, 768), (4096, 5000, 3072)),
    ),
    Series(
        "channels last",
        "copy",
        _to_channels_last,
        ((4, 16, 8), (8, 32, 8), (8, 32, 16), (16, 64, 32), (64, 64, 32), (128, 64, 56)),
    ),
    Series("cast", "copy", _cast, FEW_COUNTS),
    Series(
        "transposed",
        "copy",
        _transposed,
        ((16, 16), (64, 64), (128, 256), (512, 512), (1024, 2048), (4096, 4096), (8192, 8192)),
    ),
    Series("joined", "copy", _joined, FEW_COUNTS),
    Series("zeroed", "copy", _zeroed, FEW_COUNTS),
)
