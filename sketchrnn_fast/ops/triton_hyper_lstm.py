"""The Triton backend of `hyper_lstm`: its buffers, hoisted products, deferred weight gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sketchrnn_fast.ops.recurrent_call import Call, ResultGradients, Results
from sketchrnn_fast.ops.triton import (
    check_storage,
    empty_hidden,
    hoisted_products,
    input_gradients,
    register_each,
    walk,
)
from sketchrnn_fast.reference.hyper_lstm import HyperLSTMWeights
from sketchrnn_fast.reference.sequence import before_each_step

if TYPE_CHECKING:
    from sketchrnn_fast.kernels.hyper_lstm import HyperSaved, HyperWeights
    from sketchrnn_fast.kernels.lstm import Walk


def register() -> None:
    """Make the Triton backend of `hyper_lstm` known, where Triton is installed."""
    register_each("hyper_lstm", HyperLSTMWeights, _forward, _backward, _saved_shape)


def _widths(weights: HyperLSTMWeights) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of what is saved a row and step: in float32 (cell, hyper_cell), and in x's dtype (gates,
    hyper_gates, hyper_hidden, recurrent, codes)."""
    N, H = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    E = weights.x_embedding.shape[-1]
    return (N, H), (4 * N, 4 * H, H, 4 * N, 12 * E)


def _saved_shape(call: Call) -> tuple[int, ...]:
    """Counted in float32; the parts in x's dtype together, up to a whole float32 for each row."""
    wide, narrow = _widths(HyperLSTMWeights(*call.weights))
    count = sum(wide) + -(-sum(narrow) * call.x.dtype.itemsize // 4)
    return (call.x.shape[0] * call.x.shape[1] * count,)


def _saved(call: Call, weights: HyperLSTMWeights, saved: Tensor | None) -> HyperSaved:
    """Views of what is saved; where nothing is, what a walk needs all the same."""
    from sketchrnn_fast.kernels.hyper_lstm import HyperSaved

    T, B, _ = call.x.shape
    wide, narrow = _widths(weights)
    if saved is None:
        parts = [call.x.new_empty(T, B, width) for width in narrow]
        gates, hyper_gates, hyper_hidden, _, codes = parts
        return HyperSaved(gates, None, hyper_gates, None, hyper_hidden, None, codes)
    cells = [T * B * width for width in wide]
    cell, hyper_cell, rest = saved.split([*cells, saved.numel() - sum(cells)])
    sizes = [T * B * width for width in narrow]
    parts = list(rest.view(call.x.dtype)[: sum(sizes)].split(sizes))
    gates, hyper_gates, hyper_hidden, recurrent, codes = (
        part.view(T, B, width) for part, width in zip(parts, narrow, strict=True)
    )
    cell, hyper_cell = cell.view(T, B, wide[0]), hyper_cell.view(T, B, wide[1])
    return HyperSaved(gates, cell, hyper_gates, hyper_cell, hyper_hidden, recurrent, codes)


def _kernel_weights(weights: HyperLSTMWeights) -> HyperWeights:
    from sketchrnn_fast.kernels.hyper_lstm import HyperWeights

    N, H = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    _, hyper_w_h = weights.hyper_w_xh.split([weights.w_xh.shape[0], N])
    w = weights.w_hh.new_zeros(N + H, 4 * N + 4 * H)
    w[:N, : 4 * N], w[:N, 4 * N :], w[N:, 4 * N :] = weights.w_hh, hyper_w_h, weights.hyper_w_hh
    embeddings = torch.cat([weights.x_embedding, weights.h_embedding, weights.b_embedding])
    no_bias = torch.zeros_like(weights.x_embedding_bias)
    z_bias = torch.cat([weights.x_embedding_bias, weights.h_embedding_bias, no_bias])
    return HyperWeights(
        w=w,
        z=embeddings.permute(1, 0, 2).reshape(H, -1),
        z_bias=z_bias.flatten().float(),
        projections=torch.cat([weights.x_alpha, weights.h_alpha, weights.b_beta]),
        bias=weights.bias.float(),
        hyper_norms=torch.cat(tuple(weights.hyper_norms)).float(),
    )


def _forward(call: Call, weights: HyperLSTMWeights, save: bool) -> Results:
    from sketchrnn_fast.kernels import hyper_lstm as kernels

    check_storage("hyper_lstm", call.x)
    T, B, _ = call.x.shape
    N = weights.w_hh.shape[0]
    x = call.x
    flat = x.new_empty(_saved_shape(call) if save else (0,), dtype=torch.float32)
    saved = _saved(call, weights, flat if save else None)
    hyper_w_x, _ = weights.hyper_w_xh.split([weights.w_xh.shape[0], N])
    x_products = x.new_empty(T, B, 4 * N)
    static = hoisted_products(call, weights.w_xh, None, x_products)
    hyper_static = hoisted_products(call, hyper_w_x, None, saved.hyper_gates)
    if call.lengths is not None:
        saved.hyper_hidden.zero_()
        saved.codes.zero_()
        if saved.recurrent is not None:
            saved.recurrent.zero_()
    hidden = empty_hidden(call, N)
    h, c, h_hyper, c_hyper = call.state
    state = kernels.HyperState(
        torch.cat([h, h_hyper], dim=1),
        c.to(torch.float32, copy=True),
        c_hyper.to(torch.float32, copy=True),
    )
    if B > 0:
        walk = _walk(call, weights)
        kernels.forward(
            walk, _kernel_weights(weights), x_products, static, hyper_static, hidden, state, saved
        )
    # Copies even of one row, where the halves are contiguous: results may not share memory.
    h, h_hyper = state.h[:, :N].clone(), state.h[:, N:].clone()
    return Results(hidden, [h, state.c, h_hyper, state.hyper_c], flat)


def _backward(
    call: Call,
    weights: HyperLSTMWeights,
    results: Results,
    grads: ResultGradients,
    grad_x_wanted: bool,
) -> list[Tensor]:
    from sketchrnn_fast.kernels import hyper_lstm as kernels

    T, B, _ = call.x.shape
    N, H = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    saved = _saved(call, weights, results.saved)
    x_products = call.x.new_empty(T, B, 4 * N)
    static = hoisted_products(call, weights.w_xh, None, x_products)
    make = torch.empty if call.lengths is None else torch.zeros
    grad_gates, grad_codes, grad_products = (
        make(T, B, width, dtype=call.x.dtype, device=call.x.device)
        for width in (4 * N, saved.codes.shape[2], 4 * N + 4 * H)
    )
    grad_h, grad_c, grad_h_hyper, grad_c_hyper = (part.float() for part in grads.final)
    grad_state = kernels.HyperState(
        torch.cat([grad_h, grad_h_hyper], dim=1), grad_c.clone(), grad_c_hyper.clone()
    )
    h, c, h_hyper, c_hyper = call.state
    initial = kernels.HyperState(h, c.float(), c_hyper.float())
    norms, hyper_norms = kernels.backward(
        _walk(call, weights), _kernel_weights(weights), x_products, static, saved, initial,
        grads.hidden, grad_state, grad_gates, grad_codes, grad_products,
    )  # fmt: skip
    if static is not None:
        x_products += static
    grad_h, grad_h_hyper = grad_state.h[:, :N].clone(), grad_state.h[:, N:].clone()
    hyper_before = before_each_step(saved.hyper_hidden, h_hyper, call.lengths, call.reverse)
    h_before = before_each_step(results.hidden, h, call.lengths, call.reverse)
    grad_x, static_grads, of_weights = _weight_gradients(
        call, weights, saved, x_products, h_before, hyper_before, grad_gates, grad_codes,
        grad_products, grad_x_wanted,
    )  # fmt: skip
    of_norms = dict(zip(("all_gamma", "all_beta", "c_gamma", "c_beta"), _split(norms), strict=True))
    of_weights |= {f"ln_{name}": grad for name, grad in of_norms.items()}
    of_norms = dict(zip(of_norms, _split(hyper_norms), strict=True))
    of_weights |= {f"hyper_ln_{name}": grad for name, grad in of_norms.items()}
    return [
        grad_x,
        *static_grads,
        *HyperLSTMWeights(**of_weights),
        *(grad_h, grad_state.c, grad_h_hyper, grad_state.hyper_c),
    ]


def _split(norms: Tensor) -> list[Tensor]:
    units = norms.shape[0] // 10
    return [part.clone() for part in norms.split([4 * units, 4 * units, units, units])]


def _weight_gradients(
    call: Call,
    weights: HyperLSTMWeights,
    saved: HyperSaved,
    p: Tensor,
    h_before: Tensor,
    hyper_before: Tensor,
    grad_gates: Tensor,
    grad_codes: Tensor,
    grad_products: Tensor,
    grad_x_wanted: bool,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """The gradients of x, of the static input, and of all weights but the norms, by name.

    p is x's and the static input's products, [T, B, 4N]; the rest as in `kernels/hyper_lstm.py`.
    """
    N, H = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    E = weights.x_embedding.shape[-1]
    # By gate, [4, TB, ·].
    da, by_gate_p = _by_gate(grad_gates), _by_gate(p)
    assert saved.recurrent is not None
    r = _by_gate(saved.recurrent)
    codes = saved.codes.flatten(0, 1).view(-1, 12, E).transpose(0, 1)
    x_codes, h_codes, b_codes = codes.split(4)
    grad_p = da * (x_codes @ weights.x_alpha)
    grad_p = grad_p.transpose(0, 1).reshape(*grad_gates.shape)
    hyper_w_x, _ = weights.hyper_w_xh.split([weights.w_xh.shape[0], N])
    hyper_grad = grad_products[..., 4 * N :].contiguous()
    grad_x, static_grads, grad_w_xh = input_gradients(call, weights.w_xh, grad_p, grad_x_wanted)
    more_x, more_static, grad_hyper_w_x = input_gradients(
        call, hyper_w_x, hyper_grad, grad_x_wanted
    )
    recurrent = h_before.flatten(0, 1).T @ grad_products.flatten(0, 1)
    flat_codes = grad_codes.flatten(0, 1)
    embeddings = saved.hyper_hidden.flatten(0, 1).T @ flat_codes
    embeddings = embeddings.view(H, 12, E).transpose(0, 1).contiguous()
    code_sums = flat_codes.sum(0, dtype=torch.float32).view(12, E)
    return (
        grad_x + more_x,
        [grad + more for grad, more in zip(static_grads, more_static, strict=True)],
        {
            "w_xh": grad_w_xh,
            "w_hh": recurrent[:, : 4 * N].contiguous(),
            "bias": grad_gates.sum((0, 1), dtype=torch.float32),
            "hyper_w_xh": torch.cat([grad_hyper_w_x, recurrent[:, 4 * N :]]),
            "hyper_w_hh": hyper_before.flatten(0, 1).T @ hyper_grad.flatten(0, 1),
            "x_embedding": embeddings[:4].clone(),
            "h_embedding": embeddings[4:8].clone(),
            "b_embedding": embeddings[8:].clone(),
            "x_embedding_bias": code_sums[:4].clone(),
            "h_embedding_bias": code_sums[4:8].clone(),
            "x_alpha": x_codes.mT @ (da * by_gate_p),
            "h_alpha": h_codes.mT @ (da * r),
            "b_beta": b_codes.mT @ da,
        },
    )


def _by_gate(tensor: Tensor) -> Tensor:
    """[T, B, 4N] as [4, TB, N]."""
    T, B, width = tensor.shape
    return tensor.view(T * B, 4, width // 4).transpose(0, 1)


def _walk(call: Call, weights: HyperLSTMWeights) -> Walk:
    return walk("hyper_lstm", call, weights.w_hh, weights.norms)
