"""The op `lstm`: a whole-sequence LSTM with recurrent dropout."""

from __future__ import annotations

from torch import Tensor

from sketchrnn_fast.ops import native, triton
from sketchrnn_fast.ops.recurrent import RecurrentOp
from sketchrnn_fast.ops.recurrent_call import reference_implementation
from sketchrnn_fast.reference import lstm as reference
from sketchrnn_fast.reference.lstm import LSTMWeights, Options


def _weight_shapes(width: int, weights: LSTMWeights) -> tuple[tuple[int, ...], ...]:
    units = weights.w_hh.shape[0]
    return ((width, 4 * units), (units, 4 * units), (4 * units,))


OP = RecurrentOp(
    name="lstm",
    weights_type=LSTMWeights,
    state_names=("h", "c"),
    state_widths=lambda weights: (weights.w_hh.shape[0],) * 2,
    weight_shapes=_weight_shapes,
)
OP.register(
    reference_implementation(
        reference.lstm,
        reference.lstm_backward,
        LSTMWeights,
        reference.LSTMSaved,
        saved_widths=lambda weights: (4 * weights.w_hh.shape[0], weights.w_hh.shape[0]),
    )
)
native.register("lstm", LSTMWeights)
triton.register("lstm", LSTMWeights)


def lstm(
    x: Tensor,
    weights: LSTMWeights,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    static_input: Tensor | None = None,
    lengths: Tensor | None = None,
    seed: Tensor | None = None,
    options: Options = Options(),
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Run an LSTM over a whole sequence (equations in `reference.lstm`).

    Args:
        x: [T, B, X], floating point.
        weights: in Magenta's layout, of x's dtype; `w_xh` reads [x, static_input].
        state: (h, c) before the first step, each [B, N]; zeros if None.
        static_input: [B, S], the same at every step, or None.
        lengths: int64 [B] with values 0 … T, or None if every row lasts T steps.
        seed: int64 [1], the key of the dropout masks; needed if options.keep_prob < 1.
        options: direction, forget bias, dropout, and the number of the first row.

    Returns:
        hidden [T, B, N], zero past a row's end, and the final (h, c); c is at least float32.

    Raises:
        ValueError, TypeError: shapes, types, lengths or seed do not fit; the message names them.
        BackendError: the chosen backend cannot run this.
    """
    hidden, (h, c) = OP(x, weights, state, static_input, lengths, seed, options)
    return hidden, (h, c)


lstm_bidirectional = OP.bidirectional
