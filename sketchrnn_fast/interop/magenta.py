"""Magenta's variables: the one table that maps them to this project's tensors.

Names and shapes are those of a TensorFlow checkpoint of the original (`vector_rnn/…`), in the
order in which the original creates them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.nn import HyperLSTMCell, LayerNormLSTMCell, LSTMCell, SketchRNN
from sketchrnn_fast.nn.recurrent import RecurrentCell

GATES = ("i", "j", "f", "o")
SLOTS = ("Adam", "Adam_1")  # of the optimiser: the mean, and the mean square


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
    arrays = checked(table, values)
    with torch.no_grad():
        for (_, tensor), array in zip(table, arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def load_moments(
    model: SketchRNN, values: Mapping[str, NDArray[Any]]
) -> list[tuple[Tensor, Tensor]] | None:
    """Adam's running means of each parameter's gradient and of its square.

    Args:
        values: a checkpoint's; the slots of the variable V are `vector_rnn/V/Adam` and `…/Adam_1`.

    Returns:
        One pair a parameter, in the order of `model.parameters()`; None if there are no slots.

    Raises:
        ValueError: some slots are missing, of another shape, not finite, or a mean square is
            negative.
    """
    if not any(_slot(name, slot) in values for name, _ in variable_table(model) for slot in SLOTS):
        return None
    columns = []
    for slot in SLOTS:
        moments = {parameter: torch.zeros_like(parameter.data) for parameter in model.parameters()}
        table = variable_table(model, moments.__getitem__)
        arrays = checked([Variable(_slot(name, slot), tensor) for name, tensor in table], values)
        for (name, tensor), array in zip(table, arrays, strict=True):
            if slot == SLOTS[1] and array.size and array.min() < 0:
                raise ValueError(f"the variable {_slot(name, slot)} has negative mean squares")
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))
        columns.append(moments.values())
    return list(zip(*columns, strict=True))


def moment_variables(
    model: SketchRNN, moments: Sequence[tuple[Tensor, Tensor]] | None
) -> dict[str, NDArray[Any]]:
    """Adam's slots under the original's names: the reverse of `load_moments`; zeros for None."""
    values: dict[str, NDArray[Any]] = {}
    for place, slot in enumerate(SLOTS):
        of_parameter = {
            parameter: torch.zeros_like(parameter.data)
            if moments is None
            else moments[number][place]
            for number, parameter in enumerate(model.parameters())
        }
        for name, tensor in variable_table(model, of_parameter.__getitem__):
            values[_slot(name, slot)] = tensor.detach().cpu().contiguous().numpy().copy()
    return values


def empty_model(config: ModelConfig) -> SketchRNN:
    """A model whose weights are still to be set, made without drawing any; scale factor 1."""
    model = SketchRNN(config, device="meta").to_empty(device="cpu")
    model.scale_factor.fill_(1.0)
    return model


def check_shapes(model: SketchRNN, shapes: Mapping[str, Sequence[int]]) -> None:
    """Compare variables' shapes with those that a model takes, before any value is read.

    Raises:
        ValueError: one is missing or different.
    """
    table = variable_table(model)
    for name, tensor in table:
        _check_shape(name, shapes.get(name), tensor, len(table))


def checked(table: Sequence[Variable], values: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The arrays of the variables in a table, in its order.

    Raises:
        ValueError: one is missing, has another shape, or is not finite.
    """
    arrays: list[NDArray[Any]] = []
    for name, tensor in table:
        array = np.asarray(values[name]) if name in values else None
        _check_shape(name, None if array is None else array.shape, tensor, len(table))
        assert array is not None
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"the variable {name} is not all finite floating-point numbers")
        arrays.append(array)
    return arrays


def _check_shape(name: str, found: Sequence[int] | None, tensor: Tensor, count: int) -> None:
    if found is None:
        raise ValueError(f"the variable {name} is missing; the model has {count}")
    if tuple(found) != tuple(tensor.shape):
        raise ValueError(
            f"the variable {name} has shape {list(found)}; this model takes {list(tensor.shape)}"
        )


def _slot(name: str, slot: str) -> str:
    return f"vector_rnn/{name}/{slot}"


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
