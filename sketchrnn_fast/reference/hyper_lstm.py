"""HyperLSTM with recurrent dropout: the equations in PyTorch, and their derivative.

A small LayerNorm-LSTM of H units (the hyper cell, its values written with a hat) reads the main
cell's input and hidden state, and its output scales the main cell's gates. For each step t and
each gate g of i, j, f, o:

    ĥ, ĉ = LayerNormLSTM([x_t, s, h], (ĥ, ĉ))        (first; its new output is used below)
    p = [x_t, s] W_xh ;  r = h W_hh                  (split into gates)
    α^x_g = (ĥ Z^x_g + z^x_g) A^x_g                  [E] then [N]
    α^h_g = (ĥ Z^h_g + z^h_g) A^h_g
    β_g   = (ĥ Z^b_g) B_g
    a_g   = α^x_g · p_g + α^h_g · r_g + β_g + bias_g
    then layer norm, dropout, c and h exactly as the LayerNorm-LSTM

The hyper cell has no dropout. Sources: Ha, Dai & Le 2016, "HyperNetworks", appendix A.2.3;
Magenta's `HyperLSTMCell`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.reference import sequence
from sketchrnn_fast.reference.layer_norm_lstm import (
    LayerNorms,
    cell_step,
    cell_step_backward,
)
from sketchrnn_fast.reference.lstm import (
    Options,
    input_products,
    input_products_backward,
    recurrent_masks,
)


class HyperLSTMWeights(NamedTuple):
    """The weights in Magenta's layout; matrices of one kind are stacked over the gates i, j, f, o.

    X and S are the input's and the static input's widths, E the size of the embedding.
    """

    w_xh: Tensor  # [X+S, 4N]
    w_hh: Tensor  # [N, 4N]
    bias: Tensor  # [4N]
    ln_all_gamma: Tensor  # [4N]
    ln_all_beta: Tensor  # [4N]
    ln_c_gamma: Tensor  # [N]
    ln_c_beta: Tensor  # [N]
    hyper_w_xh: Tensor  # [X+S+N, 4H]
    hyper_w_hh: Tensor  # [H, 4H]
    hyper_ln_all_gamma: Tensor  # [4H]
    hyper_ln_all_beta: Tensor  # [4H]
    hyper_ln_c_gamma: Tensor  # [H]
    hyper_ln_c_beta: Tensor  # [H]
    x_embedding: Tensor  # [4, H, E], Z^x
    x_embedding_bias: Tensor  # [4, E], z^x
    x_alpha: Tensor  # [4, E, N], A^x
    h_embedding: Tensor  # [4, H, E], Z^h
    h_embedding_bias: Tensor  # [4, E], z^h
    h_alpha: Tensor  # [4, E, N], A^h
    b_embedding: Tensor  # [4, H, E], Z^b
    b_beta: Tensor  # [4, E, N], B

    @property
    def norms(self) -> LayerNorms:
        return LayerNorms(self.ln_all_gamma, self.ln_all_beta, self.ln_c_gamma, self.ln_c_beta)

    @property
    def hyper_norms(self) -> LayerNorms:
        return LayerNorms(
            self.hyper_ln_all_gamma,
            self.hyper_ln_all_beta,
            self.hyper_ln_c_gamma,
            self.hyper_ln_c_beta,
        )


class HyperLSTMSaved(NamedTuple):
    """What the derivative needs of the forward walk."""

    gates: Tensor  # [T, B, 4N] before the layer norm
    cell: Tensor  # [T, B, N] after each step
    hyper_gates: Tensor  # [T, B, 4H] before the layer norm
    hyper_hidden: Tensor  # [T, B, H] after each step
    hyper_cell: Tensor  # [T, B, H] after each step


HyperState = tuple[Tensor, Tensor, Tensor, Tensor]


def hyper_lstm(
    x: Tensor,
    static_input: Tensor | None,
    weights: HyperLSTMWeights,
    state: HyperState,
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, HyperState, HyperLSTMSaved]:
    """A HyperLSTM over a whole sequence, differentiable by autograd.

    Arguments and results as `reference.lstm.lstm`, but for the state: (h, c, h_hyper, c_hyper) of
    shapes [B, N], [B, N], [B, H], [B, H].
    """
    dtype = sequence.compute_dtype(x.dtype)
    w = HyperLSTMWeights(*(weight.to(dtype) for weight in weights))
    inputs = hyper_lstm_inputs(x.to(dtype), static_input, w, lengths)
    masks = recurrent_masks(x, w.w_hh.shape[0], seed, options)

    def step(t: int, state: sequence.State) -> tuple[sequence.State, sequence.State]:
        now = tuple(part[t] for part in inputs)
        mask = None if masks is None else masks[t]
        return hyper_lstm_step(now, state, w, mask, options.forget_bias)

    start = tuple(part.to(dtype) for part in state)
    hidden, (h, c, h_hyper, c_hyper), saved = sequence.scan(
        step, x.shape[0], start, lengths, options.reverse
    )
    final = (h.to(x.dtype), c, h_hyper.to(x.dtype), c_hyper)
    return hidden.to(x.dtype), final, HyperLSTMSaved(*saved)


def hyper_lstm_inputs(
    x: Tensor, static_input: Tensor | None, w: HyperLSTMWeights, lengths: Tensor | None
) -> sequence.State:
    """What the steps take of the input: its share in the gates [T, B, 4N] of both cells."""
    hyper_w_x = w.hyper_w_xh[: w.w_xh.shape[0]]
    return (
        input_products(x, static_input, w.w_xh, lengths),
        input_products(x, static_input, hyper_w_x, lengths),
    )


def hyper_lstm_step(
    inputs: sequence.State,
    state: sequence.State,
    w: HyperLSTMWeights,
    mask: Tensor | None,
    forget_bias: float,
) -> tuple[sequence.State, sequence.State]:
    """One step, as `reference.lstm.lstm_step`, with the hyper cell's (h, c) after the cell's."""
    x_products, hyper_x_products = inputs
    h, c, h_hyper, c_hyper = state
    hyper_w_h = w.hyper_w_xh[w.w_xh.shape[0] :]
    hyper_gates = hyper_x_products + h @ hyper_w_h + h_hyper @ w.hyper_w_hh
    h_hyper, c_hyper = cell_step(hyper_gates, c_hyper, w.hyper_norms, None, forget_bias)
    _, x_scale = scale_of_gates(h_hyper, w.x_embedding, w.x_embedding_bias, w.x_alpha)
    _, h_scale = scale_of_gates(h_hyper, w.h_embedding, w.h_embedding_bias, w.h_alpha)
    _, shift = scale_of_gates(h_hyper, w.b_embedding, None, w.b_beta)
    gates = x_scale * x_products + h_scale * (h @ w.w_hh) + shift + w.bias
    h, c = cell_step(gates, c, w.norms, mask, forget_bias)
    return (h, c, h_hyper, c_hyper), (gates, c, hyper_gates, h_hyper, c_hyper)


def hyper_lstm_backward(
    grad_hidden: Tensor,
    grad_state: HyperState,
    hidden: Tensor,
    saved: HyperLSTMSaved,
    x: Tensor,
    static_input: Tensor | None,
    weights: HyperLSTMWeights,
    state: HyperState,
    lengths: Tensor | None,
    seed: Tensor | None,
    options: Options,
) -> tuple[Tensor, Tensor | None, HyperLSTMWeights, HyperState]:
    """The gradients of x, static_input, weights and state, from those of hidden and final state.

    The gates have two gradients, one for the x path and one for the h path, because each path is
    scaled by a factor of its own.
    """
    dtype = sequence.compute_dtype(x.dtype)
    w = HyperLSTMWeights(*(weight.to(dtype) for weight in weights))
    units = w.w_hh.shape[0]
    hyper_w_x, hyper_w_h = w.hyper_w_xh.split([w.w_xh.shape[0], units])
    x_products = input_products(x.to(dtype), static_input, w.w_xh, lengths)
    masks = recurrent_masks(x, units, seed, options)
    h_before, c_before, h_hyper_before, c_hyper_before = (
        sequence.before_each_step(after, initial.to(dtype), lengths, options.reverse)
        for after, initial in zip(
            (hidden.to(dtype), saved.cell, saved.hyper_hidden, saved.hyper_cell), state, strict=True
        )
    )
    totals = {
        name: torch.zeros_like(weight)
        for name, weight in w._asdict().items()
        if name.startswith(("ln_", "hyper_ln_", "x_", "h_", "b_"))
    }

    def add(names: tuple[str, ...], grads: tuple[Tensor, ...]) -> None:
        for name, grad in zip(names, grads, strict=True):
            totals[name] += grad

    def step_backward(t: int, grad: sequence.State) -> tuple[sequence.State, sequence.State]:
        grad_h, grad_c, grad_h_hyper, grad_c_hyper = grad
        mask = None if masks is None else masks[t]
        grad_gates, grad_c, grad_norms = cell_step_backward(
            grad_h, grad_c, saved.gates[t], c_before[t], w.norms, mask, options.forget_bias
        )
        add(("ln_all_gamma", "ln_all_beta", "ln_c_gamma", "ln_c_beta"), grad_norms)

        h_hyper = saved.hyper_hidden[t]
        x_code, x_scale = scale_of_gates(h_hyper, w.x_embedding, w.x_embedding_bias, w.x_alpha)
        h_code, h_scale = scale_of_gates(h_hyper, w.h_embedding, w.h_embedding_bias, w.h_alpha)
        b_code, _ = scale_of_gates(h_hyper, w.b_embedding, None, w.b_beta)
        grad_x_products = grad_gates * x_scale
        grad_h_products = grad_gates * h_scale

        from_x, *grads_x = scale_of_gates_backward(
            grad_gates * x_products[t], h_hyper, x_code, w.x_embedding, w.x_alpha
        )
        from_h, *grads_h = scale_of_gates_backward(
            grad_gates * (h_before[t] @ w.w_hh), h_hyper, h_code, w.h_embedding, w.h_alpha
        )
        from_b, grad_b_embedding, _, grad_b_beta = scale_of_gates_backward(
            grad_gates, h_hyper, b_code, w.b_embedding, w.b_beta
        )
        add(("x_embedding", "x_embedding_bias", "x_alpha"), tuple(grads_x))
        add(("h_embedding", "h_embedding_bias", "h_alpha"), tuple(grads_h))
        add(("b_embedding", "b_beta"), (grad_b_embedding, grad_b_beta))

        grad_hyper_gates, grad_c_hyper, grad_norms = cell_step_backward(
            grad_h_hyper + from_x + from_h + from_b,
            grad_c_hyper,
            saved.hyper_gates[t],
            c_hyper_before[t],
            w.hyper_norms,
            None,
            options.forget_bias,
        )
        add(
            ("hyper_ln_all_gamma", "hyper_ln_all_beta", "hyper_ln_c_gamma", "hyper_ln_c_beta"),
            grad_norms,
        )
        grad_h = grad_h_products @ w.w_hh.T + grad_hyper_gates @ hyper_w_h.T
        grad_h_hyper = grad_hyper_gates @ w.hyper_w_hh.T
        before = (grad_h, grad_c, grad_h_hyper, grad_c_hyper)
        return before, (grad_x_products, grad_h_products, grad_gates, grad_hyper_gates)

    start = tuple(part.to(dtype) for part in grad_state)
    grad_start, (grad_x_products, grad_h_products, grad_gates, grad_hyper_gates) = (
        sequence.scan_backward(
            step_backward, grad_hidden.to(dtype), start, lengths, options.reverse
        )
    )
    grad_x, grad_static, grad_w_xh = input_products_backward(
        grad_x_products, x.to(dtype), static_input, w.w_xh, lengths
    )
    hyper_grad_x, hyper_grad_static, grad_hyper_w_x = input_products_backward(
        grad_hyper_gates, x.to(dtype), static_input, hyper_w_x, lengths
    )
    grad_hyper_w_h = sequence.weight_gradient(h_before, grad_hyper_gates)
    grad_weights = HyperLSTMWeights(
        w_xh=grad_w_xh,
        w_hh=sequence.weight_gradient(h_before, grad_h_products),
        bias=grad_gates.sum((0, 1)),
        hyper_w_xh=torch.cat([grad_hyper_w_x, grad_hyper_w_h]),
        hyper_w_hh=sequence.weight_gradient(h_hyper_before, grad_hyper_gates),
        **totals,
    )
    if grad_static is not None and hyper_grad_static is not None:
        grad_static = grad_static + hyper_grad_static
    h, c, h_hyper, c_hyper = grad_start
    return grad_x + hyper_grad_x, grad_static, grad_weights, (h, c, h_hyper, c_hyper)


def scale_of_gates(
    h_hyper: Tensor, embedding: Tensor, embedding_bias: Tensor | None, projection: Tensor
) -> tuple[Tensor, Tensor]:
    """What the hyper cell's output [B, H] makes of the four gates, through a small embedding.

    Returns:
        The embedding's code [4, B, E], and the gates' factors or shifts [B, 4N].
    """
    code = h_hyper @ embedding
    if embedding_bias is not None:
        code = code + embedding_bias[:, None]
    return code, torch.cat(tuple(code @ projection), dim=-1)


def scale_of_gates_backward(
    grad: Tensor, h_hyper: Tensor, code: Tensor, embedding: Tensor, projection: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of h_hyper, embedding, its bias and projection, from that of the result."""
    grad = torch.stack(grad.chunk(4, dim=-1))
    grad_code = grad @ projection.mT
    grad_h_hyper = (grad_code @ embedding.mT).sum(0)
    return grad_h_hyper, h_hyper.T @ grad_code, grad_code.sum(1), code.mT @ grad
