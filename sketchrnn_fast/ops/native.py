"""The native backend of the recurrent ops: CPU kernels in C++ (csrc/cpu), called on tensors.

Half precision is storage only, as everywhere: its values are widened to float32, which the kernels
compute in, and the results are rounded back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops.recurrent_call import Call, Implementation, ResultGradients, Results
from sketchrnn_fast.reference.sequence import compute_dtype

try:
    from sketchrnn_fast import _native

    INSTALLED = True
except ImportError:  # `backends.unavailable` says so
    INSTALLED = False

# Smaller tensors are left to torch's allocator; larger ones come from the kernels' own pool,
# because the first touch of fresh memory costs as much as a good part of the arithmetic.
_POOLED_BYTES = 1 << 20


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor, float32 or float64, in memory that is used again."""
    count = math.prod(shape)
    if count * dtype.itemsize < _POOLED_BYTES:
        return torch.empty(shape, dtype=dtype)
    make = _native.empty_float32 if dtype == torch.float32 else _native.empty_float64
    return torch.from_numpy(make(count)).view(shape)


def register(op: str, weights_type: type[Any]) -> None:
    """Make the native backend of a recurrent op known, where the native module is installed."""
    if not INSTALLED:
        return
    refused = _native.cpu_features().get("refused")
    if refused is not None:
        backends.refuse("native", refused)

    def saved_shape(call: Call) -> tuple[int, ...]:
        weights = weights_type(*call.weights)
        hyper_units, embedding = 0, 0
        if op == "hyper_lstm":
            _, hyper_units, embedding = weights.x_embedding.shape
        # T and B may be symbols of a graph that is being compiled, so the module never sees them.
        of_entry = _native.recurrent_saved_size(
            op, 1, weights.w_hh.shape[0], hyper_units, embedding
        )
        return (call.x.shape[0] * call.x.shape[1] * of_entry,)

    def forward(calls: Sequence[Call], save: bool) -> list[Results]:
        wide = [_widened(call) for call in calls]
        results = [empty_results(call, save) for call in wide]
        native_results = [_native.RecurrentResults(*of_one) for of_one in results]
        arguments = [_arguments(call) for call in wide]
        _native.recurrent_forward(op, arguments, native_results, torch.get_num_threads())
        return [
            Results(
                hidden.to(call.x.dtype),
                # The parts of a state take turns: a hidden one, in x's dtype, and a cell state.
                [part if i % 2 else part.to(call.x.dtype) for i, part in enumerate(final)],
                call.x.new_empty(0, dtype=hidden.dtype) if saved is None else saved,
            )
            for call, (hidden, final, saved) in zip(calls, results, strict=True)
        ]

    def empty_results(call: Call, save: bool) -> tuple[Tensor, list[Tensor], Tensor | None]:
        T, B, _ = call.x.shape
        dtype = call.x.dtype
        hidden = empty((T, B, call.weights[1].shape[0]), dtype)
        final = [torch.empty_like(part) for part in call.state]
        return hidden, final, empty(saved_shape(call), dtype) if save else None

    def backward(
        calls: Sequence[Call],
        results: Sequence[Results],
        grads: Sequence[ResultGradients],
        grad_x_wanted: bool,
    ) -> list[list[Tensor]]:
        wide = [_widened(call) for call in calls]
        dtype = wide[0].x.dtype
        found = [empty_gradients(call, grad_x_wanted) for call in wide]
        _native.recurrent_backward(
            op,
            [_arguments(call) for call in wide],
            [_native.RecurrentResults(hidden.to(dtype), [], saved) for hidden, _, saved in results],
            [
                _native.RecurrentResults(
                    None if hidden is None else hidden.to(dtype),
                    [grad.to(dtype) for grad in final],
                    None,
                )
                for hidden, final in grads
            ],
            [_native.RecurrentGradients(*of_one) for of_one in found],
            torch.get_num_threads(),
        )
        return [
            [
                call.x.new_empty(0) if grad_x is None else grad_x,
                *([] if static is None else [static]),
                *(*weights, *state),
            ]
            for call, (grad_x, static, weights, state) in zip(wide, found, strict=True)
        ]

    def empty_gradients(
        call: Call, grad_x_wanted: bool
    ) -> tuple[Tensor | None, Tensor | None, list[Tensor], list[Tensor]]:
        return (
            empty(call.x.shape, call.x.dtype) if grad_x_wanted else None,
            None if call.static_input is None else torch.empty_like(call.static_input),
            [torch.empty_like(weight) for weight in call.weights],
            [torch.empty_like(part) for part in call.state],
        )

    backends.register(op, "native", Implementation(forward, backward, saved_shape))


def _widened(call: Call) -> Call:
    """The call with its tensors in the dtype that the kernels compute in."""
    dtype = compute_dtype(call.x.dtype)
    if all(tensor.dtype == dtype for tensor in call.inputs):
        return call
    return call._replace(
        x=call.x.to(dtype),
        static_input=None if call.static_input is None else call.static_input.to(dtype),
        weights=[weight.to(dtype) for weight in call.weights],
        state=[part.to(dtype) for part in call.state],
    )


def _arguments(call: Call) -> _native.RecurrentArguments:
    return _native.RecurrentArguments(
        call.x,
        call.static_input,
        list(call.weights),
        list(call.state),
        call.lengths,
        call.seed,
        call.reverse,
        call.forget_bias,
        call.keep_prob,
        call.row_offset,
    )
