"""The LSTM's reference against NumPy and against torch.nn.LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cells import CELLS, FLOAT64, Variant, each_variant, make_case, numpy_sequence, sigmoid
from tolerances import assert_close

from sketchrnn_fast.reference.lstm import LSTMWeights, lstm

CELL = CELLS["lstm"]


def numpy_step(w: Any, x: Any, state: Any, factors: Any, forget_bias: float) -> Any:
    h, c = state
    i, j, f, o = np.split(x @ w.w_xh + h @ w.w_hh + w.bias, 4)
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j) * factors
    return np.tanh(c) * sigmoid(o), c


@each_variant
def test_lstm_equals_a_numpy_loop(variant: Variant) -> None:
    case = make_case(CELL, variant, N=9)
    hidden, final, _ = lstm(*case)
    expected, expected_final = numpy_sequence(numpy_step, case)
    assert_close(hidden, expected, FLOAT64, what="hidden")
    for name, part, wanted in zip("hc", final, expected_final, strict=True):
        assert_close(part, wanted, FLOAT64, what=name)


def torch_lstm(weights: LSTMWeights) -> torch.nn.LSTM:
    """torch's own LSTM with our weights: blocks i, f, j, o, transposed, forget bias added."""
    width, units = weights.w_xh.shape[0], weights.w_hh.shape[0]

    def reorder(tensor: torch.Tensor) -> torch.Tensor:
        i, j, f, o = tensor.chunk(4, dim=-1)
        return torch.cat([i, f, j, o], dim=-1).movedim(-1, 0)

    layer = torch.nn.LSTM(width, units, dtype=FLOAT64)
    bias = reorder(weights.bias).clone()
    bias[units : 2 * units] += 1.0
    with torch.no_grad():
        layer.weight_ih_l0.copy_(reorder(weights.w_xh))
        layer.weight_hh_l0.copy_(reorder(weights.w_hh))
        layer.bias_ih_l0.copy_(bias)
        layer.bias_hh_l0.zero_()
    return layer


def test_lstm_equals_torch_lstm_with_its_weights_mapped() -> None:
    case = make_case(CELL, T=7, N=6).requiring_gradients()
    hidden, (h, c), _ = lstm(*case)
    x = case.x.detach().clone().requires_grad_()
    expected, (h_expected, c_expected) = torch_lstm(case.weights)(
        x, tuple(part[None] for part in case.state)
    )
    assert_close(hidden, expected, FLOAT64)
    assert_close(h, h_expected[0], FLOAT64)
    assert_close(c, c_expected[0], FLOAT64)
    grad = torch.randn(hidden.shape, dtype=FLOAT64)
    (found,) = torch.autograd.grad(hidden, case.x, grad)
    (wanted,) = torch.autograd.grad(expected, x, grad)
    assert_close(found, wanted, FLOAT64, "gradient")
