"""The HyperLSTM's reference against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
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

from sketchrnn_fast.reference.hyper_lstm import hyper_lstm

CELL = CELLS["hyper_lstm"]


def numpy_step(w: Any, x: Any, state: Any, factors: Any, forget_bias: float) -> Any:
    h, c, h_hyper, c_hyper = state

    blocks = np.split(np.concatenate([x, h]) @ w.hyper_w_xh + h_hyper @ w.hyper_w_hh, 4)
    gammas, betas = np.split(w.hyper_ln_all_gamma, 4), np.split(w.hyper_ln_all_beta, 4)
    i, j, f, o = map(layer_norm, blocks, gammas, betas)
    c_hyper = c_hyper * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
    norm = layer_norm(c_hyper, w.hyper_ln_c_gamma, w.hyper_ln_c_beta)
    h_hyper = np.tanh(norm) * sigmoid(o)

    gates = []
    for gate in range(4):
        xh, hh = (np.split(product, 4)[gate] for product in (x @ w.w_xh, h @ w.w_hh))
        ax = (h_hyper @ w.x_embedding[gate] + w.x_embedding_bias[gate]) @ w.x_alpha[gate]
        ah = (h_hyper @ w.h_embedding[gate] + w.h_embedding_bias[gate]) @ w.h_alpha[gate]
        b = (h_hyper @ w.b_embedding[gate]) @ w.b_beta[gate]
        a = ax * xh + ah * hh + b + np.split(w.bias, 4)[gate]
        gamma, beta = (np.split(norm, 4)[gate] for norm in (w.ln_all_gamma, w.ln_all_beta))
        gates.append(layer_norm(a, gamma, beta))
    i, j, f, o = gates
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j) * factors
    h = np.tanh(layer_norm(c, w.ln_c_gamma, w.ln_c_beta)) * sigmoid(o)
    return h, c, h_hyper, c_hyper


@each_variant
def test_hyper_lstm_equals_a_numpy_loop(variant: Variant) -> None:
    case = make_case(CELL, variant, N=9, H=4, E=3)
    hidden, final, _ = hyper_lstm(*case)
    expected, expected_final = numpy_sequence(numpy_step, case)
    assert_close(hidden, expected, FLOAT64, CELL.kind, "hidden")
    names = ("h", "c", "h_hyper", "c_hyper")
    for name, part, wanted in zip(names, final, expected_final, strict=True):
        assert_close(part, wanted, FLOAT64, CELL.kind, name)
