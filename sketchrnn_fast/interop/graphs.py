"""A model as graphs of plain PyTorch operations, for runtimes that do not have this package.

    Encoder       points [B, T, 5], lengths [B]          → mean [B, Z], presig [B, Z]
    Start         z [B, Z]                               → the decoder's state before its first step
    Step          stroke [B, 5], z [B, Z], state         → params [B, 6K+3], state

The encoder takes the real points alone, neither start token nor end; what stands past a row's
length does not matter. A state is (h, c), each [B, N], with the hyper cell's pair after them in a
HyperLSTM; an unconditional model has no encoder, no start and no z, and starts from zeros. `params`
is the mixture's raw parameters (model_spec 2.4). The equations are the reference's (`reference/`),
the encoder's walk over time is one `scan`, so the graphs hold for every B and T.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.export import Dim, ExportedProgram

from sketchrnn_fast.config import to_json
from sketchrnn_fast.interop.errors import check_classless
from sketchrnn_fast.nn import HyperLSTMCell, LayerNormLSTMCell, LSTMCell, SketchRNN
from sketchrnn_fast.nn.modes import evaluating
from sketchrnn_fast.nn.recurrent import RecurrentCell
from sketchrnn_fast.nn.sketch_rnn import STROKE_SIZE
from sketchrnn_fast.reference.hyper_lstm import hyper_lstm_inputs, hyper_lstm_step
from sketchrnn_fast.reference.layer_norm_lstm import layer_norm_lstm_inputs, layer_norm_lstm_step
from sketchrnn_fast.reference.lstm import lstm_inputs, lstm_step
from sketchrnn_fast.reference.sequence import active_rows

State = tuple[Tensor, ...]
CONFIG = "config.json"
_STATE_NAMES = ("h", "c", "h_hyper", "c_hyper")
# Of each cell: what its steps take of the input, and a step.
_REFERENCES: dict[
    type[RecurrentCell], tuple[Callable[..., State], Callable[..., tuple[State, State]]]
] = {
    LSTMCell: (lstm_inputs, lstm_step),
    LayerNormLSTMCell: (layer_norm_lstm_inputs, layer_norm_lstm_step),
    HyperLSTMCell: (hyper_lstm_inputs, hyper_lstm_step),
}


class Graph(NamedTuple):
    """One part of a model, exported.

    Attributes:
        inputs, outputs: names of what it takes and gives, in order.
        example: inputs of two rows (the encoder's of three points), for comparing runtimes.
    """

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    example: tuple[Tensor, ...]


def export_graphs(model: SketchRNN) -> dict[str, Graph]:
    """A model's parts by name: `encoder` and `start` if it is conditional, and `step`.

    Exported by `torch.export`, with free sizes B and T, in float32, without dropout.

    Raises:
        ExportError: the model has classes, for which the parts have no input.
    """
    check_classless(model.config, "the exported parts take")
    names = state_names(model)
    random = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    graphs = {}
    with evaluating(model), torch.no_grad():
        z: tuple[Tensor, ...] = ()
        if model.config.conditional:
            z = (random(2, model.config.z_size),)
            points = random(2, 3, STROKE_SIZE), torch.tensor([3, 2])
            free = {"points": {0: Dim("B"), 1: Dim("T")}, "lengths": {0: Dim("B")}}
            graphs["encoder"] = _export(Encoder(model), points, free, ("mean", "presig"))
            graphs["start"] = _export(Start(model), z, {"z": {0: Dim("B")}}, names)
        rows = {0: Dim("B")}
        state = tuple(random(2, width) for width in model.decoder_cell.state_widths)
        graphs["step"] = _export(
            Step(model),
            (random(2, STROKE_SIZE), *z, *state),
            {"stroke": rows, "z_and_state": tuple(rows for _ in (*z, *state))},
            ("params", *(f"new_{name}" for name in names)),
            names=("stroke", *(["z"] if z else []), *names),
        )
    return graphs


def state_names(model: SketchRNN) -> tuple[str, ...]:
    """The names of the parts of the decoder's state."""
    return _STATE_NAMES[: len(model.decoder_cell.state_widths)]


def runtime_config(model: SketchRNN) -> dict[str, Any]:
    """What a program needs to know beside the graphs."""
    return {
        "model": to_json(model.config),
        "scale_factor": float(model.scale_factor),
        "state": dict(zip(state_names(model), model.decoder_cell.state_widths, strict=True)),
    }


class Encoder(nn.Module):
    """The bidirectional encoder and its posterior."""

    def __init__(self, model: SketchRNN) -> None:
        super().__init__()
        self.cells = model.encoder.cells
        self.posterior_mean, self.posterior_presig = model.posterior_mean, model.posterior_presig

    def forward(self, points: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        points = points.transpose(0, 1)
        last = torch.cat(
            [
                _last_hidden(cell, points, lengths, reverse=place == 1)
                for place, cell in enumerate(self.cells)
            ],
            dim=-1,
        )
        return self.posterior_mean(last), self.posterior_presig(last)


class Start(nn.Module):
    """From z to the decoder's first state."""

    def __init__(self, model: SketchRNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> State:
        start = self.model.decoder_start(z)
        assert start is not None
        return start


class Step(nn.Module):
    """One step of the decoder."""

    def __init__(self, model: SketchRNN) -> None:
        super().__init__()
        self.cell, self.output = model.decoder_cell, model.output
        self.conditional = model.config.conditional

    def forward(self, stroke: Tensor, *z_and_state: Tensor) -> State:
        z, state = (z_and_state[0], z_and_state[1:]) if self.conditional else (None, z_and_state)
        new_state = _step(self.cell, stroke, z, state)
        return self.output(new_state[0]), *new_state


def _step(cell: nn.Module, x: Tensor, static: Tensor | None, state: State) -> State:
    """One step of the reference: x [B, X]."""
    assert isinstance(cell, RecurrentCell)
    inputs_of, step = _REFERENCES[type(cell)]
    inputs = tuple(part[0] for part in inputs_of(x[None], static, cell.weights, None))
    return step(inputs, state, cell.weights, None, cell.forget_bias)[0]


def _last_hidden(cell: nn.Module, points: Tensor, lengths: Tensor, *, reverse: bool) -> Tensor:
    """h [B, N] after a cell's walk over points [T, B, 5]; past its end a row's state stays.

    A row enters a reversed walk, with zeros, at its own last point.
    """
    assert isinstance(cell, RecurrentCell)
    inputs_of, reference_step = _REFERENCES[type(cell)]
    inputs = inputs_of(points, None, cell.weights, lengths)

    def step(state: State, now: tuple[Tensor, ...]) -> tuple[State, tuple[Tensor]]:
        *inputs_now, is_active = now
        new_state, _ = reference_step(inputs_now, state, cell.weights, None, cell.forget_bias)
        new_state = tuple(
            torch.where(is_active, new, old) for new, old in zip(new_state, state, strict=True)
        )
        return new_state, (new_state[0].clone(),)

    zeros = tuple(points.new_zeros(points.shape[1], width) for width in cell.state_widths)
    active = active_rows(points.shape[0], lengths)
    final, _ = scan(step, zeros, (*inputs, active), dim=0, reverse=reverse)
    last: Tensor = final[0]
    return last


def _export(
    module: nn.Module,
    example: tuple[Tensor, ...],
    free: dict[str, Any],
    outputs: tuple[str, ...],
    names: tuple[str, ...] | None = None,
) -> Graph:
    program = torch.export.export(module.eval(), example, dynamic_shapes=free)
    return Graph(program, names or tuple(free), outputs, example)
