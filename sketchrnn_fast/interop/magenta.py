"""Magenta's variables: the one table that maps them to this project's tensors.

Names and shapes are those of a TensorFlow checkpoint of the original (`vector_rnn/…`), in the
order in which the original creates them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchrnn_fast.nn import HyperLSTMCell, LayerNormLSTMCell, LSTMCell, SketchRNN
from sketchrnn_fast.nn.recurrent import RecurrentCell

GATES = ("i", "j", "f", "o")


class Variable(NamedTuple):
    """One variable of the original and where its values live in a model."""

    name: str
    tensor: Tensor  # a parameter of the model or a view of one, in Magenta's shape


def variable_table(
    model: SketchRNN, of: Callable[[torch.nn.Parameter], Tensor] = lambda parameter: parameter.data
) -> list[Variable]:
    """Every trainable variable of the original beside the model's tensor, in creation order.

    Args:
        of: from a parameter to what is wanted of it: its values, or its gradient.

    Raises:
        ValueError: the model has classes, of which the original knows nothing.
    """
    if model.config.num_classes:
        raise ValueError(
            f"this model has {model.config.num_classes} classes; Magenta's models have none"
        )
    table: list[Variable] = []

    def add(name: str, tensor: Tensor) -> None:
        table.append(Variable(f"vector_rnn/{name}", tensor))

    def add_linear(scope: str, linear: torch.nn.Linear) -> None:
        add(f"{scope}/super_linear_w", of(_parameter(linear, "weight")).T)
        add(f"{scope}/super_linear_b", of(_parameter(linear, "bias")))

    def add_cell(scope: str, cell: RecurrentCell) -> None:
        for suffix, parameter, gate in _cell_table(cell):
            tensor = of(_parameter(cell, parameter))
            add(f"{scope}/{type(cell).__name__}/{suffix}", tensor if gate is None else tensor[gate])

    if model.config.conditional:
        for direction, cell in zip(("fw", "bw"), model.encoder.cells, strict=True):
            assert isinstance(cell, RecurrentCell)
            add_cell(f"ENC_RNN/{direction}", cell)
        add_linear("ENC_RNN_mu", model.posterior_mean)
        add_linear("ENC_RNN_sigma", model.posterior_presig)
        add_linear("linear", model.initial_state)
    add("RNN/output_w", of(_parameter(model.output.linear, "weight")).T)
    add("RNN/output_b", of(_parameter(model.output.linear, "bias")))
    add_cell("RNN", model.decoder_cell)
    return table


def variables(model: SketchRNN) -> dict[str, NDArray[Any]]:
    """The model's weights under the original's names, as arrays of their own."""
    return {
        name: tensor.detach().cpu().contiguous().numpy().copy()
        for name, tensor in variable_table(model)
    }


def load_variables(model: SketchRNN, values: Mapping[str, NDArray[Any]]) -> None:
    """Set the model's weights from the original's variables.

    Entries that are no trainable variables (optimiser slots, steps) are left aside.

    Raises:
        ValueError: a variable is missing, has another shape, or is not finite; nothing is changed.
    """
    table = variable_table(model)
    arrays: list[NDArray[Any]] = []
    for name, tensor in table:
        if name not in values:
            raise ValueError(f"the variable {name} is missing; the model has {len(table)}")
        array = np.asarray(values[name])
        if array.shape != tuple(tensor.shape):
            raise ValueError(
                f"the variable {name} has shape {list(array.shape)}; "
                f"this model takes {list(tensor.shape)}"
            )
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"the variable {name} is not all finite floating-point numbers")
        arrays.append(array)
    with torch.no_grad():
        for (_, tensor), array in zip(table, arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _parameter(module: torch.nn.Module, name: str) -> torch.nn.Parameter:
    parameter = getattr(module, name)
    assert isinstance(parameter, torch.nn.Parameter)
    return parameter


def _cell_table(cell: RecurrentCell) -> list[tuple[str, str, int | None]]:
    """Suffix of the original's name, our parameter, and its gate if they are stacked."""
    norms: list[tuple[str, str, int | None]] = [
        ("ln_all/ln_gamma", "ln_all_gamma", None),
        ("ln_all/ln_beta", "ln_all_beta", None),
        ("ln_c/ln_gamma", "ln_c_gamma", None),
        ("ln_c/ln_beta", "ln_c_beta", None),
    ]
    products: list[tuple[str, str, int | None]] = [("W_xh", "w_xh", None), ("W_hh", "w_hh", None)]
    if isinstance(cell, LSTMCell):
        return [*products, ("bias", "bias", None)]
    if isinstance(cell, LayerNormLSTMCell):
        return [*products, *norms]
    assert isinstance(cell, HyperLSTMCell)
    inner = [
        (f"LayerNormLSTMCell/{suffix}", f"hyper_{parameter}", gate)
        for suffix, parameter, gate in [*products, *norms]
    ]
    paths: list[tuple[str, str, int | None]] = []
    for path in ("x", "h"):
        for index, gate_name in enumerate(GATES):
            scope = f"hyper_{gate_name}{path}"
            paths += [
                (f"{scope}/zw/super_linear_w", f"{path}_embedding", index),
                (f"{scope}/zw/super_linear_b", f"{path}_embedding_bias", index),
                (f"{scope}/alpha/super_linear_w", f"{path}_alpha", index),
            ]
            if path == "h":
                paths += [
                    (f"{scope}/zb/super_linear_w", "b_embedding", index),
                    (f"{scope}/beta/super_linear_w", "b_beta", index),
                ]
    return [*products, ("bias", "bias", None), *inner, *paths, *norms]
