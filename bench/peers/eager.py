"""The peers of the recurrent ops and of the mixture density: eager PyTorch, as a user writes it.

They compute what `sketchrnn_fast.reference` defines, from the same weights. Whatever makes them
faster without a kernel of one's own is done:

* the products of x stand before the loop, one matrix product for the whole sequence; z is not
  concatenated to x (as most users do) but multiplied once, which takes less time;
* the masks of recurrent dropout are one call of `torch.rand` for the whole sequence;
* steps are taken apart with `unbind`, whose backward is one copy, and not with an index, whose
  backward would be one copy of the whole sequence a step;
* a product and what is added to it are one `addmm`, a scale and a shift one `addcmul`, and the four
  gates are normalised by one `layer_norm`;
* HyperLSTM takes h W_hh and h W_hyper_h as one product, its twelve embeddings as one, and their
  twelve projections as one batched product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from sketchrnn_fast.ops import HyperLSTMWeights, LayerNormLSTMWeights, LSTMWeights

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State, "Tensor | None", Any], State]

EPSILON = 1e-3
FORGET_BIAS = 1.0


class Cell(NamedTuple):
    """A recurrent cell in three parts.

    Attributes:
        input_products: from x [T, B, X], the static input and the weights to [T, B, ·].
        prepare: from the weights to what a step takes, once a sequence.
        step: from the products of one step [B, ·], the state, the mask and the prepared weights
            to the new state, whose first part is the output.
    """

    input_products: Callable[[Tensor, Tensor | None, Any], Tensor]
    prepare: Callable[[Any], Any]
    step: Step


def layer(
    cell: Cell,
    x: Tensor,
    static: Tensor | None,
    weights: Any,
    state: State,
    keep_prob: float,
    step: Step | None = None,
) -> tuple[Tensor, State]:
    """A cell over a whole sequence, forward in time: hidden [T, B, N] and the final state.

    `step` replaces the cell's own, for instance by its compiled form.
    """
    step = cell.step if step is None else step
    products = cell.input_products(x, static, weights)
    masks = dropout_masks(len(x), state[0], keep_prob)
    prepared = cell.prepare(weights)
    outputs = []
    for products_here, mask in zip(products.unbind(0), masks.unbind(0), strict=True):
        state = step(products_here, state, mask, prepared)
        outputs.append(state[0])
    return torch.stack(outputs), state


def final_output(
    cell: Cell,
    x: Tensor,
    lengths: Tensor,
    weights: Any,
    state: State,
    keep_prob: float,
    reverse: bool,
) -> Tensor:
    """The output [B, N] of a cell after each row's own last step (in reverse: its first)."""
    x = x[: int(lengths.max())]
    products = cell.input_products(x, None, weights).unbind(0)
    masks = dropout_masks(len(x), state[0], keep_prob).unbind(0)
    active = (torch.arange(len(x), device=x.device)[:, None] < lengths)[..., None].unbind(0)
    prepared = cell.prepare(weights)
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new_state = cell.step(products[t], state, masks[t], prepared)
        state = tuple(
            torch.where(active[t], new, old) for new, old in zip(new_state, state, strict=True)
        )
    return state[0]


def dropout_masks(time_steps: int, hidden: Tensor, keep_prob: float) -> Tensor:
    """Factors 0 or 1/keep_prob for every step [T, B, N]; all are 1 where keep_prob is."""
    kept = torch.rand(time_steps, *hidden.shape, device=hidden.device) < keep_prob
    return kept.to(hidden.dtype).div_(keep_prob)


def input_products(x: Tensor, static: Tensor | None, w_xh: Tensor) -> Tensor:
    """[x_t, static] W_xh for every step."""
    if static is None:
        return x @ w_xh
    w_x, w_static = w_xh.split([x.shape[-1], static.shape[-1]])
    return x @ w_x + static @ w_static


def candidate(j: Tensor, mask: Tensor | None) -> Tensor:
    return torch.tanh(j) if mask is None else torch.tanh(j) * mask


# LSTM ---------------------------------------------------------------------------------------


def lstm_input_products(x: Tensor, static: Tensor | None, w: LSTMWeights) -> Tensor:
    """With the bias, which z's product can take at no cost."""
    if static is None:
        return x @ w.w_xh + w.bias
    w_x, w_static = w.w_xh.split([x.shape[-1], static.shape[-1]])
    return x @ w_x + torch.addmm(w.bias, static, w_static)


def lstm_step(products: Tensor, state: State, mask: Tensor | None, w: LSTMWeights) -> State:
    h, c = state
    i, j, f, o = torch.addmm(products, h, w.w_hh).chunk(4, dim=-1)
    c = c * torch.sigmoid(f + FORGET_BIAS) + torch.sigmoid(i) * candidate(j, mask)
    return torch.tanh(c) * torch.sigmoid(o), c


LSTM = Cell(lstm_input_products, lambda weights: weights, lstm_step)


# LayerNorm-LSTM -----------------------------------------------------------------------------


def layer_norm_lstm_step(
    products: Tensor, state: State, mask: Tensor | None, w: LayerNormLSTMWeights
) -> State:
    h, c = state
    gates = torch.addmm(products, h, w.w_hh)
    rows, width = gates.shape
    units = width // 4
    normalised = functional.layer_norm(gates.view(rows, 4, units), (units,), eps=EPSILON).view(
        rows, width
    )
    gates = torch.addcmul(w.ln_all_beta, normalised, w.ln_all_gamma)
    return normalised_update(gates.chunk(4, dim=-1), c, mask, w.ln_c_gamma, w.ln_c_beta)


def normalised_update(
    gates: Sequence[Tensor], c: Tensor, mask: Tensor | None, gamma: Tensor, beta: Tensor
) -> State:
    """The new (h, c) from gates after their layer norm."""
    i, j, f, o = gates
    c = c * torch.sigmoid(f + FORGET_BIAS) + torch.sigmoid(i) * candidate(j, mask)
    h = torch.tanh(functional.layer_norm(c, (c.shape[-1],), gamma, beta, EPSILON)) * torch.sigmoid(
        o
    )
    return h, c


LAYER_NORM_LSTM = Cell(
    lambda x, static, w: input_products(x, static, w.w_xh),
    lambda weights: weights,
    layer_norm_lstm_step,
)


# HyperLSTM ----------------------------------------------------------------------------------


class HyperStepWeights(NamedTuple):
    """A HyperLSTM's weights with all that can be one product side by side."""

    w_h: Tensor  # [N, 4N+4H], of the main and of the inner cell
    bias: Tensor  # [4, 1, N]
    gamma: Tensor  # [4, 1, N]
    beta: Tensor  # [4, 1, N]
    c_gamma: Tensor  # [N]
    c_beta: Tensor  # [N]
    inner: LayerNormLSTMWeights  # of the inner cell; its w_xh is not used in a step
    embeddings: Tensor  # [H, 12E], x, h and b of each gate
    embedding_bias: Tensor  # [12E]
    projections: Tensor  # [12, E, N]


def hyper_lstm_input_products(x: Tensor, static: Tensor | None, w: HyperLSTMWeights) -> Tensor:
    """Those of the main cell, then those of the inner cell: [T, B, 4N+4H]."""
    return input_products(x, static, torch.cat([w.w_xh, w.hyper_w_xh[: len(w.w_xh)]], dim=1))


def hyper_lstm_prepare(w: HyperLSTMWeights) -> HyperStepWeights:
    embeddings = torch.cat([w.x_embedding, w.h_embedding, w.b_embedding])
    biases = [w.x_embedding_bias, w.h_embedding_bias, torch.zeros_like(w.x_embedding_bias)]
    inner_w_xh = w.hyper_w_xh[len(w.w_xh) :]
    return HyperStepWeights(
        w_h=torch.cat([w.w_hh, inner_w_xh], dim=1),
        bias=w.bias.view(4, 1, -1),
        gamma=w.ln_all_gamma.view(4, 1, -1),
        beta=w.ln_all_beta.view(4, 1, -1),
        c_gamma=w.ln_c_gamma,
        c_beta=w.ln_c_beta,
        inner=LayerNormLSTMWeights(
            inner_w_xh,
            w.hyper_w_hh,
            w.hyper_ln_all_gamma,
            w.hyper_ln_all_beta,
            w.hyper_ln_c_gamma,
            w.hyper_ln_c_beta,
        ),
        embeddings=embeddings.permute(1, 0, 2).flatten(1),
        embedding_bias=torch.cat(biases).flatten(),
        projections=torch.cat([w.x_alpha, w.h_alpha, w.b_beta]),
    )


def hyper_lstm_step(
    products: Tensor, state: State, mask: Tensor | None, w: HyperStepWeights
) -> State:
    h, c, h_hyper, c_hyper = state
    rows, units = h.shape
    widths = [4 * units, 4 * h_hyper.shape[1]]
    x_products, hyper_x_products = products.split(widths, dim=1)
    h_products, hyper_h_products = (h @ w.w_h).split(widths, dim=1)
    h_hyper, c_hyper = layer_norm_lstm_step(
        hyper_x_products + hyper_h_products, (h_hyper, c_hyper), None, w.inner
    )
    codes = torch.addmm(w.embedding_bias, h_hyper, w.embeddings)
    factors = torch.bmm(codes.view(rows, 12, -1).transpose(0, 1), w.projections)
    x_scale, h_scale, shift = factors.view(3, 4, rows, units).unbind(0)
    gates = torch.addcmul(shift + w.bias, x_scale, x_products.view(rows, 4, units).transpose(0, 1))
    gates = torch.addcmul(gates, h_scale, h_products.view(rows, 4, units).transpose(0, 1))
    gates = torch.addcmul(w.beta, functional.layer_norm(gates, (units,), eps=EPSILON), w.gamma)
    h, c = normalised_update(gates.unbind(0), c, mask, w.c_gamma, w.c_beta)
    return h, c, h_hyper, c_hyper


HYPER_LSTM = Cell(hyper_lstm_input_products, hyper_lstm_prepare, hyper_lstm_step)

CELLS = {"lstm": LSTM, "layer_norm_lstm": LAYER_NORM_LSTM, "hyper_lstm": HYPER_LSTM}


# torch.nn.LSTM ------------------------------------------------------------------------------


def torch_gates(weight: Tensor) -> Tensor:
    """Between our order of the gates i, j, f, o and torch's i, f, j, o, on the last axis."""
    first, second, third, fourth = weight.chunk(4, dim=-1)
    return torch.cat([first, third, second, fourth], dim=-1)


@torch.no_grad()
def fill_torch_lstm(module: torch.nn.LSTM | torch.nn.LSTMCell, w: LSTMWeights) -> None:
    """Give torch's LSTM our weights; the forget bias of 1 becomes part of a bias."""
    suffix = "_l0" if isinstance(module, torch.nn.LSTM) else ""
    units = w.w_hh.shape[0]
    parameters = dict(module.named_parameters())
    parameters[f"weight_ih{suffix}"].copy_(torch_gates(w.w_xh).T)
    parameters[f"weight_hh{suffix}"].copy_(torch_gates(w.w_hh).T)
    parameters[f"bias_ih{suffix}"].copy_(torch_gates(w.bias))
    parameters[f"bias_hh{suffix}"].zero_()[units : 2 * units].fill_(FORGET_BIAS)


# Mixture density ----------------------------------------------------------------------------


def mixture_density(params: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Offset and pen losses [R] of raw parameters [R, 6K+3] and stroke-5 rows [R, 5]."""
    mixtures = (params.shape[-1] - 3) // 6
    pen_logits, pi_logits, mean_x, mean_y, log_sigma_x, log_sigma_y, correlation = params.split(
        [3] + [mixtures] * 6, dim=-1
    )
    a = (target[:, 0:1] - mean_x) * torch.exp(-log_sigma_x)
    b = (target[:, 1:2] - mean_y) * torch.exp(-log_sigma_y)
    rho = torch.tanh(correlation)
    r = 1 - rho**2
    distance = (a**2 + b**2 - 2 * rho * a * b) / r
    log_scale = log_sigma_x + log_sigma_y + 0.5 * torch.log(r) + math.log(2 * math.pi)
    joint = functional.log_softmax(pi_logits, dim=-1) - 0.5 * distance - log_scale
    offset = -torch.log(torch.exp(torch.logsumexp(joint, dim=-1)) + 1e-6)
    pen = functional.cross_entropy(pen_logits, target[:, 2:], reduction="none")
    return offset, pen
