"""The Triton backend of the recurrent ops: buffers, hoisted products, deferred weight gradients.

The kernels walk through time; what does not depend on the walk is one matrix product over all
steps, made by torch: the products of x and of the static input before it, the weights' gradients
after it. They are in the dtype of storage, float32 sums rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops.recurrent_call import Call, Implementation, ResultGradients, Results
from sketchrnn_fast.reference.layer_norm_lstm import LayerNormLSTMWeights
from sketchrnn_fast.reference.lstm import LSTMWeights
from sketchrnn_fast.reference.sequence import before_each_step, zero_past_end

if TYPE_CHECKING:
    from sketchrnn_fast.kernels.lstm import Walk
    from sketchrnn_fast.kernels.tuning import Plan

STORAGE = (torch.float32, torch.bfloat16, torch.float16)

Weights = LSTMWeights | LayerNormLSTMWeights


def register(op: str, weights_type: type[Any]) -> None:
    """Make the Triton backend of `lstm` or `layer_norm_lstm` known, where Triton is installed."""
    register_each(op, weights_type, partial(_forward, op), partial(_backward, op), _saved_shape)


def _saved_shape(call: Call) -> tuple[int, ...]:
    """cell [T, B, N] in float32, then gates [T, B, 4N] in x's dtype, counted in float32."""
    units = call.weights[1].shape[0]
    return (call.x.shape[0] * call.x.shape[1] * units * (1 + call.x.dtype.itemsize),)


def _saved_parts(call: Call, saved: Tensor) -> tuple[Tensor, Tensor]:
    T, B, _ = call.x.shape
    units = call.weights[1].shape[0]
    cell, gates = saved.split([T * B * units, T * B * units * call.x.dtype.itemsize])
    return cell.view(T, B, units), gates.view(call.x.dtype).view(T, B, 4 * units)


def _forward(op: str, call: Call, weights: Weights, save: bool) -> Results:
    check_storage(op, call.x)
    T, B, _ = call.x.shape
    N = weights.w_hh.shape[0]
    x = call.x
    saved = x.new_empty(_saved_shape(call) if save else (0,), dtype=torch.float32)
    cell, gates = _saved_parts(call, saved) if save else (None, x.new_empty(T, B, 4 * N))
    bias = weights.bias if isinstance(weights, LSTMWeights) else None
    static = hoisted_products(call, weights.w_xh, bias, gates)
    hidden = empty_hidden(call, N)
    h, c = call.state[0].clone(), call.state[1].to(torch.float32, copy=True)
    if B > 0:
        _kernels(op).forward(_walk(op, call, weights), gates, static, hidden, h, c, cell)
    return Results(hidden, [h, c], saved)


def _backward(
    op: str,
    call: Call,
    weights: Weights,
    results: Results,
    grads: ResultGradients,
    grad_x_wanted: bool,
) -> list[Tensor]:
    N = weights.w_hh.shape[0]
    cell, gates = _saved_parts(call, results.saved)
    grad_gates = torch.zeros_like(gates) if call.lengths is not None else torch.empty_like(gates)
    grad_h, grad_c = (part.to(torch.float32, copy=True) for part in grads.final)
    grad_norms = _kernels(op).backward(
        _walk(op, call, weights),
        gates,
        cell,
        call.state[1].float(),
        grads.hidden,
        grad_gates,
        grad_h,
        grad_c,
    )
    grad_x, grad_static, grad_w_xh = input_gradients(call, weights.w_xh, grad_gates, grad_x_wanted)
    h_before = before_each_step(results.hidden, call.state[0], call.lengths, call.reverse)
    grad_w_hh = h_before.flatten(0, 1).T @ grad_gates.flatten(0, 1)
    if isinstance(weights, LSTMWeights):
        others: Sequence[Tensor] = [grad_gates.sum((0, 1), dtype=torch.float32)]
    else:
        others = [part.clone() for part in grad_norms.split([4 * N, 4 * N, N, N])]
    return [grad_x, *grad_static, grad_w_xh, grad_w_hh, *others, grad_h, grad_c]


def _kernels(op: str) -> Any:
    """The launches of the op's kernels."""
    from sketchrnn_fast.kernels import layer_norm_lstm, lstm

    return lstm if op == "lstm" else layer_norm_lstm


def _walk(op: str, call: Call, weights: Weights) -> Walk:
    norms = None if isinstance(weights, LSTMWeights) else weights.norms
    return walk(op, call, weights.w_hh, norms)


def plan_sentence(op: str, units: int, dtype: torch.dtype, chip: str | None = None) -> str:
    """Which kernels a recurrent op takes on a chip (sm_80, …, gfx942), or on this machine's GPU.

    Raises:
        BackendError: the environment names a form that cannot do this.
    """
    from sketchrnn_fast.kernels import tuning

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plan = _plan(op, units, dtype, chip or tuning.architecture(device))
    launches = {"step": 5 if op == "hyper_lstm" else 2}.get(plan.form)
    what = "one launch a sequence" if launches is None else f"{launches} launches a step"
    rows, columns, depth, warps, _ = plan.forward
    tile = f"{rows} rows × {columns} columns" + (f" × {depth}" if depth else "")
    precision = f", float32 products in {plan.precision}" if dtype == torch.float32 else ""
    return f"{plan.form}: {what}; tiles of {tile}, {warps} warps{precision}"


def _plan(op: str, units: int, dtype: torch.dtype, chip: str) -> Plan:
    from sketchrnn_fast.kernels import tuning

    try:
        return tuning.plan_for(op, units, dtype, chip)
    except tuning.PlanError as error:
        raise backends.BackendError(str(error)) from None


# What the ops share -----------------------------------------------------------------------------


def register_each(
    op: str,
    weights_type: type[Any],
    forward_one: Callable[[Call, Any, bool], Results],
    backward_one: Callable[[Call, Any, Results, ResultGradients, bool], list[Tensor]],
    saved_shape: Callable[[Call], tuple[int, ...]],
) -> None:
    """Make a Triton backend known that runs the directions of a call one after another."""
    if not backends.TRITON_INSTALLED:
        return

    def forward(calls: Sequence[Call], save: bool) -> list[Results]:
        return [forward_one(call, weights_type(*call.weights), save) for call in calls]

    def backward(
        calls: Sequence[Call],
        results: Sequence[Results],
        grads: Sequence[ResultGradients],
        grad_x_wanted: bool,
    ) -> list[list[Tensor]]:
        return [
            backward_one(call, weights_type(*call.weights), result, grad, grad_x_wanted)
            for call, result, grad in zip(calls, results, grads, strict=True)
        ]

    backends.register(op, "triton", Implementation(forward, backward, saved_shape))


def check_storage(op: str, x: Tensor) -> None:
    if x.dtype not in STORAGE:
        raise backends.BackendError(
            f"the triton backend of {op} takes float32, bfloat16 and float16, and x is {x.dtype}"
        )


def walk(op: str, call: Call, w: Tensor, norms: Sequence[Tensor] | None) -> Walk:
    """What both passes of a call need: the recurrent weights, dropout's bits, the order of rows."""
    from sketchrnn_fast.kernels import tuning
    from sketchrnn_fast.kernels.lstm import Walk
    from sketchrnn_fast.kernels.philox import packed_keep_bits

    T, B, _ = call.x.shape
    units = call.weights[1].shape[0]
    # Places within a step are counted in 32 bits; the widest rows are a HyperLSTM's products.
    widest = sum(weight.shape[-1] for weight in (call.weights[0], *call.weights[7:8]))
    if B * widest >= 2**31:
        raise backends.BackendError(
            f"the triton backend of {op} takes less than {2**31 // widest:,} rows of {units} "
            f"units, and x has {B:,}"
        )
    keep = None
    if call.keep_prob < 1:
        assert call.seed is not None
        keep = packed_keep_bits(call.seed, T, B, units, call.keep_prob, row_offset=call.row_offset)
    order = None
    if call.lengths is not None:
        order = torch.argsort(call.lengths, descending=True, stable=True)
    return Walk(
        w=w,
        keep=keep,
        norms=None if norms is None else torch.cat(tuple(norms)).float(),
        lengths=call.lengths,
        order=order,
        keep_prob=call.keep_prob,
        forget_bias=call.forget_bias,
        reverse=call.reverse,
        plan=_plan(op, units, w.dtype, tuning.architecture(w.device)),
    )


def empty_hidden(call: Call, units: int) -> Tensor:
    """For the output: zeros where rows end, because there no kernel writes."""
    shape = (*call.x.shape[:2], units)
    return call.x.new_empty(shape) if call.lengths is None else call.x.new_zeros(shape)


def hoisted_products(
    call: Call, w_xh: Tensor, bias: Tensor | None, products: Tensor
) -> Tensor | None:
    """Fill `products` [T, B, ·] with x's; give the static input's, float32 [B, ·], if there is one.

    The bias is added to the latter, else to the former.
    """
    x = zero_past_end(call.x, call.lengths).flatten(0, 1)
    w_x, w_static = w_xh.split([x.shape[1], w_xh.shape[0] - x.shape[1]])
    into = products.flatten(0, 1)
    if call.static_input is None:
        if bias is None:
            torch.mm(x, w_x, out=into)
        else:
            torch.addmm(bias, x, w_x, out=into)
        return None
    torch.mm(x, w_x, out=into)
    static: Tensor = call.static_input.float() @ w_static.float()
    return static if bias is None else static.add_(bias)


def input_gradients(
    call: Call, w_xh: Tensor, grad: Tensor, grad_x_wanted: bool
) -> tuple[Tensor, list[Tensor], Tensor]:
    """The gradients of x, of the static input if there is one, and of w_xh, from the products'."""
    x = zero_past_end(call.x, call.lengths).flatten(0, 1)
    flat = grad.flatten(0, 1)
    w_x, w_static = w_xh.split([x.shape[1], w_xh.shape[0] - x.shape[1]])
    grad_x = (flat @ w_x.T).view(call.x.shape) if grad_x_wanted else call.x.new_empty(0)
    if call.static_input is None:
        return grad_x, [], x.T @ flat
    over_time = grad.sum(0, dtype=torch.float32)
    grad_w_static = call.static_input.float().T @ over_time
    grad_w_xh = torch.cat([x.T @ flat, grad_w_static.to(w_xh.dtype)])
    return grad_x, [over_time @ w_static.float().T], grad_w_xh
