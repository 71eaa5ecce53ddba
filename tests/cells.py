"""The three recurrent cells as the tests see them, and random cases to run them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchrnn_fast import nn, ops
from sketchrnn_fast.ops import Options
from sketchrnn_fast.philox import philox4x32
from sketchrnn_fast.reference import hyper_lstm, layer_norm_lstm, lstm

FLOAT64 = torch.float64
HYPER_SIZES = {"hyper_num_units": 3, "hyper_embedding_size": 2}


class Cell(NamedTuple):
    """One cell in each of its forms."""

    name: str
    weights_type: type[Any]
    reference: Callable[..., Any]
    reference_backward: Callable[..., Any]
    op: Callable[..., Any]
    bidirectional: Callable[..., Any]
    layer: type[Any]
    one_step: type[Any]
    sizes: dict[str, int]  # of the modules, beyond input and hidden size

    @property
    def kind(self) -> str:
        """The row of the table of tolerances for its outputs."""
        return "hyper" if self.name == "hyper_lstm" else "value"


CELLS = {
    "lstm": Cell(
        "lstm",
        lstm.LSTMWeights,
        lstm.lstm,
        lstm.lstm_backward,
        ops.lstm,
        ops.lstm_bidirectional,
        nn.LSTM,
        nn.LSTMCell,
        {},
    ),
    "layer_norm_lstm": Cell(
        "layer_norm_lstm",
        layer_norm_lstm.LayerNormLSTMWeights,
        layer_norm_lstm.layer_norm_lstm,
        layer_norm_lstm.layer_norm_lstm_backward,
        ops.layer_norm_lstm,
        ops.layer_norm_lstm_bidirectional,
        nn.LayerNormLSTM,
        nn.LayerNormLSTMCell,
        {},
    ),
    "hyper_lstm": Cell(
        "hyper_lstm",
        hyper_lstm.HyperLSTMWeights,
        hyper_lstm.hyper_lstm,
        hyper_lstm.hyper_lstm_backward,
        ops.hyper_lstm,
        ops.hyper_lstm_bidirectional,
        nn.HyperLSTM,
        nn.HyperLSTMCell,
        HYPER_SIZES,
    ),
}
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


class Variant(NamedTuple):
    """How a case differs from the plain walk over whole rows."""

    reverse: bool = False
    lengths: bool = False
    static_size: int = 0
    keep_prob: float = 1.0
    row_offset: int = 0
    forget_bias: float = 1.0


VARIANTS = {
    "plain": Variant(),
    "reverse": Variant(reverse=True),
    "lengths": Variant(lengths=True),
    "lengths_in_reverse": Variant(reverse=True, lengths=True),
    "static_input": Variant(static_size=2),
    "dropout": Variant(keep_prob=0.6),
    "everything": Variant(False, True, 2, 0.7, 5, 0.5),
    "everything_in_reverse": Variant(True, True, 2, 0.7, 2**31, 0.5),
}
EVERYTHING = [VARIANTS["everything"], VARIANTS["everything_in_reverse"]]
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
each_direction_with_everything = pytest.mark.parametrize(
    "variant", EVERYTHING, ids=["forward", "reverse"]
)


class Case(NamedTuple):
    """The arguments of a recurrent op, all random."""

    x: Tensor  # [T, B, X]
    static: Tensor | None  # [B, S]
    weights: Any
    state: tuple[Tensor, ...]
    lengths: Tensor | None
    seed: Tensor
    options: Options

    @property
    def leaves(self) -> list[Tensor]:
        """Everything that has a gradient."""
        static = [] if self.static is None else [self.static]
        return [self.x, *static, *self.weights, *self.state]

    def with_leaves(self, leaves: tuple[Tensor, ...] | list[Tensor]) -> Case:
        """The same case with other tensors in the order of `leaves`."""
        x, *rest = leaves
        static = None if self.static is None else rest.pop(0)
        count = len(self.weights)
        weights = type(self.weights)(*rest[:count])
        return self._replace(x=x, static=static, weights=weights, state=tuple(rest[count:]))

    def requiring_gradients(self) -> Case:
        return self.with_leaves([leaf.detach().clone().requires_grad_() for leaf in self.leaves])

    def to(self, dtype: torch.dtype) -> Case:
        return self.with_leaves([leaf.detach().to(dtype) for leaf in self.leaves])


def make_case(
    cell: Cell,
    variant: Variant = Variant(),  # noqa: B008 - immutable
    *,
    T: int = 4,
    B: int = 4,
    X: int = 3,
    N: int = 5,
    H: int = 3,
    E: int = 2,
    dtype: torch.dtype = FLOAT64,
    seed: int = 0,
) -> Case:
    """A random case; with lengths, they include 0, T and what lies between.

    Weights that many units share are smaller by the square root of their number. Otherwise an LSTM
    of some hundred units is chaotic: each step enlarges a rounding error, and even the reference
    is not within float32's tolerances of itself in float64.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=FLOAT64) * 0.5).to(dtype)

    width = X + variant.static_size
    shapes: dict[str, tuple[int, ...]] = {
        "w_xh": (width, 4 * N),
        "w_hh": (N, 4 * N),
        "bias": (4 * N,),
        "ln_all_gamma": (4 * N,),
        "ln_all_beta": (4 * N,),
        "ln_c_gamma": (N,),
        "ln_c_beta": (N,),
        "hyper_w_xh": (width + N, 4 * H),
        "hyper_w_hh": (H, 4 * H),
        "hyper_ln_all_gamma": (4 * H,),
        "hyper_ln_all_beta": (4 * H,),
        "hyper_ln_c_gamma": (H,),
        "hyper_ln_c_beta": (H,),
        "x_embedding": (4, H, E),
        "x_embedding_bias": (4, E),
        "x_alpha": (4, E, N),
        "h_embedding": (4, H, E),
        "h_embedding_bias": (4, E),
        "h_alpha": (4, E, N),
        "b_embedding": (4, H, E),
        "b_beta": (4, E, N),
    }
    weights = cell.weights_type(*(random(*shapes[name]) for name in cell.weights_type._fields))
    weights = weights._replace(w_hh=weights.w_hh * min(1.0, 3.0 / N**0.5))
    widths = (N, N, H, H) if cell.name == "hyper_lstm" else (N, N)
    lengths = (3 * torch.arange(B) + T) % (T + 1) if variant.lengths else None
    if lengths is not None and B > 1:
        lengths[1] = 0
    return Case(
        x=random(T, B, X),
        static=random(B, variant.static_size) if variant.static_size else None,
        weights=weights,
        state=tuple(random(B, width) for width in widths),
        lengths=lengths,
        seed=torch.tensor([-123456789123 + seed]),
        options=Options(
            variant.reverse, variant.forget_bias, variant.keep_prob, variant.row_offset
        ),
    )


def run_reference(cell: Cell, case: Case) -> tuple[Tensor, tuple[Tensor, ...]]:
    hidden, final, _ = cell.reference(*case)
    return hidden, final


def run_op(cell: Cell, case: Case) -> tuple[Tensor, tuple[Tensor, ...]]:
    hidden, final = cell.op(
        case.x,
        case.weights,
        case.state,
        static_input=case.static,
        lengths=case.lengths,
        seed=case.seed,
        options=case.options,
    )
    return hidden, final


class BothCases(NamedTuple):
    """The arguments of an op in both directions: one x, and the rest for each direction."""

    first: Case
    second: Case  # its x and static input are those of the first

    @property
    def leaves(self) -> list[Tensor]:
        """Everything that has a gradient, in the order of the op."""
        first, second = self
        static = [] if first.static is None else [first.static]
        weights = [*first.weights, *second.weights]
        return [first.x, *static, *weights, *first.state, *second.state]

    def with_leaves(self, leaves: tuple[Tensor, ...] | list[Tensor]) -> BothCases:
        """The same case with other tensors in the order of `leaves`."""
        shared = 1 if self.first.static is None else 2
        weights, state = len(self.first.weights), len(self.first.state)
        second = shared + weights  # where the second's weights begin
        states = second + weights  # and the states of both
        own = [*leaves[shared:second], *leaves[states : states + state]]
        others = [*leaves[second:states], *leaves[states + state :]]
        return BothCases(
            self.first.with_leaves([*leaves[:shared], *own]),
            self.second.with_leaves([*leaves[:shared], *others]),
        )

    def requiring_gradients(self) -> BothCases:
        return self.with_leaves([leaf.detach().clone().requires_grad_() for leaf in self.leaves])

    def to(self, dtype: torch.dtype) -> BothCases:
        return self.with_leaves([leaf.detach().to(dtype) for leaf in self.leaves])

    @property
    def seeds(self) -> Tensor:
        return torch.cat([self.first.seed, self.second.seed])


def make_both(cell: Cell, variant: Variant = Variant(), **arguments: Any) -> BothCases:  # noqa: B008
    """A random case of both directions; `variant` is the first's."""
    first = make_case(cell, variant, **arguments)
    second = make_case(cell, variant._replace(reverse=not variant.reverse), seed=1, **arguments)
    return BothCases(first, second._replace(x=first.x, static=first.static))


def run_both(cell: Cell, case: BothCases) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """The op of both directions."""
    first, second = case
    found = cell.bidirectional(
        first.x,
        (first.weights, second.weights),
        (first.state, second.state),
        static_input=first.static,
        lengths=first.lengths,
        seed=case.seeds,
        options=first.options,
    )
    return list(found)


def run_each(cell: Cell, case: BothCases) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """The op of one direction, once for each."""
    return [run_op(cell, one) for one in case]


def loss_of_both(results: list[tuple[Tensor, tuple[Tensor, ...]]]) -> Tensor:
    (hidden, final), (other_hidden, other_final) = results
    return random_loss(hidden, (*final, other_hidden, *other_final))


def random_loss(hidden: Tensor, final: tuple[Tensor, ...]) -> Tensor:
    """A scalar in which every element of the results has a weight of its own."""
    generator = torch.Generator().manual_seed(99)
    loss = hidden.new_zeros((), dtype=FLOAT64)
    for tensor in (hidden, *final):
        weight = torch.randn(tensor.shape, generator=generator, dtype=FLOAT64)
        loss = loss + (tensor.double() * weight).sum()
    return loss


class Results(NamedTuple):
    """What an op gives, forward and backward."""

    outputs: list[Tensor]  # hidden, then the final state
    gradients: Case  # of `random_loss`, in the places of what they belong to

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.outputs, *self.gradients.leaves]


def results(cell: Cell, case: Case, backend: str = "native") -> Results:
    """Run an op with its backward pass."""
    case = case.requiring_gradients()
    with ops.backend(backend):
        hidden, final = run_op(cell, case)
    gradients = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    outputs = [hidden.detach(), *(part.detach() for part in final)]
    return Results(outputs, case.with_leaves(gradients))


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    """Fail unless all tensors are the same, bit for bit."""
    for index, (tensor, wanted) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(tensor, wanted), f"tensor {index} differs"


# ---- The cells once more, in NumPy and float64, one row and one unit at a time ----

Step = Callable[
    [Any, NDArray[np.float64], tuple[NDArray[np.float64], ...], Any, float],
    tuple[NDArray[np.float64], ...],
]


def numpy_sequence(
    step: Step, case: Case
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], ...]]:
    """Run a one-row step over every row's own points.

    Args:
        step: from weights, input [X+S], state, dropout's factors [N] and the forget bias to the
            new state.
    """
    x = case.x.double().numpy()
    weights = type(case.weights)(*(weight.double().numpy() for weight in case.weights))
    T, B, _ = x.shape
    N = weights.w_hh.shape[0]
    reverse, forget_bias, keep_prob, row_offset = case.options
    hidden = np.zeros((T, B, N))
    finals = []
    for b in range(B):
        state = tuple(part[b].double().numpy() for part in case.state)
        length = T if case.lengths is None else int(case.lengths[b])
        for t in reversed(range(length)) if reverse else range(length):
            row = x[t, b]
            if case.static is not None:
                row = np.concatenate([row, case.static[b].double().numpy()])
            factors = dropout_factors(int(case.seed), t, row_offset + b, N, keep_prob)
            state = step(weights, row, state, factors, forget_bias)
            hidden[t, b] = state[0]
        finals.append(state)
    return hidden, tuple(np.stack(part) for part in zip(*finals, strict=True))


def dropout_factors(
    seed: int, t: int, row: int, units: int, keep_prob: float, stream: int = 0
) -> NDArray[np.float64]:
    """Inverted dropout's factors of one row and step, unit by unit, by the architecture's rule."""
    blocks = -(-units // 8)
    factors = np.zeros(units)
    for unit in range(units):
        lane, block = divmod(unit, blocks)
        word = int(philox4x32(block, t, row, stream, seed)[lane // 2])
        bits = word >> 16 if lane % 2 else word & 0xFFFF
        factors[unit] = (bits < round(keep_prob * 65536)) / keep_prob
    return factors


def sigmoid(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-a))


def layer_norm(
    a: NDArray[np.float64], gamma: NDArray[np.float64], beta: NDArray[np.float64]
) -> NDArray[np.float64]:
    return gamma * (a - a.mean()) / np.sqrt(a.var() + 1e-3) + beta
