"""One forward and one backward pass of a recurrent layer: ours, and each peer's, on equal inputs.

Gradients are those which training a decoder needs: of the weights, of the initial state and of the
static input (z). The input x is data and has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import agreement
import peers
import torch
from torch import Tensor

from sketchrnn_fast import nn, ops

Pass = tuple[Tensor, tuple[Tensor, ...]]  # hidden, and the gradients of `Inputs.trained`

SEED = torch.tensor([20])
MODULES = {"lstm": nn.LSTM, "layer_norm_lstm": nn.LayerNormLSTM, "hyper_lstm": nn.HyperLSTM}


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


DECODER = Sizes()


class Inputs(NamedTuple):
    """What a pass starts from, float32."""

    x: Tensor  # [T, B, X]
    static: Tensor  # [B, S]
    weights: Any
    state: tuple[Tensor, ...]
    grad_hidden: Tensor  # [T, B, N]

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """All that has a gradient."""
        return (self.static, *self.weights, *self.state)


def make_inputs(op: str, sizes: Sizes) -> Inputs:
    """Random inputs; the weights are initial ones with noise, so that none of them is idle."""
    arguments = {"hyper_num_units": sizes.H, "hyper_embedding_size": sizes.E}
    module = MODULES[op](
        sizes.X, sizes.N, static_size=sizes.S, **(arguments if op == "hyper_lstm" else {})
    )
    cell = module.cells[0]
    weights = type(cell.weights)(
        *(
            (weight.detach() + 0.02 * torch.randn_like(weight)).requires_grad_()
            for weight in cell.weights
        )
    )
    state = tuple(
        (0.5 * torch.randn(sizes.B, width)).requires_grad_() for width in cell.state_widths
    )
    return Inputs(
        x=torch.randn(sizes.T, sizes.B, sizes.X),
        static=torch.randn(sizes.B, sizes.S, requires_grad=True),
        weights=weights,
        state=state,
        grad_hidden=torch.randn(sizes.T, sizes.B, sizes.N),
    )


def ours(op: str, inputs: Inputs, keep_prob: float, lengths: Tensor | None = None) -> Pass:
    hidden, _ = getattr(ops, op)(
        inputs.x,
        inputs.weights,
        inputs.state,
        static_input=inputs.static,
        lengths=lengths,
        seed=SEED,
        options=ops.Options(keep_prob=keep_prob),
    )
    return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)


def eager(op: str, inputs: Inputs, keep_prob: float, step: peers.Step | None = None) -> Pass:
    hidden, _ = peers.layer(
        peers.CELLS[op],
        inputs.x,
        inputs.static,
        inputs.weights,
        inputs.state,
        keep_prob,
        step,
    )
    return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)


def compiled_step(op: str) -> peers.Step:
    """The step of an eager cell under torch.compile."""
    step: peers.Step = torch.compile(peers.CELLS[op].step, dynamic=False)
    return step


class TorchLSTM:
    """`torch.nn.LSTM` with our weights: no recurrent dropout, and z concatenated to x."""

    def __init__(self, inputs: Inputs) -> None:
        w_hh = inputs.weights.w_hh
        self.inputs = inputs
        self.module = torch.nn.LSTM(len(inputs.weights.w_xh), len(w_hh))
        peers.fill_torch_lstm(self.module, inputs.weights)

    def run(self) -> Pass:
        """Gradients as torch lays them out."""
        static, state = self.inputs.static, self.inputs.state
        x = torch.cat([self.inputs.x, static.expand(len(self.inputs.x), -1, -1)], dim=-1)
        hidden, _ = self.module(x, tuple(part[None] for part in state))
        trained = (static, *self.module.parameters(), *state)
        return hidden, torch.autograd.grad(hidden, trained, self.inputs.grad_hidden)

    def run_as_ours(self) -> Pass:
        """Gradients in the order and layout of ours; torch's second bias has no counterpart."""
        hidden, (static, w_ih, w_hh, bias_ih, _, *state) = self.run()
        weights = (peers.torch_gates(w_ih.T), peers.torch_gates(w_hh.T), peers.torch_gates(bias_ih))
        return hidden, (static, *weights, *state)


def check_layer(op: str, name: str, sizes: Sizes, run: Callable[[str, Inputs], Pass]) -> None:
    """Compare a peer's pass with ours on a short sequence of the same layer, without dropout."""
    inputs = make_inputs(op, sizes._replace(T=min(sizes.T, 20)))
    agreement.check(f"{name} of {op} at N={sizes.N}", ours(op, inputs, 1.0), run(op, inputs))
