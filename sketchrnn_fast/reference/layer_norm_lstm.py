"""LayerNorm-LSTM with recurrent dropout: the equations in PyTorch, and their derivative.

For each step t, LN normalising over N units with epsilon 1e-3 and the biased variance:

    a = [x_t, s] W_xh + h W_hh                       (no bias: the betas play its role)
    i, j, f, o = split(a), each normalised on its own, then · gamma + beta
    g = tanh(j) · mask / keep_prob
    c = c · σ(f + forget_bias) + σ(i) · g            (carried on without normalisation)
    h = tanh(LN_c(c)) · σ(o)

Sources: Ba et al. 2016, "Layer Normalization"; Magenta's `LayerNormLSTMCell`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.reference import sequence
from sketchrnn_fast.reference.lstm import (
    Options,
    input_products,
    input_products_backward,
    recurrent_masks,
)

EPSILON = 1e-3


class LayerNormLSTMWeights(NamedTuple):
    """The weights in Magenta's layout; X and S are the input's and the static input's widths."""

    w_xh: Tensor  # [X+S, 4N]
    w_hh: Tensor  # [N, 4N]
    ln_all_gamma: Tensor  # [4N]
    ln_all_beta: Tensor  # [4N]
    ln_c_gamma: Tensor  # [N]
    ln_c_beta: Tensor  # [N]

    @property
    def norms(self) -> LayerNorms:
        return LayerNorms(self.ln_all_gamma, self.ln_all_beta, self.ln_c_gamma, self.ln_c_beta)


class LayerNorms(NamedTuple):
    """Scales and shifts of the gates' and of the cell state's layer norm."""

    all_gamma: Tensor  # [4N]
    all_beta: Tensor  # [4N]
    c_gamma: Tensor  # [N]
    c_beta: Tensor  # [N]


class LayerNormLSTMSaved(NamedTuple):
    """What the derivative needs of the forward walk."""

    gates: Tensor  # [T, B, 4N] before the layer norm
    cell: Tensor  # [T, B, N] after each step


def layer_norm_lstm(
    x: Tensor,
    static_input: Tensor | None,
    weights: LayerNormLSTMWeights,
    state: tuple[Tensor, Tensor],
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, tuple[Tensor, Tensor], LayerNormLSTMSaved]:
    """A LayerNorm-LSTM over a whole sequence, differentiable by autograd.

    Arguments and results as `reference.lstm.lstm`.
    """
    dtype = sequence.compute_dtype(x.dtype)
    w = LayerNormLSTMWeights(*(weight.to(dtype) for weight in weights))
    inputs = layer_norm_lstm_inputs(x.to(dtype), static_input, w, lengths)
    masks = recurrent_masks(x, w.w_hh.shape[0], seed, options)

    def step(t: int, state: sequence.State) -> tuple[sequence.State, sequence.State]:
        now = tuple(part[t] for part in inputs)
        mask = None if masks is None else masks[t]
        return layer_norm_lstm_step(now, state, w, mask, options.forget_bias)

    start = (state[0].to(dtype), state[1].to(dtype))
    hidden, (h, c), saved = sequence.scan(step, x.shape[0], start, lengths, options.reverse)
    return hidden.to(x.dtype), (h.to(x.dtype), c), LayerNormLSTMSaved(*saved)


def layer_norm_lstm_inputs(
    x: Tensor, static_input: Tensor | None, w: LayerNormLSTMWeights, lengths: Tensor | None
) -> sequence.State:
    """What the steps take of the input: its share in the gates [T, B, 4N]."""
    return (input_products(x, static_input, w.w_xh, lengths),)


def layer_norm_lstm_step(
    inputs: sequence.State,
    state: sequence.State,
    w: LayerNormLSTMWeights,
    mask: Tensor | None,
    forget_bias: float,
) -> tuple[sequence.State, sequence.State]:
    """One step, as `reference.lstm.lstm_step`."""
    h, c = state
    gates = inputs[0] + h @ w.w_hh
    h, c = cell_step(gates, c, w.norms, mask, forget_bias)
    return (h, c), (gates, c)


def layer_norm_lstm_backward(
    grad_hidden: Tensor,
    grad_state: tuple[Tensor, Tensor],
    hidden: Tensor,
    saved: LayerNormLSTMSaved,
    x: Tensor,
    static_input: Tensor | None,
    weights: LayerNormLSTMWeights,
    state: tuple[Tensor, Tensor],
    lengths: Tensor | None,
    seed: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor | None, LayerNormLSTMWeights, tuple[Tensor, Tensor]]:
    """The gradients of x, static_input, weights and state, from those of hidden and final state."""
    dtype = sequence.compute_dtype(x.dtype)
    w = LayerNormLSTMWeights(*(weight.to(dtype) for weight in weights))
    masks = recurrent_masks(x, w.w_hh.shape[0], seed, options)
    h_before = sequence.before_each_step(
        hidden.to(dtype), state[0].to(dtype), lengths, options.reverse
    )
    c_before = sequence.before_each_step(saved.cell, state[1].to(dtype), lengths, options.reverse)
    grad_norms = [torch.zeros_like(norm) for norm in w.norms]

    def step_backward(t: int, grad: sequence.State) -> tuple[sequence.State, sequence.State]:
        mask = None if masks is None else masks[t]
        grad_h, grad_c = grad
        grad_gates, grad_c, grad_norms_here = cell_step_backward(
            grad_h, grad_c, saved.gates[t], c_before[t], w.norms, mask, options.forget_bias
        )
        for total, here in zip(grad_norms, grad_norms_here, strict=True):
            total += here
        return (grad_gates @ w.w_hh.T, grad_c), (grad_gates,)

    start = (grad_state[0].to(dtype), grad_state[1].to(dtype))
    grad_start, (grad_gates,) = sequence.scan_backward(
        step_backward, grad_hidden.to(dtype), start, lengths, options.reverse
    )
    grad_x, grad_static, grad_w_xh = input_products_backward(
        grad_gates, x.to(dtype), static_input, w.w_xh, lengths
    )
    grad_w_hh = sequence.weight_gradient(h_before, grad_gates)
    grad_weights = LayerNormLSTMWeights(grad_w_xh, grad_w_hh, *grad_norms)
    return grad_x, grad_static, grad_weights, (grad_start[0], grad_start[1])


def cell_step(
    gates: Tensor, c: Tensor, norms: LayerNorms, mask: Tensor | None, forget_bias: float
) -> tuple[Tensor, Tensor]:
    """One step from the gates before their layer norm [B, 4N] and c [B, N] to the new (h, c)."""
    i, j, f, o = (norms.all_gamma * standardise(gates, 4)[0] + norms.all_beta).chunk(4, dim=-1)
    g = torch.tanh(j) if mask is None else torch.tanh(j) * mask
    c = c * torch.sigmoid(f + forget_bias) + torch.sigmoid(i) * g
    h = torch.tanh(norms.c_gamma * standardise(c, 1)[0] + norms.c_beta) * torch.sigmoid(o)
    return h, c


def cell_step_backward(
    grad_h: Tensor,
    grad_c: Tensor,
    gates: Tensor,
    c_before: Tensor,
    norms: LayerNorms,
    mask: Tensor | None,
    forget_bias: float,
) -> tuple[Tensor, Tensor, LayerNorms]:
    """The gradients of `cell_step`'s gates, c and norms, from those of its results."""
    gates_hat, gates_rstd = standardise(gates, 4)
    i, j, f, o = (norms.all_gamma * gates_hat + norms.all_beta).chunk(4, dim=-1)
    i, f, o = torch.sigmoid(i), torch.sigmoid(f + forget_bias), torch.sigmoid(o)
    scale = 1.0 if mask is None else mask
    candidate = torch.tanh(j)
    c_hat, c_rstd = standardise(c_before * f + i * candidate * scale, 1)
    tanh_c = torch.tanh(norms.c_gamma * c_hat + norms.c_beta)

    grad_o = grad_h * tanh_c * o * (1 - o)
    grad_c_norm = grad_h * o * (1 - tanh_c**2)
    grad_c = grad_c + standardise_backward(grad_c_norm * norms.c_gamma, c_hat, c_rstd)
    grad_f = grad_c * c_before * f * (1 - f)
    grad_i = grad_c * candidate * scale * i * (1 - i)
    grad_j = grad_c * i * scale * (1 - candidate**2)
    grad_gates_norm = torch.cat([grad_i, grad_j, grad_f, grad_o], dim=-1)
    grad_gates = standardise_backward(grad_gates_norm * norms.all_gamma, gates_hat, gates_rstd)
    grad_norms = LayerNorms(
        (grad_gates_norm * gates_hat).sum(0),
        grad_gates_norm.sum(0),
        (grad_c_norm * c_hat).sum(0),
        grad_c_norm.sum(0),
    )
    return grad_gates, grad_c * f, grad_norms


def standardise(a: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Each of the row's equal blocks shifted and scaled to mean 0 and variance 1.

    Returns:
        The standardised a [B, blocks · N], and 1 / √(variance + ε) [B, blocks, 1].
    """
    blocked = a.unflatten(-1, (blocks, -1))
    variance, mean = torch.var_mean(blocked, dim=-1, correction=0, keepdim=True)
    rstd = torch.rsqrt(variance + EPSILON)
    return ((blocked - mean) * rstd).flatten(-2), rstd


def standardise_backward(grad: Tensor, hat: Tensor, rstd: Tensor) -> Tensor:
    """The gradient of a from that of `standardise`'s first result."""
    blocks = rstd.shape[-2]
    grad, hat = grad.unflatten(-1, (blocks, -1)), hat.unflatten(-1, (blocks, -1))
    mean_grad = grad.mean(-1, keepdim=True)
    mean_grad_hat = (grad * hat).mean(-1, keepdim=True)
    return (rstd * (grad - mean_grad - hat * mean_grad_hat)).flatten(-2)
