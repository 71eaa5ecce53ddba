"""Negative log-likelihood of strokes under the decoder's mixture density, with its gradient.

With n = target - mean, a = n_x / σ_x, b = n_y / σ_y, ρ = tanh(c), r = 1 - ρ²,
d = (a - ρ b)² / r + b², for each of the K Gaussians of a row:

    log N  = -d / 2 - log σ_x - log σ_y - log(r) / 2 - log 2π
    offset = -log(Σ_k π_k N_k + ε)      ε = 1e-6
    pen    = -Σ_j target_j log softmax(pen logits)_j

and with share = π N / (Σ π N + ε) and u = (a - ρ b) / r, v = (b - ρ a) / r, the offset's gradient:

    by logit  π Σ share - share         by mean   -share u / σ_x     -share v / σ_y
    by c      -share (ρ + a b - ρ d)    by log σ   share (1 - a u)    share (1 - b v)

log σ is kept above -20 and c within ±9, and no gradient flows beyond. The sum and ε are joined as
logarithms, relative to the largest of them, so that nothing overflows. Source: Ha & Eck 2017,
section 3.2, and `reference/mixture_density.py`, which this follows.

Layouts, contiguous. Storage is what the caller has; arithmetic and results are COMPUTE, which is
float64 if params is, else float32:

    params         [R, 6K+3]  3 pen logits; K each of logits, means x and y, log σ x and y, c
    target         [R, 5]     offset x and y, the pen's three states
    offset_weight  [R]        factors of the losses; a row of weight 0 is not read, and gets zeros
    pen_weight     [R]
    offset, pen    [R]        out: the weighted losses, in nats
    gradient       [R, 6K+3]  out: of the pen loss in columns 0 to 2, of the offset loss in the rest

Saved for backward is the gradient alone; backward multiplies it with the gradients of the losses.

Why this decomposition: rows are independent, and a row's K Gaussians fit a few registers. One
program takes a block of rows, [ROWS, K padded to a power of two], reads every parameter once and
writes loss and gradient in the same pass; so memory is read and written once, which is the floor.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG_EPSILON = tl.constexpr(math.log(1e-6))
LEAST_LOG_SIGMA = tl.constexpr(-20.0)
MOST_CORRELATION = tl.constexpr(9.0)  # before the tanh
LOG_TWO_PI = tl.constexpr(math.log(2 * math.pi))
MINUS_INFINITY = tl.constexpr(float("-inf"))

# Elements [rows, K padded] of one program, and of one thread of it: the arithmetic keeps some
# twenty values an element, so more would spill.
_TILE = 512
_ELEMENTS_OF_A_THREAD = 4
BACKWARD_ROWS, BACKWARD_COLUMNS = 16, 128


@triton.jit
def _log_softmax(logits):
    """log softmax of each row [ROWS, n]; columns that are padding hold -∞."""
    shifted = logits - tl.max(logits, axis=1)[:, None]
    return shifted - tl.log(tl.sum(tl.exp(shifted), axis=1))[:, None]


@triton.jit
def _tanh_and_sech2(c):
    """tanh(c) and 1 - tanh²(c) without its cancellation, for |c| ≤ MOST_CORRELATION."""
    e = tl.exp(-2 * tl.abs(c))
    tanh = (1 - e) / (1 + e)
    return tl.where(c < 0, -tanh, tanh), 4 * e / ((1 + e) * (1 + e))


@triton.jit
def _shared(share, factor):
    """share · factor, 0 where the share is: there the factor may have overflowed."""
    return tl.where(share == 0, 0.0, share * factor)


@triton.jit
def _pen_rows(
    params_ptr, target_ptr, weight_ptr, pen_ptr, gradient_ptr, row, valid,
    WIDTH: tl.constexpr, SAVE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The pen loss of the rows `row` (int64 [ROWS], where `valid`), and its three columns."""
    weight = tl.load(weight_ptr + row, mask=valid, other=0).to(COMPUTE)
    state = tl.arange(0, 4)[None, :]
    column = row[:, None] * WIDTH + state
    inside = valid[:, None] & (state < 3)
    counts = inside & (weight != 0)[:, None]
    logits = tl.load(params_ptr + column, mask=counts, other=0).to(COMPUTE)
    logits = tl.where(state < 3, logits, MINUS_INFINITY)
    target = tl.load(target_ptr + row[:, None] * 5 + 2 + state, mask=counts, other=0).to(COMPUTE)

    # 0 and not -∞ in the padding, whose target of 0 would make NaN of it.
    log_softmax = tl.where(state < 3, _log_softmax(logits), 0.0)
    loss = -tl.sum(target * log_softmax, axis=1)
    tl.store(pen_ptr + row, weight * loss, mask=valid)
    if SAVE:
        gradient = tl.exp(log_softmax) * tl.sum(target, axis=1)[:, None] - target
        tl.store(gradient_ptr + column, weight[:, None] * gradient, mask=inside)


@triton.jit
def _offset_rows(
    params_ptr, target_ptr, weight_ptr, offset_ptr, gradient_ptr, row, valid,
    WIDTH: tl.constexpr, MIXTURES: tl.constexpr, PADDED: tl.constexpr,
    SAVE: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The offset loss of the rows `row` (int64 [ROWS], where `valid`), and its 6K columns."""
    weight = tl.load(weight_ptr + row, mask=valid, other=0).to(COMPUTE)
    counted = valid & (weight != 0)
    x = tl.load(target_ptr + row * 5, mask=counted, other=0).to(COMPUTE)[:, None]
    y = tl.load(target_ptr + row * 5 + 1, mask=counted, other=0).to(COMPUTE)[:, None]

    # Rows of weight 0 compute with zeros: finite, and so 0 once it is weighted. The padding has
    # logits of -∞, and so shares of 0.
    k = tl.arange(0, PADDED)[None, :]
    column = row[:, None] * WIDTH + 3 + k
    inside = valid[:, None] & (k < MIXTURES)
    counts = inside & counted[:, None]
    pi_logits = tl.load(params_ptr + column, mask=counts, other=0).to(COMPUTE)
    pi_logits = tl.where(k < MIXTURES, pi_logits, MINUS_INFINITY)
    params = params_ptr + column
    mean_x = tl.load(params + MIXTURES, mask=counts, other=0).to(COMPUTE)
    mean_y = tl.load(params + 2 * MIXTURES, mask=counts, other=0).to(COMPUTE)
    log_sigma_x = tl.load(params + 3 * MIXTURES, mask=counts, other=0).to(COMPUTE)
    log_sigma_y = tl.load(params + 4 * MIXTURES, mask=counts, other=0).to(COMPUTE)
    c = tl.load(params + 5 * MIXTURES, mask=counts, other=0).to(COMPUTE)

    # Comparisons, because tl.maximum and tl.clamp would make numbers of NaN.
    below_x, below_y = log_sigma_x < LEAST_LOG_SIGMA, log_sigma_y < LEAST_LOG_SIGMA
    log_sigma_x = tl.where(below_x, LEAST_LOG_SIGMA, log_sigma_x)
    log_sigma_y = tl.where(below_y, LEAST_LOG_SIGMA, log_sigma_y)
    beyond = tl.abs(c) > MOST_CORRELATION
    c = tl.where(beyond, tl.where(c < 0, -MOST_CORRELATION, MOST_CORRELATION), c)

    of_sigma_x, of_sigma_y = tl.exp(-log_sigma_x), tl.exp(-log_sigma_y)
    rho, r = _tanh_and_sech2(c)
    a, b = (x - mean_x) * of_sigma_x, (y - mean_y) * of_sigma_y
    by_a, by_b = (a - rho * b) / r, (b - rho * a) / r
    distance = (a - rho * b) * by_a + b * b
    log_scale = log_sigma_x + log_sigma_y + 0.5 * tl.log(r)
    log_pi = _log_softmax(pi_logits)
    joint = log_pi - 0.5 * distance - log_scale - LOG_TWO_PI

    largest = tl.max(joint, axis=1)
    largest = tl.where(largest < LOG_EPSILON, LOG_EPSILON, largest)
    sums = tl.sum(tl.exp(joint - largest[:, None]), axis=1) + tl.exp(-(largest - LOG_EPSILON))
    log_density = largest + tl.log(sums)
    tl.store(offset_ptr + row, -weight * log_density, mask=valid)
    if SAVE:
        share = tl.exp(joint - log_density[:, None])
        by_logit = tl.exp(log_pi) * tl.sum(share, axis=1)[:, None] - share
        by_correlation = -(rho + a * b - rho * distance)
        weight = weight[:, None]
        gradient = gradient_ptr + column
        tl.store(gradient, weight * by_logit, mask=inside)
        by_mean_x = _shared(share, -by_a * of_sigma_x)
        tl.store(gradient + MIXTURES, weight * by_mean_x, mask=inside)
        by_mean_y = _shared(share, -by_b * of_sigma_y)
        tl.store(gradient + 2 * MIXTURES, weight * by_mean_y, mask=inside)
        by_sigma_x = tl.where(below_x, 0.0, _shared(share, 1 - a * by_a))
        tl.store(gradient + 3 * MIXTURES, weight * by_sigma_x, mask=inside)
        by_sigma_y = tl.where(below_y, 0.0, _shared(share, 1 - b * by_b))
        tl.store(gradient + 4 * MIXTURES, weight * by_sigma_y, mask=inside)
        by_c = tl.where(beyond, 0.0, _shared(share, by_correlation))
        tl.store(gradient + 5 * MIXTURES, weight * by_c, mask=inside)


# R changes from batch to batch and must not compile anew where it happens to be 1 or divisible.
@triton.jit(do_not_specialize=["rows"])
def _mixture_density_kernel(
    params_ptr,  # [R, 6K+3]
    target_ptr,  # [R, 5]
    offset_weight_ptr,  # [R]
    pen_weight_ptr,  # [R]
    offset_ptr,  # COMPUTE [R], out
    pen_ptr,  # COMPUTE [R], out
    gradient_ptr,  # COMPUTE [R, 6K+3], out; not touched unless SAVE
    rows,  # R
    MIXTURES: tl.constexpr,  # K
    PADDED: tl.constexpr,  # K, up to a power of two
    ROWS: tl.constexpr,  # rows of one program
    SAVE: tl.constexpr,  # whether the gradient is wanted
    COMPUTE: tl.constexpr,  # tl.float32 or tl.float64
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    valid = row < rows
    WIDTH: tl.constexpr = 6 * MIXTURES + 3
    _pen_rows(
        params_ptr, target_ptr, pen_weight_ptr, pen_ptr, gradient_ptr, row, valid,
        WIDTH, SAVE, COMPUTE,
    )  # fmt: skip
    _offset_rows(
        params_ptr, target_ptr, offset_weight_ptr, offset_ptr, gradient_ptr, row, valid,
        WIDTH, MIXTURES, PADDED, SAVE, COMPUTE,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows"])
def _mixture_density_backward_kernel(
    grad_offset_ptr,  # [R]
    grad_pen_ptr,  # [R]
    gradient_ptr,  # [R, WIDTH]
    grad_params_ptr,  # [R, WIDTH], out
    rows,  # R
    WIDTH: tl.constexpr,  # 6K+3
    ROWS: tl.constexpr,  # rows of one program
    COLUMNS: tl.constexpr,  # columns of one program
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows) & (column < WIDTH)
    grad_offset = tl.load(grad_offset_ptr + row, mask=row < rows, other=0)
    grad_pen = tl.load(grad_pen_ptr + row, mask=row < rows, other=0)
    gradient = tl.load(gradient_ptr + row * WIDTH + column, mask=inside, other=0)
    grad_params = tl.where(column < 3, grad_pen, grad_offset) * gradient
    tl.store(grad_params_ptr + row * WIDTH + column, grad_params, mask=inside)


def tile(mixtures: int) -> tuple[int, int, int]:
    """For K Gaussians: K padded to a power of two, rows of one program, and its warps."""
    padded = 1 << (mixtures - 1).bit_length()
    rows = max(1, min(_TILE // padded, 128))
    warps = max(4, rows * padded // (32 * _ELEMENTS_OF_A_THREAD))
    return padded, rows, min(warps, 16)


def mixture_density(
    params: Tensor,
    target: Tensor,
    offset_weight: Tensor,
    pen_weight: Tensor,
    offset: Tensor,
    pen: Tensor,
    gradient: Tensor | None,
) -> None:
    """Fill the losses [R] and, unless it is None, the gradient [R, 6K+3].

    Args:
        params: [R, 6K+3], float64, float32, bfloat16 or float16, contiguous as all arguments.
        target: [R, 5]; with both weights [R] in any of these dtypes.
        offset, pen, gradient: filled; float64 if params is, else float32.
    """
    count, width = params.shape
    if count == 0:
        return
    mixtures = (width - 3) // 6
    padded, rows, warps = tile(mixtures)
    with torch.cuda.device_of(params):
        _mixture_density_kernel[(triton.cdiv(count, rows),)](
            params,
            target,
            offset_weight,
            pen_weight,
            offset,
            pen,
            offset if gradient is None else gradient,
            count,
            MIXTURES=mixtures,
            PADDED=padded,
            ROWS=rows,
            SAVE=gradient is not None,
            COMPUTE=tl.float64 if offset.dtype == torch.float64 else tl.float32,
            num_warps=warps,
        )


def mixture_density_backward(
    grad_offset: Tensor, grad_pen: Tensor, gradient: Tensor, grad_params: Tensor
) -> None:
    """Fill grad_params [R, 6K+3] from the losses' gradients [R] and forward's gradient.

    All are float32, or all float64, and contiguous.
    """
    count, width = gradient.shape
    if count == 0:
        return
    grid = (triton.cdiv(count, BACKWARD_ROWS), triton.cdiv(width, BACKWARD_COLUMNS))
    with torch.cuda.device_of(gradient):
        _mixture_density_backward_kernel[grid](
            grad_offset,
            grad_pen,
            gradient,
            grad_params,
            count,
            WIDTH=width,
            ROWS=BACKWARD_ROWS,
            COLUMNS=BACKWARD_COLUMNS,
        )
