"""The eager loops of `eager` under `torch.jit.script`: the whole loop over time, cell included."""

# TorchScript reads the annotations of this file as they stand, so they are no strings here; and its
# zip has no `strict`.

import warnings
from collections.abc import Callable
from typing import Any

import torch
from layers import Inputs, Pass
from torch import Tensor
from torch.nn import functional

from peers import Peer, Running, eager


def gates_update(
    i: Tensor, j: Tensor, f: Tensor, o: Tensor, c: Tensor, mask: Tensor, norm: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The new (h, c); `norm` has gamma and beta of the cell state's layer norm, or nothing."""
    c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j) * mask
    inner = c
    if len(norm) > 0:
        inner = functional.layer_norm(c, [c.shape[1]], norm[0], norm[1], 1e-3)
    return torch.tanh(inner) * torch.sigmoid(o), c


def lstm_loop(
    products: Tensor, masks: Tensor, state: list[Tensor], weights: list[Tensor]
) -> Tensor:
    h, c = state[0], state[1]
    w_hh = weights[1]
    nothing: list[Tensor] = []
    outputs: list[Tensor] = []
    for now, mask in zip(products.unbind(0), masks.unbind(0)):  # noqa: B905
        i, j, f, o = torch.addmm(now, h, w_hh).chunk(4, dim=1)
        h, c = gates_update(i, j, f, o, c, mask, nothing)
        outputs.append(h)
    return torch.stack(outputs)


def normalised(gates: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    rows, units = gates.shape[0], gates.shape[1] // 4
    norm = functional.layer_norm(gates.view(rows, 4, units), [units], eps=1e-3)
    return torch.addcmul(beta, norm.view(rows, 4 * units), gamma)


def layer_norm_lstm_loop(
    products: Tensor, masks: Tensor, state: list[Tensor], weights: list[Tensor]
) -> Tensor:
    h, c = state[0], state[1]
    w_hh, gamma, beta = weights[1], weights[2], weights[3]
    norm = [weights[4], weights[5]]
    outputs: list[Tensor] = []
    for now, mask in zip(products.unbind(0), masks.unbind(0)):  # noqa: B905
        gates = normalised(torch.addmm(now, h, w_hh), gamma, beta)
        i, j, f, o = gates.chunk(4, dim=1)
        h, c = gates_update(i, j, f, o, c, mask, norm)
        outputs.append(h)
    return torch.stack(outputs)


def hyper_lstm_loop(
    products: Tensor, masks: Tensor, state: list[Tensor], weights: list[Tensor]
) -> Tensor:
    """With the weights as `eager.hyper_lstm_prepare` lays them side by side, flattened."""
    h, c, h_hyper, c_hyper = state[0], state[1], state[2], state[3]
    w_h, bias, gamma, beta = weights[0], weights[1], weights[2], weights[3]
    norm = [weights[4], weights[5]]
    w_hyper, hyper_gamma, hyper_beta = weights[6], weights[7], weights[8]
    hyper_norm = [weights[9], weights[10]]
    embeddings, embedding_bias, projections = weights[11], weights[12], weights[13]
    rows, units = h.shape[0], h.shape[1]
    widths = [4 * units, 4 * h_hyper.shape[1]]
    all_kept = torch.ones_like(h_hyper)
    outputs: list[Tensor] = []
    for now, mask in zip(products.unbind(0), masks.unbind(0)):  # noqa: B905
        x_products, hyper_x_products = now.split(widths, dim=1)
        h_products, hyper_h_products = (h @ w_h).split(widths, dim=1)
        inner = torch.addmm(hyper_x_products + hyper_h_products, h_hyper, w_hyper)
        i, j, f, o = normalised(inner, hyper_gamma, hyper_beta).chunk(4, dim=1)
        h_hyper, c_hyper = gates_update(i, j, f, o, c_hyper, all_kept, hyper_norm)
        codes = torch.addmm(embedding_bias, h_hyper, embeddings)
        factors = torch.bmm(codes.view(rows, 12, -1).transpose(0, 1), projections)
        x_scale, h_scale, shift = factors.view(3, 4, rows, units).unbind(0)
        gates = torch.addcmul(
            shift + bias, x_scale, x_products.view(rows, 4, units).transpose(0, 1)
        )
        gates = torch.addcmul(gates, h_scale, h_products.view(rows, 4, units).transpose(0, 1))
        gates = torch.addcmul(beta, functional.layer_norm(gates, [units], eps=1e-3), gamma)
        i, j, f, o = gates.unbind(0)
        h, c = gates_update(i, j, f, o, c, mask, norm)
        outputs.append(h)
    return torch.stack(outputs)


LOOPS = {
    "lstm": lstm_loop,
    "layer_norm_lstm": layer_norm_lstm_loop,
    "hyper_lstm": hyper_lstm_loop,
}


def prepared(op: str, weights: Any) -> list[Tensor]:
    """What a loop takes of the weights, as a flat list."""
    if op != "hyper_lstm":
        return list(weights)
    made = eager.hyper_lstm_prepare(weights)
    inner = made.inner
    return [
        *(made.w_h, made.bias, made.gamma, made.beta, made.c_gamma, made.c_beta),
        *(inner.w_hh, inner.ln_all_gamma, inner.ln_all_beta, inner.ln_c_gamma, inner.ln_c_beta),
        *(made.embeddings, made.embedding_bias, made.projections),
    ]


def scripted(op: str) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is; people have it still
        loop: Callable[..., Tensor] = torch.jit.script(LOOPS[op])
    return loop


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    loop, cell = scripted(op), eager.CELLS[op]

    def run() -> Pass:
        products = cell.input_products(inputs.x, inputs.static, inputs.weights)
        masks = eager.dropout_masks(len(inputs.x), inputs.state[0], keep_prob)
        hidden = loop(products, masks, list(inputs.state), prepared(op, inputs.weights))
        return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)

    return Running(run, run)


# The first passes are watched and compiled.
SCRIPTED = Peer(
    "torch.jit.script", {name: name for name in LOOPS}, _build, is_core=False, warm_up=3
)
