"""Models small enough to draw with in milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tolerances import assert_close

from sketchrnn_fast import ModelConfig, SketchRNN

SMALL = {
    "dec_rnn_size": 16,
    "enc_rnn_size": 8,
    "z_size": 6,
    "num_mixture": 3,
    "max_seq_len": 20,
    "hyper_num_units": 5,
    "hyper_embedding_size": 3,
}


def make_model(**changes: Any) -> SketchRNN:
    """A model that ends a sketch after some ten points."""
    torch.manual_seed(3)
    model = SketchRNN(ModelConfig(**{**SMALL, **changes}))
    with torch.no_grad():
        model.output.linear.bias[:3] = torch.tensor([1.0, 1.0, 0.0])
        if model.config.conditional:
            model.initial_state.weight.normal_()
    return model


def assert_same_drawing(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, 2], expected[:, 2])
    if len(expected):
        assert_close(found, expected, torch.float32, "hyper")
