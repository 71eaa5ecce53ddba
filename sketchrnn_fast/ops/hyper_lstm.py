"""The op `hyper_lstm`: a whole-sequence HyperLSTM with recurrent dropout."""

from __future__ import annotations

from torch import Tensor

from sketchrnn_fast.ops import native, triton_hyper_lstm
from sketchrnn_fast.ops.recurrent import RecurrentOp
from sketchrnn_fast.ops.recurrent_call import reference_implementation
from sketchrnn_fast.reference import hyper_lstm as reference
from sketchrnn_fast.reference.hyper_lstm import HyperLSTMWeights, HyperState
from sketchrnn_fast.reference.lstm import Options


def _state_widths(weights: HyperLSTMWeights) -> tuple[int, ...]:
    units, hyper_units = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    return (units, units, hyper_units, hyper_units)


def _saved_widths(weights: HyperLSTMWeights) -> tuple[int, ...]:
    units, hyper_units = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    return (4 * units, units, 4 * hyper_units, hyper_units, hyper_units)


def _weight_shapes(width: int, weights: HyperLSTMWeights) -> tuple[tuple[int, ...], ...]:
    units, hyper_units = weights.w_hh.shape[0], weights.hyper_w_hh.shape[0]
    gates, hyper_gates = 4 * units, 4 * hyper_units
    size = weights.x_embedding.shape[-1]
    return (
        *((width, gates), (units, gates), (gates,)),
        *((gates,), (gates,), (units,), (units,)),
        *((width + units, hyper_gates), (hyper_units, hyper_gates)),
        *((hyper_gates,), (hyper_gates,), (hyper_units,), (hyper_units,)),
        *((4, hyper_units, size), (4, size), (4, size, units)),
        *((4, hyper_units, size), (4, size), (4, size, units)),
        *((4, hyper_units, size), (4, size, units)),
    )


OP = RecurrentOp(
    name="hyper_lstm",
    weights_type=HyperLSTMWeights,
    state_names=("h", "c", "h_hyper", "c_hyper"),
    state_widths=_state_widths,
    weight_shapes=_weight_shapes,
)
OP.register(
    reference_implementation(
        reference.hyper_lstm,
        reference.hyper_lstm_backward,
        HyperLSTMWeights,
        reference.HyperLSTMSaved,
        saved_widths=_saved_widths,
    )
)
native.register("hyper_lstm", HyperLSTMWeights)
triton_hyper_lstm.register()


def hyper_lstm(
    x: Tensor,
    weights: HyperLSTMWeights,
    state: HyperState | None = None,
    *,
    static_input: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, HyperState]:
    """Run a HyperLSTM over a whole sequence (equations in `reference.hyper_lstm`).

    Arguments, results and errors as `ops.lstm`, but for the state: (h, c, h_hyper, c_hyper), of
    shapes [B, N], [B, N], [B, H], [B, H].
    """
    hidden, (h, c, h_hyper, c_hyper) = OP(x, weights, state, static_input, lengths, seed, options)
    return hidden, (h, c, h_hyper, c_hyper)


hyper_lstm_bidirectional = OP.bidirectional
