"""Magenta's variables: the names and shapes of the original's checkpoints, reading, writing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sketchrnn_fast import ModelConfig, SketchRNN
from sketchrnn_fast.interop import magenta

# encoder, decoder, conditional: trainable parameters at the default sizes (model_spec 3.4)
PARAMETER_COUNTS = {
    ("lstm", "lstm", True): 2_186_107,
    ("lstm", "lstm", False): 1_123_963,
    ("layer_norm", "layer_norm", True): 2_192_251,
    ("layer_norm", "layer_norm", False): 1_127_035,
    ("hyper", "hyper", True): 4_940_411,
    ("hyper", "hyper", False): 2_218_363,
    ("layer_norm", "hyper", True): 3_480_699,
}
TENSOR_COUNTS = {
    ("lstm", "lstm", True): 17,
    ("lstm", "lstm", False): 5,
    ("layer_norm", "layer_norm", True): 26,
    ("layer_norm", "layer_norm", False): 8,
    ("hyper", "hyper", True): 143,
    ("hyper", "hyper", False): 47,
    ("layer_norm", "hyper", True): 65,
}
SMALL = {
    "enc_rnn_size": 4,
    "dec_rnn_size": 6,
    "z_size": 3,
    "num_mixture": 2,
    "hyper_num_units": 5,
    "hyper_embedding_size": 2,
}
each_combination = pytest.mark.parametrize(
    "cells", PARAMETER_COUNTS, ids=lambda cells: "_".join(map(str, cells))
)


def default_model(cells: tuple[str, str, bool]) -> SketchRNN:
    """At the default sizes and without memory: only names and shapes matter."""
    encoder, decoder, conditional = cells
    config = ModelConfig(enc_model=encoder, dec_model=decoder, conditional=conditional)
    return SketchRNN(config, device="meta")


def small_model(seed: int = 0, **changes: Any) -> SketchRNN:
    torch.manual_seed(seed)
    return SketchRNN(ModelConfig(**{**SMALL, **changes}))


@each_combination
def test_the_number_of_parameters_is_the_originals(cells: tuple[str, str, bool]) -> None:
    model = default_model(cells)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETER_COUNTS[cells]
    assert len(magenta.variable_table(model)) == TENSOR_COUNTS[cells]


@each_combination
def test_names_shapes_and_order_are_those_of_a_tensorflow_checkpoint(
    cells: tuple[str, str, bool], shared: Path
) -> None:
    every = json.loads((shared / "golden" / "tf_variables.json").read_text())
    encoder, decoder, conditional = cells
    expected = every[f"{encoder} {decoder} {'cond' if conditional else 'uncond'}"]["trainable"]
    table = magenta.variable_table(default_model(cells))
    assert [[name, list(tensor.shape)] for name, tensor in table] == expected


def test_the_shared_file_has_no_other_combination(shared: Path) -> None:
    every = json.loads((shared / "golden" / "tf_variables.json").read_text())
    ours = {f"{e} {d} {'cond' if c else 'uncond'}" for e, d, c in PARAMETER_COUNTS}
    assert set(every) == ours


@each_combination
def test_every_element_of_every_parameter_is_in_one_variable(cells: tuple[str, str, bool]) -> None:
    encoder, decoder, conditional = cells
    model = small_model(enc_model=encoder, dec_model=decoder, conditional=conditional)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for _, tensor in magenta.variable_table(model):
            tensor += 1
        assert all((parameter == 1).all() for parameter in model.parameters())


@each_combination
def test_variables_written_and_read_make_the_same_model(cells: tuple[str, str, bool]) -> None:
    encoder, decoder, conditional = cells
    sizes = {"enc_model": encoder, "dec_model": decoder, "conditional": conditional}
    model, other = small_model(0, **sizes), small_model(1, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    values = magenta.variables(model)
    magenta.load_variables(other, values)
    for name, parameter in model.named_parameters():
        assert torch.equal(other.get_parameter(name), parameter), name
    again = magenta.variables(other)
    assert list(again) == list(values)
    assert all(np.array_equal(again[name], values[name]) for name in values)


def test_variables_are_arrays_of_their_own() -> None:
    model = small_model()
    values = magenta.variables(model)
    before = {name: value.copy() for name, value in values.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    for name, value in values.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        assert np.array_equal(value, before[name])
        value[...] = 0  # and can be written to


def test_matrices_multiply_on_the_right() -> None:
    model = small_model()
    values = magenta.variables(model)
    hidden = torch.randn(2, 6)
    expected = hidden @ torch.from_numpy(values["vector_rnn/RNN/output_w"])
    expected = expected + torch.from_numpy(values["vector_rnn/RNN/output_b"])
    torch.testing.assert_close(model.output(hidden), expected)
    assert values["vector_rnn/RNN/LSTMCell/W_xh"].shape == (5 + 3, 4 * 6)


def test_entries_that_are_no_weights_are_left_aside() -> None:
    model = small_model()
    values = magenta.variables(model)
    slots = {
        "vector_rnn/global_step": np.int32(7),
        "vector_rnn/vector_rnn/RNN/output_w/Adam": np.zeros((6, 15), np.float32),
    }
    magenta.load_variables(small_model(1), {**values, **slots})


def test_float64_variables_are_accepted() -> None:
    values = {
        name: value.astype(np.float64) for name, value in magenta.variables(small_model()).items()
    }
    other = small_model(1)
    magenta.load_variables(other, values)
    for name, value in magenta.variables(other).items():
        np.testing.assert_array_equal(value, values[name].astype(np.float32))


NAME = "vector_rnn/RNN/LSTMCell/bias"
BAD_VALUES = [
    (None, f"the variable {NAME} is missing; the model has 17"),
    (
        np.zeros(23, np.float32),
        f"the variable {NAME} has shape [23]; this model takes [24]",
    ),
    (
        np.full(24, np.nan, np.float32),
        f"the variable {NAME} is not all finite floating-point numbers",
    ),
    (
        np.full(24, np.inf, np.float32),
        f"the variable {NAME} is not all finite floating-point numbers",
    ),
    (
        np.zeros(24, np.int32),
        f"the variable {NAME} is not all finite floating-point numbers",
    ),
    (
        np.array(["0"] * 24),
        f"the variable {NAME} is not all finite floating-point numbers",
    ),
]


@pytest.mark.parametrize(("value", "sentence"), BAD_VALUES)
def test_a_bad_variable_is_one_clear_sentence_and_changes_nothing(
    value: Any, sentence: str
) -> None:
    values = magenta.variables(small_model())
    if value is None:
        del values[NAME]
    else:
        values[NAME] = value
    other = small_model(1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        magenta.load_variables(other, values)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
