"""One forward and one backward pass of a recurrent layer: what it starts from, and ours.

Gradients are those which training a decoder needs: of the weights, of the initial state and of the
static input (z). The input x is data and has none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import agreement
import torch
from torch import Tensor

import sketchrnn_fast as srf
from sketchrnn_fast import nn, ops

Pass = tuple[Tensor, tuple[Tensor, ...]]  # hidden, and the gradients of `Inputs.trained`

MODULES = {"lstm": nn.LSTM, "layer_norm_lstm": nn.LayerNormLSTM, "hyper_lstm": nn.HyperLSTM}
OPS = tuple(MODULES)
CPU = torch.device("cpu")
CHECKED_STEPS = 20
KEEP_PROB = 0.9


class Sizes(NamedTuple):
    """Sizes of a layer; those of the whole model's decoder by default."""

    T: int = 250
    B: int = 100
    X: int = 5
    S: int = 128
    N: int = 512
    H: int = 256  # of a HyperLSTM's inner cell
    E: int = 32  # of a HyperLSTM's embeddings

    def __str__(self) -> str:
        return f"T={self.T} B={self.B} N={self.N}"

    @property
    def steps(self) -> int:
        """Steps of all rows together."""
        return self.T * self.B


DECODER = Sizes()
SMALL = Sizes(T=8, B=4, S=6, N=32, H=16, E=4)


class Inputs(NamedTuple):
    """What a pass starts from."""

    x: Tensor  # [T, B, X]
    static: Tensor  # [B, S]
    weights: Any
    state: tuple[Tensor, ...]
    grad_hidden: Tensor  # [T, B, N]
    seed: Tensor  # int64 [1]

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """All that has a gradient."""
        return (self.static, *self.weights, *self.state)

    @property
    def device(self) -> torch.device:
        return self.x.device


def make_inputs(
    op: str,
    sizes: Sizes,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> Inputs:
    """Random inputs; the weights are initial ones with noise, so that none of them is idle."""
    arguments = {"hyper_num_units": sizes.H, "hyper_embedding_size": sizes.E}
    module = MODULES[op](
        sizes.X, sizes.N, static_size=sizes.S, **(arguments if op == "hyper_lstm" else {})
    )
    cell = module.cells[0]

    def trained(values: Tensor) -> Tensor:
        return values.detach().to(device, dtype).requires_grad_()

    return Inputs(
        x=torch.randn(sizes.T, sizes.B, sizes.X).to(device, dtype),
        static=trained(torch.randn(sizes.B, sizes.S)),
        weights=type(cell.weights)(
            *(trained(weight + 0.02 * torch.randn_like(weight)) for weight in cell.weights)
        ),
        state=tuple(trained(0.5 * torch.randn(sizes.B, width)) for width in cell.state_widths),
        grad_hidden=torch.randn(sizes.T, sizes.B, sizes.N).to(device, dtype),
        seed=torch.tensor([20], device=device),
    )


def ours(op: str, inputs: Inputs, keep_prob: float, lengths: Tensor | None = None) -> Pass:
    """A pass of our op on whatever backend is chosen."""
    hidden, _ = getattr(ops, op)(
        inputs.x,
        inputs.weights,
        inputs.state,
        static_input=inputs.static,
        lengths=lengths,
        seed=inputs.seed,
        options=ops.Options(keep_prob=keep_prob),
    )
    return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)


def check_inputs(op: str, sizes: Sizes, like: Inputs | None = None) -> Inputs:
    """Inputs of the same layer for a check: a short sequence, on the device and dtype of `like`."""
    placement = () if like is None else (like.device, like.x.dtype)
    return make_inputs(op, sizes._replace(T=min(sizes.T, CHECKED_STEPS)), *placement)


def check_ours(op: str, sizes: Sizes, like: Inputs | None = None) -> None:
    """Refuse to go on where ours is not what the reference computes, dropout and lengths included.

    Raises:
        DisagreementError: it says what differs and by how much.
    """
    inputs = check_inputs(op, sizes, like)
    T, B = inputs.x.shape[:2]
    lengths = (torch.arange(B, device=inputs.device) % T) + 1
    found = ours(op, inputs, KEEP_PROB, lengths)
    with srf.backend("reference"):
        expected = ours(op, inputs, KEEP_PROB, lengths)
    name = f"our {op} at N={sizes.N}"
    agreement.check(name, expected, found, agreement.tolerance(inputs.x), "the reference")
