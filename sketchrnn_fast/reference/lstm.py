"""LSTM with recurrent dropout: the equations in PyTorch, and their derivative written out.

For each step t, with [x, s] the concatenation of the input and the static input:

    a = [x_t, s] W_xh + h W_hh + bias ;  i, j, f, o = split(a)
    g = tanh(j) · mask / keep_prob
    c = c · σ(f + forget_bias) + σ(i) · g
    h = tanh(c) · σ(o)

Sources: Hochreiter & Schmidhuber 1997; recurrent dropout as Semeniuta et al. 2016; gate order and
weight layout as Magenta's `LSTMCell`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.reference import sequence
from sketchrnn_fast.reference.philox import dropout_scale


class LSTMWeights(NamedTuple):
    """The weights in Magenta's layout; X and S are the input's and the static input's widths."""

    w_xh: Tensor  # [X+S, 4N]
    w_hh: Tensor  # [N, 4N]
    bias: Tensor  # [4N]


class LSTMSaved(NamedTuple):
    """What the derivative needs of the forward walk."""

    gates: Tensor  # [T, B, 4N] before the nonlinearities
    cell: Tensor  # [T, B, N] after each step


class Options(NamedTuple):
    """How a recurrent layer runs; the same for every cell."""

    reverse: bool = False
    forget_bias: float = 1.0
    keep_prob: float = 1.0
    row_offset: int = 0


def lstm(
    x: Tensor,
    static_input: Tensor | None,
    weights: LSTMWeights,
    state: tuple[Tensor, Tensor],
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, tuple[Tensor, Tensor], LSTMSaved]:
    """An LSTM over a whole sequence, differentiable by autograd.

    Args:
        x: [T, B, X].
        static_input: [B, S], the same at every step, or None.
        state: (h, c) before the first step, each [B, N].
        lengths: int64 [B], or None if every row lasts T steps.
        seed: int64 [1], the key of the dropout masks; needed if keep_prob < 1.

    Returns:
        hidden [T, B, N] in x's dtype; the final (h, c), h in x's dtype and c in at least float32;
        what `lstm_backward` needs.
    """
    dtype = sequence.compute_dtype(x.dtype)
    w = LSTMWeights(*(weight.to(dtype) for weight in weights))
    inputs = lstm_inputs(x.to(dtype), static_input, w, lengths)
    masks = recurrent_masks(x, w.w_hh.shape[0], seed, options)

    def step(t: int, state: sequence.State) -> tuple[sequence.State, sequence.State]:
        now = tuple(part[t] for part in inputs)
        return lstm_step(now, state, w, None if masks is None else masks[t], options.forget_bias)

    start = (state[0].to(dtype), state[1].to(dtype))
    hidden, (h, c), saved = sequence.scan(step, x.shape[0], start, lengths, options.reverse)
    return hidden.to(x.dtype), (h.to(x.dtype), c), LSTMSaved(*saved)


def lstm_inputs(
    x: Tensor, static_input: Tensor | None, w: LSTMWeights, lengths: Tensor | None
) -> sequence.State:
    """What the steps take of the input: its share in the gates [T, B, 4N]."""
    return (input_products(x, static_input, w.w_xh, lengths) + w.bias,)


def lstm_step(
    inputs: sequence.State,
    state: sequence.State,
    w: LSTMWeights,
    mask: Tensor | None,
    forget_bias: float,
) -> tuple[sequence.State, sequence.State]:
    """One step: the new (h, c), and what the derivative needs of it.

    Args:
        inputs: what `lstm_inputs` gives, of this step.
        mask: the factors of recurrent dropout [B, N], or None.
    """
    h, c = state
    gates = inputs[0] + h @ w.w_hh
    i, j, f, o = gates.chunk(4, dim=-1)
    g = torch.tanh(j) if mask is None else torch.tanh(j) * mask
    c = c * torch.sigmoid(f + forget_bias) + torch.sigmoid(i) * g
    h = torch.tanh(c) * torch.sigmoid(o)
    return (h, c), (gates, c)


def lstm_backward(
    grad_hidden: Tensor,
    grad_state: tuple[Tensor, Tensor],
    hidden: Tensor,
    saved: LSTMSaved,
    x: Tensor,
    static_input: Tensor | None,
    weights: LSTMWeights,
    state: tuple[Tensor, Tensor],
    lengths: Tensor | None,
    seed: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor | None, LSTMWeights, tuple[Tensor, Tensor]]:
    """The gradients of x, static_input, weights and state, from those of hidden and final state."""
    dtype = sequence.compute_dtype(x.dtype)
    w = LSTMWeights(*(weight.to(dtype) for weight in weights))
    masks = recurrent_masks(x, w.w_hh.shape[0], seed, options)
    h_before = sequence.before_each_step(
        hidden.to(dtype), state[0].to(dtype), lengths, options.reverse
    )
    c_before = sequence.before_each_step(saved.cell, state[1].to(dtype), lengths, options.reverse)

    def step_backward(t: int, grad: sequence.State) -> tuple[sequence.State, sequence.State]:
        grad_h, grad_c = grad
        i, j, f, o = saved.gates[t].chunk(4, dim=-1)
        i, o = torch.sigmoid(i), torch.sigmoid(o)
        f = torch.sigmoid(f + options.forget_bias)
        scale = 1.0 if masks is None else masks[t]
        candidate = torch.tanh(j)
        tanh_c = torch.tanh(saved.cell[t])

        grad_o = grad_h * tanh_c * o * (1 - o)
        grad_c = grad_c + grad_h * o * (1 - tanh_c**2)
        grad_f = grad_c * c_before[t] * f * (1 - f)
        grad_i = grad_c * candidate * scale * i * (1 - i)
        grad_j = grad_c * i * scale * (1 - candidate**2)
        grad_gates = torch.cat([grad_i, grad_j, grad_f, grad_o], dim=-1)
        return (grad_gates @ w.w_hh.T, grad_c * f), (grad_gates,)

    start = (grad_state[0].to(dtype), grad_state[1].to(dtype))
    grad_start, (grad_gates,) = sequence.scan_backward(
        step_backward, grad_hidden.to(dtype), start, lengths, options.reverse
    )
    grad_x, grad_static, grad_w_xh = input_products_backward(
        grad_gates, x.to(dtype), static_input, w.w_xh, lengths
    )
    grad_weights = LSTMWeights(
        w_xh=grad_w_xh,
        w_hh=sequence.weight_gradient(h_before, grad_gates),
        bias=grad_gates.sum((0, 1)),
    )
    return grad_x, grad_static, grad_weights, (grad_start[0], grad_start[1])


def recurrent_masks(x: Tensor, units: int, seed: Tensor | None, options: Options) -> Tensor | None:
    """The factors of recurrent dropout [T, B, units], or None without dropout."""
    return dropout_scale(
        seed,
        x.shape[0],
        x.shape[1],
        units,
        options.keep_prob,
        sequence.compute_dtype(x.dtype),
        row_offset=options.row_offset,
    )


def input_products(
    x: Tensor, static_input: Tensor | None, w_xh: Tensor, lengths: Tensor | None
) -> Tensor:
    """[x_t, s] W for every step [T, B, ·]; the static input's share is one product for all."""
    x = sequence.zero_past_end(x, lengths)
    if static_input is None:
        return x @ w_xh
    w_x, w_static = w_xh.split([x.shape[-1], static_input.shape[-1]])
    products: Tensor = x @ w_x + static_input.to(x.dtype) @ w_static
    return products


def input_products_backward(
    grad: Tensor, x: Tensor, static_input: Tensor | None, w_xh: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The gradients of x, static_input and W from that of `input_products`."""
    x = sequence.zero_past_end(x, lengths)
    if static_input is None:
        return grad @ w_xh.T, None, sequence.weight_gradient(x, grad)
    w_x, w_static = w_xh.split([x.shape[-1], static_input.shape[-1]])
    grad_over_time = grad.sum(0)
    grad_w_xh = torch.cat(
        [sequence.weight_gradient(x, grad), static_input.to(x.dtype).T @ grad_over_time]
    )
    return grad @ w_x.T, grad_over_time @ w_static.T, grad_w_xh
