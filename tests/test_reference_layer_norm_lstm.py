"""The LayerNorm-LSTM's reference against NumPy, and its layer norm by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cells import (
    CELLS,
    FLOAT64,
    Variant,
    each_variant,
    layer_norm,
    make_case,
    numpy_sequence,
    sigmoid,
)
from tolerances import assert_close

from sketchrnn_fast.reference.layer_norm_lstm import (
    EPSILON,
    layer_norm_lstm,
    standardise,
    standardise_backward,
)

CELL = CELLS["layer_norm_lstm"]


def numpy_step(w: Any, x: Any, state: Any, factors: Any, forget_bias: float) -> Any:
    h, c = state
    blocks = np.split(x @ w.w_xh + h @ w.w_hh, 4)
    gammas, betas = np.split(w.ln_all_gamma, 4), np.split(w.ln_all_beta, 4)
    i, j, f, o = map(layer_norm, blocks, gammas, betas)
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j) * factors
    return np.tanh(layer_norm(c, w.ln_c_gamma, w.ln_c_beta)) * sigmoid(o), c


@each_variant
def test_layer_norm_lstm_equals_a_numpy_loop(variant: Variant) -> None:
    case = make_case(CELL, variant, N=9)
    hidden, final, _ = layer_norm_lstm(*case)
    expected, expected_final = numpy_sequence(numpy_step, case)
    assert_close(hidden, expected, FLOAT64, what="hidden")
    for name, part, wanted in zip("hc", final, expected_final, strict=True):
        assert_close(part, wanted, FLOAT64, what=name)


def test_standardise_equals_torch_layer_norm_of_each_block() -> None:
    a = torch.randn(5, 4 * 7, dtype=FLOAT64)
    hat, rstd = standardise(a, 4)
    blocks = a.unflatten(-1, (4, 7))
    expected = torch.nn.functional.layer_norm(blocks, (7,), eps=EPSILON)
    assert_close(hat, expected.flatten(1), FLOAT64)
    assert_close(rstd[..., 0], (blocks.var(-1, correction=0) + EPSILON) ** -0.5, FLOAT64)


def test_standardise_backward_equals_autograd() -> None:
    a = torch.randn(5, 4 * 7, dtype=FLOAT64, requires_grad=True)
    hat, rstd = standardise(a, 4)
    grad = torch.randn_like(hat)
    (expected,) = torch.autograd.grad(hat, a, grad)
    assert_close(standardise_backward(grad, hat, rstd), expected, FLOAT64, "gradient")


def test_the_gates_of_a_single_unit_are_their_betas() -> None:
    """With N = 1 the layer norm removes everything that the products bring."""
    case = make_case(CELL, N=1)
    hidden, _, _ = layer_norm_lstm(*case)
    other = case._replace(x=case.x * 3 + 1)
    torch.testing.assert_close(layer_norm_lstm(*other)[0], hidden, rtol=0, atol=0)
