"""What a sampler needs of a decoder: its weights, under names that errors can use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops.hyper_lstm import OP as HYPER_LSTM
from sketchrnn_fast.ops.layer_norm_lstm import OP as LAYER_NORM_LSTM
from sketchrnn_fast.ops.lstm import OP as LSTM
from sketchrnn_fast.ops.recurrent import RecurrentOp

CELLS: dict[str, RecurrentOp] = {
    "lstm": LSTM,
    "layer_norm": LAYER_NORM_LSTM,
    "hyper": HYPER_LSTM,
}
STROKE_SIZE = 5


class DecoderWeights(NamedTuple):
    """All that drawing needs of a model, of any floating-point dtype, device and layout.

    `Sampler` checks it, and gives its engine a copy or view that is float32 and contiguous, on the
    device where it draws.

    Attributes:
        cell: `lstm`, `layer_norm` or `hyper`.
        weights: those of the cell's op; `w_xh` reads [stroke-5, z].
        forget_bias: added to the forget gate before its sigmoid.
        initial: weight [Z, W] and bias [W] of the state before the first step, tanh(z W + b), whose
            parts lie side by side in the op's order (h, c, or h, c, h_hyper, c_hyper); None for
            an unconditional decoder, which starts from zeros.
        head: weight [N, 6K+3] and bias [6K+3] of the mixture's parameters.
    """

    cell: str
    weights: Any
    forget_bias: float
    initial: tuple[Tensor, Tensor] | None
    head: tuple[Tensor, Tensor]

    @property
    def z_size(self) -> int:
        """Z, 0 for an unconditional decoder."""
        return 0 if self.initial is None else self.initial[0].shape[0]

    @property
    def state_widths(self) -> tuple[int, ...]:
        """The width of each part of the state, in the op's order."""
        return CELLS[self.cell].state_widths(self.weights)

    def named(self) -> dict[str, Tensor]:
        """Every tensor by the name that errors call it."""
        initial = () if self.initial is None else self.initial
        return {
            **dict(zip(self.weights._fields, self.weights, strict=True)),
            **dict(zip(("initial weight", "initial bias"), initial, strict=False)),
            **dict(zip(("head weight", "head bias"), self.head, strict=True)),
        }

    def map(self, change: Callable[[str, Tensor], Tensor]) -> DecoderWeights:
        """The same decoder, each of its tensors replaced by `change(name, tensor)`."""
        new = {name: change(name, tensor) for name, tensor in self.named().items()}
        initial = self.initial and (new["initial weight"], new["initial bias"])
        weights = type(self.weights)(*(new[name] for name in self.weights._fields))
        head = (new["head weight"], new["head bias"])
        return self._replace(weights=weights, initial=initial, head=head)


def check_shapes(decoder: DecoderWeights) -> None:
    """Refuse a decoder whose parts do not fit together; its values are not looked at.

    Raises:
        UserError: the cell is unknown, or a weight has a wrong type or shape; it names which.
    """
    if decoder.cell not in CELLS:
        raise UserError(f"the decoder's cell is {decoder.cell!r}; it takes {', '.join(CELLS)}")
    op = CELLS[decoder.cell]
    if not isinstance(decoder.weights, op.weights_type):
        raise UserError(
            f"the decoder's weights are {type(decoder.weights).__name__}; the cell {decoder.cell} "
            f"takes {op.weights_type.__name__}"
        )
    if not math.isfinite(decoder.forget_bias):
        raise UserError(f"the decoder's forget_bias is {decoder.forget_bias}; it must be finite")
    for name, weight in decoder.named().items():
        if not weight.is_floating_point() or weight.dim() == 0:
            raise UserError(
                f"the decoder's {name} is {weight.dtype} {list(weight.shape)}; it takes a "
                "floating-point vector or matrix"
            )
    for name, weight, shape in _expected_shapes(decoder, op):
        if tuple(weight.shape) != shape or 0 in shape:
            raise UserError(
                f"the decoder's {name} has shape {list(weight.shape)}; with w_hh "
                f"{list(decoder.weights.w_hh.shape)} and z of {decoder.z_size} it takes "
                f"{list(shape)}"
            )


def _expected_shapes(
    decoder: DecoderWeights, op: RecurrentOp
) -> Iterator[tuple[str, Tensor, tuple[int, ...]]]:
    weights, (head_weight, head_bias) = decoder.weights, decoder.head
    shapes = op.weight_shapes(STROKE_SIZE + decoder.z_size, weights)
    yield from zip(weights._fields, weights, shapes, strict=True)
    if decoder.initial is not None:
        width = sum(decoder.state_widths)
        yield "initial weight", decoder.initial[0], (decoder.z_size, width)
        yield "initial bias", decoder.initial[1], (width,)
    mixtures = max(1, (head_bias.shape[0] - 3) // 6)
    yield "head weight", head_weight, (weights.w_hh.shape[0], 6 * mixtures + 3)
    yield "head bias", head_bias, (6 * mixtures + 3,)
