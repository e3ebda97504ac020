"""What operators cost: operations by shape, for every operator that multiplies matrices or does work like it.

Convention: a multiply-add is **two** operations; dense cost, without credit for masks, sparsity or clever algorithms; a
complex multiply-add is four real ones. The table of `torch.utils.flop_counter` serves for what is not here. It is wrong
or silent where a rule here stands (checked with torch 2.15): its weight gradient of grouped and depthwise convolutions
ignores `groups`, grouped-query attention is refused, and matrix-vector products, fused recurrent layers, integer and
grouped products, the fused encoder layer, Fourier transforms and linear algebra count nothing.

Linear algebra is counted by leading terms as in Golub & Van Loan, Matrix Computations (4th edition, 2013): LU 3.2,
Cholesky 4.2, QR 5.2, symmetric eigenproblem 8.3, SVD 8.6, general eigenproblem 7.5. A Fourier transform of n complex
points is 5 n log2 n, half of that for real ones (Frigo & Johnson, 2005: the benchFFT convention).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch._higher_order_ops.flex_attention

aten = torch.ops.aten
Cost = Callable[..., float]
"""Takes the operator's arguments, and its result as `out_val`."""


@dataclass(frozen=True)
class Rule:
    """How an operator is counted."""

    operator_class: str
    flops: Cost
    recomputed: Cost | None = None
    """The part of `flops` that repeats what the forward pass computed already."""
    complex_factor: int = 4
    """Real multiply-adds in one complex one; 1 where `flops` counts real operations anyway."""


# ---- products


def _product(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    packed = 2 if left.dtype == torch.float4_e2m1fn_x2 else 1
    return 2 * packed * left.numel() * (right.shape[-1] if right.ndim > 1 else 1)


def _added_product(_added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    return _product(left, right)


def _grouped_product(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    """Two or three dimensions on either side; rows, columns or the inner dimension are shared out among groups."""
    groups = left.shape[0] if left.ndim == 3 and right.ndim == 2 else 1
    return _product(left, right) // groups


def _packed_product(left: torch.Tensor, *_: Any, out_val: torch.Tensor, **__: Any) -> float:
    return 2 * left.numel() * out_val.shape[-1]


def _trilinear(
    first: torch.Tensor,
    second: torch.Tensor,
    third: torch.Tensor,
    expand_first: list[int],
    expand_second: list[int],
    expand_third: list[int],
    *_: Any,
    **__: Any,
) -> float:
    """Two multiplications and an addition for every element of the product of all three."""
    shapes: list[list[int]] = [
        _expanded(tensor.shape, dims)
        for tensor, dims in ((first, expand_first), (second, expand_second), (third, expand_third))
    ]
    return 3 * int(math.prod([max(sizes) for sizes in zip(*shapes, strict=True)]))


def _expanded(shape: torch.Size, dims: list[int]) -> list[int]:
    sizes = list(shape)
    for dim in sorted(dims):
        sizes.insert(dim, 1)
    return sizes


def _distances(left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    return 2 * left.numel() * right.shape[-2]


def _distances_backward(_grad: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    return _distances(left, right)


# ---- convolutions


def _conv(inputs: torch.Tensor, weight: torch.Tensor, transposed: bool, out: torch.Tensor) -> float:
    """Every output, or every input of a transposed one, meets all taps of one filter; the weight's shape has groups."""
    return 2 * (inputs if transposed else out).numel() * weight[0].numel()


def _convolution(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    *_: Any,
    out_val: torch.Tensor,
    **__: Any,
) -> float:
    return _conv(inputs, weight, transposed, out_val)


def _plain_convolution(inputs: torch.Tensor, weight: torch.Tensor, *_: Any, out_val: torch.Tensor, **__: Any) -> float:
    return _conv(inputs, weight, False, out_val)


def _transposed_convolution(
    inputs: torch.Tensor, weight: torch.Tensor, *_: Any, out_val: torch.Tensor, **__: Any
) -> float:
    return _conv(inputs, weight, True, out_val)


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
) -> float:
    """Each of the two gradients costs what the forward pass did."""
    return _conv(inputs, weight, transposed, grad_output) * (bool(output_mask[0]) + bool(output_mask[1]))


def is_depthwise(tensors: list[torch.Tensor], *, backward: bool) -> bool:
    """Whether a convolution with these operands has one input channel per group."""
    inputs, weight = tensors[backward], tensors[backward + 1]
    return bool(weight.ndim > 2 and weight.shape[1] == 1 and inputs.shape[1] > 1)


# ---- attention


def _scores(query: torch.Tensor, key: torch.Tensor) -> float:
    """One product of queries (..., rows, width) and keys (..., columns, width), per width; heads are the queries'."""
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2]


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> float:
    return _scores(query, key) * (query.shape[-1] + value.shape[-1])


def _attention_backward(
    _grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> float:
    """Gradients of both products, four products in all, and the scores once more."""
    return _scores(query, key) * (3 * query.shape[-1] + 2 * value.shape[-1])


def _attention_scores_again(_grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> float:
    return _scores(query, key) * query.shape[-1]


def _flex_attention_backward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> float:
    return _attention_backward(query, query, key, value)


def _flex_scores_again(query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> float:
    return _attention_scores_again(query, query, key)


def _fused_attention_layer(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    width: int,
    _heads: int,
    *_: Any,
    **__: Any,
) -> float:
    """Three projections in, both products of attention, one projection out."""
    tokens = query.numel() / query.shape[-1]
    projections = 2 * width * (query.numel() + key.numel() + value.numel() + tokens * width)
    return projections + 4 * tokens * key.shape[-2] * width


def _fused_encoder_layer(src: torch.Tensor, width: int, heads: int, *weights: Any, **_: Any) -> float:
    """Attention, then two linear layers."""
    tokens = src.numel() / src.shape[-1]
    feed_forward: int = weights[11].numel() + weights[13].numel()
    return _fused_attention_layer(src, src, src, width, heads) + 2 * tokens * feed_forward


# ---- recurrent layers


def _mkldnn_rnn(inputs: torch.Tensor, weight_ih: torch.Tensor, weight_hh: torch.Tensor, *_: Any, **__: Any) -> float:
    return 2 * math.prod(inputs.shape[:2]) * (weight_ih.numel() + weight_hh.numel())


def _mkldnn_rnn_backward(*args: Any, **_: Any) -> float:
    return 2 * _mkldnn_rnn(*args)


def _cudnn_rnn(inputs: torch.Tensor, weights: list[torch.Tensor], *_: Any, **__: Any) -> float:
    """Every matrix meets every step of every sequence once, in all layers and directions."""
    steps = math.prod(inputs.shape[:-1])
    return 2 * steps * sum(weight.numel() for weight in weights if weight.ndim > 1)


def _cudnn_rnn_backward(*args: Any, **_: Any) -> float:
    return 2 * _cudnn_rnn(*args)


# ---- Fourier transforms


def _fourier(points: int, transformed: int, per_point: float) -> float:
    return per_point * points * math.log2(transformed) if transformed > 1 else 0


def _complex_fourier(inputs: torch.Tensor, dims: list[int], *_: Any, **__: Any) -> float:
    return _fourier(inputs.numel(), math.prod(inputs.shape[dim] for dim in dims), 5)


def _real_fourier(inputs: torch.Tensor, dims: list[int], *_: Any, **__: Any) -> float:
    return _fourier(inputs.numel(), math.prod(inputs.shape[dim] for dim in dims), 2.5)


def _real_fourier_inverse(_inputs: torch.Tensor, dims: list[int], *_: Any, out_val: torch.Tensor, **__: Any) -> float:
    return _fourier(out_val.numel(), math.prod(out_val.shape[dim] for dim in dims), 2.5)


# ---- linear algebra


def _per_matrix(cost: Callable[[int, int], float]) -> Cost:
    """A cost by rows and columns of the first operand's matrices, the larger first."""

    def flops(matrices: torch.Tensor, *_: Any, **__: Any) -> float:
        rows, columns = sorted(matrices.shape[-2:], reverse=True)
        return math.prod(matrices.shape[:-2]) * cost(rows, columns)

    return flops


def _lu(rows: int, columns: int) -> float:
    return rows * columns**2 - columns**3 / 3


def _qr(rows: int, columns: int) -> float:
    return 2 * columns**2 * (rows - columns / 3)


def _svd(matrices: torch.Tensor, full_matrices: bool = False, compute_uv: bool = True, **__: Any) -> float:
    def cost(rows: int, columns: int) -> float:
        if compute_uv:
            return 6 * rows * columns**2 + 20 * columns**3
        return 4 * rows * columns**2 - 4 * columns**3 / 3

    return _per_matrix(cost)(matrices)


def _eigh(matrices: torch.Tensor, _uplo: str = "L", compute_v: bool = True, **__: Any) -> float:
    return _per_matrix(lambda n, _: (9 if compute_v else 4 / 3) * n**3)(matrices)


def _qr_mode(matrices: torch.Tensor, mode: str = "reduced", **__: Any) -> float:
    """The factor R, and Q where it is formed."""
    return _per_matrix(_qr)(matrices) * (1 if mode == "r" else 2)


def _columns(right: torch.Tensor, size: int) -> float:
    """Right-hand sides in `right`, a batch of vectors or matrices of `size` rows (or columns)."""
    return right.numel() / size


def _solve(matrices: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    size = matrices.shape[-1]
    return _per_matrix(_lu)(matrices) + 2 * size**2 * _columns(right, size)


def _substitutions(count: int, *, matrices_first: bool) -> Cost:
    """One triangular solve costs size squared per right-hand side."""

    def flops(first: torch.Tensor, second: torch.Tensor, *_: Any, **__: Any) -> float:
        matrices, right = (first, second) if matrices_first else (second, first)
        size = matrices.shape[-1]
        return count * size**2 * _columns(right, size)

    return flops


def _lu_solve(factors: torch.Tensor, _pivots: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    return _substitutions(2, matrices_first=True)(factors, right)


def _least_squares(matrices: torch.Tensor, right: torch.Tensor, *_: Any, **__: Any) -> float:
    """By QR: the factorisation, and its application to every right-hand side."""
    rows, columns = sorted(matrices.shape[-2:], reverse=True)
    return _per_matrix(_qr)(matrices) + (4 * rows * columns - columns**2) * _columns(right, matrices.shape[-2])


def _each(operators: list[Any], rule: Rule) -> dict[Any, Rule]:
    return dict.fromkeys(operators, rule)


RULES: dict[Any, Rule] = (
    _each(
        [aten.mm, aten.bmm, aten.mv, aten.dot, aten.vdot, aten._int_mm, aten._scaled_mm, aten._scaled_mm_v2],
        Rule("gemm", _product),
    )
    | _each([aten.addmm, aten._addmm_activation, aten.baddbmm, aten.addbmm, aten.addmv], Rule("gemm", _added_product))
    | _each([aten._grouped_mm, aten._scaled_grouped_mm], Rule("gemm", _grouped_product))
    | _each([aten._weight_int8pack_mm, aten._weight_int4pack_mm], Rule("gemm", _packed_product))
    | _each([aten._trilinear], Rule("gemm", _trilinear))
    | _each([aten._cdist_forward, aten._euclidean_dist], Rule("gemm", _distances))
    | _each([aten._cdist_backward], Rule("gemm", _distances_backward))
    | _each([aten.convolution, aten._convolution, aten.convolution_overrideable], Rule("conv", _convolution))
    | _each(
        [
            aten.cudnn_convolution,
            aten.cudnn_convolution_relu,
            aten.cudnn_convolution_add_relu,
            aten.mkldnn_convolution,
            aten._slow_conv2d_forward,
            aten.slow_conv3d_forward,
            aten._conv_depthwise2d,
            aten.conv_depthwise3d,
        ],
        Rule("conv", _plain_convolution),
    )
    | _each([aten.cudnn_convolution_transpose, aten.slow_conv_transpose2d], Rule("conv", _transposed_convolution))
    | _each([aten.convolution_backward], Rule("conv", _convolution_backward))
    | _each(
        [
            aten._scaled_dot_product_efficient_attention,
            aten._scaled_dot_product_flash_attention,
            aten._scaled_dot_product_flash_attention_for_cpu,
            aten._scaled_dot_product_cudnn_attention,
            aten._scaled_dot_product_fused_attention_overrideable,
        ],
        Rule("attention", _attention),
    )
    | _each(
        [
            aten._scaled_dot_product_efficient_attention_backward,
            aten._scaled_dot_product_flash_attention_backward,
            aten._scaled_dot_product_flash_attention_for_cpu_backward,
            aten._scaled_dot_product_cudnn_attention_backward,
            aten._scaled_dot_product_fused_attention_overrideable_backward,
        ],
        Rule("attention", _attention_backward, _attention_scores_again),
    )
    | _each([torch.ops.higher_order.flex_attention], Rule("attention", _attention))
    | _each(
        [torch.ops.higher_order.flex_attention_backward],
        Rule("attention", _flex_attention_backward, _flex_scores_again),
    )
    | _each([aten._native_multi_head_attention], Rule("attention", _fused_attention_layer))
    | _each([aten._transformer_encoder_layer_fwd], Rule("attention", _fused_encoder_layer))
    | _each([aten.mkldnn_rnn_layer], Rule("rnn", _mkldnn_rnn))
    | _each([aten.mkldnn_rnn_layer_backward], Rule("rnn", _mkldnn_rnn_backward))
    | _each([aten._cudnn_rnn], Rule("rnn", _cudnn_rnn))
    | _each([aten._cudnn_rnn_backward], Rule("rnn", _cudnn_rnn_backward))
    | _each([aten._fft_c2c], Rule("other", _complex_fourier, complex_factor=1))
    | _each([aten._fft_r2c], Rule("other", _real_fourier, complex_factor=1))
    | _each([aten._fft_c2r], Rule("other", _real_fourier_inverse, complex_factor=1))
    | _each([aten.linalg_cholesky_ex], Rule("other", _per_matrix(lambda n, _: n**3 / 3)))
    | _each(
        [aten.linalg_lu_factor_ex, aten.linalg_lu, aten._linalg_det, aten._linalg_slogdet],
        Rule("other", _per_matrix(_lu)),
    )
    | _each([aten.linalg_inv_ex], Rule("other", _per_matrix(lambda n, _: 2 * n**3)))
    | _each([aten.cholesky_inverse], Rule("other", _per_matrix(lambda n, _: 2 * n**3 / 3)))
    | _each([aten._linalg_solve_ex], Rule("other", _solve))
    | _each([aten.linalg_lu_solve], Rule("other", _lu_solve))
    | _each([aten.linalg_solve_triangular], Rule("other", _substitutions(1, matrices_first=True)))
    | _each([aten.triangular_solve], Rule("other", _substitutions(1, matrices_first=False)))
    | _each([aten.cholesky_solve], Rule("other", _substitutions(2, matrices_first=False)))
    | _each([aten.linalg_lstsq], Rule("other", _least_squares))
    | _each([aten.geqrf, aten.linalg_householder_product], Rule("other", _per_matrix(_qr)))
    | _each([aten.linalg_qr], Rule("other", _qr_mode))
    | _each([aten._linalg_svd], Rule("other", _svd))
    | _each([aten._linalg_eigh], Rule("other", _eigh))
    | _each([aten.linalg_eig], Rule("other", _per_matrix(lambda n, _: 25 * n**3)))
    | _each([aten._linalg_eigvals], Rule("other", _per_matrix(lambda n, _: 10 * n**3)))
)
"""By operator packet, or by higher-order operator."""
