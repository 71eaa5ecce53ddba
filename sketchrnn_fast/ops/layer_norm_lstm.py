"""The op `layer_norm_lstm`: a whole-sequence LayerNorm-LSTM with recurrent dropout."""

from __future__ import annotations

from torch import Tensor

from sketchrnn_fast.ops import native, triton
from sketchrnn_fast.ops.recurrent import RecurrentOp
from sketchrnn_fast.ops.recurrent_call import reference_implementation
from sketchrnn_fast.reference import layer_norm_lstm as reference
from sketchrnn_fast.reference.layer_norm_lstm import LayerNormLSTMWeights
from sketchrnn_fast.reference.lstm import Options


def _weight_shapes(width: int, weights: LayerNormLSTMWeights) -> tuple[tuple[int, ...], ...]:
    units = weights.w_hh.shape[0]
    gates = 4 * units
    return ((width, gates), (units, gates), (gates,), (gates,), (units,), (units,))


OP = RecurrentOp(
    name="layer_norm_lstm",
    weights_type=LayerNormLSTMWeights,
    state_names=("h", "c"),
    state_widths=lambda weights: (weights.w_hh.shape[0],) * 2,
    weight_shapes=_weight_shapes,
)
OP.register(
    reference_implementation(
        reference.layer_norm_lstm,
        reference.layer_norm_lstm_backward,
        LayerNormLSTMWeights,
        reference.LayerNormLSTMSaved,
        saved_widths=lambda weights: (4 * weights.w_hh.shape[0], weights.w_hh.shape[0]),
    )
)
native.register("layer_norm_lstm", LayerNormLSTMWeights)
triton.register("layer_norm_lstm", LayerNormLSTMWeights)


def layer_norm_lstm(
    x: Tensor,
    weights: LayerNormLSTMWeights,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    static_input: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run a LayerNorm-LSTM over a whole sequence (equations in `reference.layer_norm_lstm`).

    Arguments, results and errors as `ops.lstm`.
    """
    hidden, (h, c) = OP(x, weights, state, static_input, lengths, seed, options)
    return hidden, (h, c)


layer_norm_lstm_bidirectional = OP.bidirectional
