"""One step of a gated cell, with and without layer norm, and its derivative, for a tile of rows.

With the gates' products a_i, a_j, a_f, a_o, LN normalising over N units (ε = 1e-3, biased variance)
and every LN left out where NORMALISE is false:

    i, j, f, o = LN(a_i), LN(a_j), LN(a_f), LN(a_o)
    g = tanh(j) · keep
    c' = c · σ(f + forget_bias) + σ(i) · g
    h  = tanh(LN_c(c')) · σ(o)

Every kernel of every recurrent op calls these two functions, so the step is written once. Tiles are
float32 [PADDED, ROWS], where PADDED is N up to a power of two; `inside` marks the units below N.

    norms           float32 [10 N]: gammas of the gates [4N], betas [4N], c's gamma [N] and beta
    norm_gradients  float32 [10 N], in the same order: sums over a program's rows and over time;
                    each program has its own, so that no order of additions is left to chance

Where NORMALISE is false neither is touched.

Sources: Hochreiter & Schmidhuber 1997; Ba et al. 2016; the equations of `reference/`.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (what @triton.jit compiles has no annotations but tl.constexpr)

from __future__ import annotations

import triton
import triton.language as tl

EPSILON = tl.constexpr(1e-3)
NORM_VECTORS = 10  # of N values each, in `norms`


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    """Made of tl.exp: Triton's own tanh is not in its interpreter."""
    e = tl.exp(-2 * tl.abs(x))
    t = (1 - e) / (1 + e)
    return tl.where(x < 0, -t, t)


@triton.jit
def standardise(a, inside, UNITS: tl.constexpr):
    """a with mean 0 and variance 1 in each row, 0 in the padding; and 1 / √(variance + ε)."""
    mean = tl.sum(tl.where(inside, a, 0.0), axis=0)[None, :] / UNITS
    centred = tl.where(inside, a - mean, 0.0)
    rstd = 1 / tl.sqrt(tl.sum(centred * centred, axis=0)[None, :] / UNITS + EPSILON)
    return centred * rstd, rstd


@triton.jit
def standardise_backward(grad, hat, rstd, inside, UNITS: tl.constexpr):
    """The gradient of a from that of `standardise`'s first result."""
    grad = tl.where(inside, grad, 0.0)
    mean = tl.sum(grad, axis=0)[None, :] / UNITS
    mean_hat = tl.sum(grad * hat, axis=0)[None, :] / UNITS
    return rstd * (grad - mean - hat * mean_hat)


@triton.jit
def norm_vector(norms_ptr, which, unit, UNITS: tl.constexpr):
    """Vector `which` of the ten [PADDED, 1]; 0 in the padding."""
    return tl.load(norms_ptr + which * UNITS + unit, mask=unit < UNITS, other=0.0)[:, None]


@triton.jit
def add_norm_gradient(norm_gradients_ptr, which, gradient, unit, UNITS: tl.constexpr):
    """Add the sum over the rows of `gradient` to the program's own vector `which`."""
    pointer = norm_gradients_ptr + which * UNITS + unit
    total = tl.load(pointer, mask=unit < UNITS, other=0.0) + tl.sum(gradient, axis=1)
    tl.store(pointer, total, mask=unit < UNITS)


@triton.jit
def step(
    i, j, f, o, c, keep, norms_ptr, forget_bias, unit, UNITS: tl.constexpr, NORMALISE: tl.constexpr
):  # fmt: skip
    """The new (h, c) from the gates' products, c, and dropout's factors (0 or 1 / keep_prob)."""
    inside = (unit < UNITS)[:, None]
    if NORMALISE:
        i = standardise(i, inside, UNITS)[0] * norm_vector(norms_ptr, 0, unit, UNITS)
        j = standardise(j, inside, UNITS)[0] * norm_vector(norms_ptr, 1, unit, UNITS)
        f = standardise(f, inside, UNITS)[0] * norm_vector(norms_ptr, 2, unit, UNITS)
        o = standardise(o, inside, UNITS)[0] * norm_vector(norms_ptr, 3, unit, UNITS)
        i += norm_vector(norms_ptr, 4, unit, UNITS)
        j += norm_vector(norms_ptr, 5, unit, UNITS)
        f += norm_vector(norms_ptr, 6, unit, UNITS)
        o += norm_vector(norms_ptr, 7, unit, UNITS)
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * tanh(j) * keep
    out = c
    if NORMALISE:
        out = standardise(c, inside, UNITS)[0] * norm_vector(norms_ptr, 8, unit, UNITS)
        out += norm_vector(norms_ptr, 9, unit, UNITS)
    return tanh(out) * sigmoid(o), c


@triton.jit
def step_backward(
    i, j, f, o, c, keep, grad_h, grad_c, norms_ptr, norm_gradients_ptr, forget_bias, unit,
    UNITS: tl.constexpr, NORMALISE: tl.constexpr,
):  # fmt: skip
    """The gradients of the four products and of c, from those of the new (h, c).

    Args:
        i, j, f, o, c, keep: what `step` took.
        grad_h, grad_c: 0 in rows that do not take part, which then add nothing to the norms'.
    """
    inside = (unit < UNITS)[:, None]
    if NORMALISE:
        i_hat, i_rstd = standardise(i, inside, UNITS)
        j_hat, j_rstd = standardise(j, inside, UNITS)
        f_hat, f_rstd = standardise(f, inside, UNITS)
        o_hat, o_rstd = standardise(o, inside, UNITS)
        i_gamma = norm_vector(norms_ptr, 0, unit, UNITS)
        j_gamma = norm_vector(norms_ptr, 1, unit, UNITS)
        f_gamma = norm_vector(norms_ptr, 2, unit, UNITS)
        o_gamma = norm_vector(norms_ptr, 3, unit, UNITS)
        i = i_hat * i_gamma + norm_vector(norms_ptr, 4, unit, UNITS)
        j = j_hat * j_gamma + norm_vector(norms_ptr, 5, unit, UNITS)
        f = f_hat * f_gamma + norm_vector(norms_ptr, 6, unit, UNITS)
        o = o_hat * o_gamma + norm_vector(norms_ptr, 7, unit, UNITS)
    i = sigmoid(i)
    f = sigmoid(f + forget_bias)
    o = sigmoid(o)
    candidate = tanh(j)
    out = c * f + i * candidate * keep
    if NORMALISE:
        c_hat, c_rstd = standardise(out, inside, UNITS)
        c_gamma = norm_vector(norms_ptr, 8, unit, UNITS)
        out = c_hat * c_gamma + norm_vector(norms_ptr, 9, unit, UNITS)
    tanh_c = tanh(out)

    grad_o = grad_h * tanh_c * o * (1 - o)
    grad_out = grad_h * o * (1 - tanh_c * tanh_c)
    if NORMALISE:
        add_norm_gradient(norm_gradients_ptr, 8, grad_out * c_hat, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 9, grad_out, unit, UNITS)
        grad_out = standardise_backward(grad_out * c_gamma, c_hat, c_rstd, inside, UNITS)
    grad_c += grad_out
    grad_f = grad_c * c * f * (1 - f)
    grad_i = grad_c * candidate * keep * i * (1 - i)
    grad_j = grad_c * i * keep * (1 - candidate * candidate)
    if NORMALISE:
        add_norm_gradient(norm_gradients_ptr, 0, grad_i * i_hat, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 1, grad_j * j_hat, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 2, grad_f * f_hat, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 3, grad_o * o_hat, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 4, grad_i, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 5, grad_j, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 6, grad_f, unit, UNITS)
        add_norm_gradient(norm_gradients_ptr, 7, grad_o, unit, UNITS)
        grad_i = standardise_backward(grad_i * i_gamma, i_hat, i_rstd, inside, UNITS)
        grad_j = standardise_backward(grad_j * j_gamma, j_hat, j_rstd, inside, UNITS)
        grad_f = standardise_backward(grad_f * f_gamma, f_hat, f_rstd, inside, UNITS)
        grad_o = standardise_backward(grad_o * o_gamma, o_hat, o_rstd, inside, UNITS)
    return grad_i, grad_j, grad_f, grad_o, grad_c * f
