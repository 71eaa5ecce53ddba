"""Initial weights are distributed as the specification says, at the default sizes."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from sketchrnn_fast import ModelConfig, SketchRNN
from sketchrnn_fast.nn import LSTM

LEAST_P = 1e-4  # as in test_reference_philox.py


@pytest.fixture(scope="module")
def model() -> SketchRNN:
    torch.manual_seed(0)
    return SketchRNN(ModelConfig(enc_model="layer_norm", dec_model="hyper"))


def assert_uniform(weight: torch.Tensor, limit: float) -> None:
    scaled = (weight.detach().flatten()[:20000] / (2 * limit) + 0.5).numpy()
    assert stats.kstest(scaled, "uniform").pvalue > LEAST_P


def assert_normal(weight: torch.Tensor, std: float) -> None:
    scaled = (weight.detach().flatten()[:20000] / std).numpy()
    assert stats.kstest(scaled, "norm").pvalue > LEAST_P


def test_input_weights_are_glorot_uniform_over_the_whole_matrix(model: SketchRNN) -> None:
    cell = model.decoder_cell
    assert_uniform(cell.w_xh, math.sqrt(6 / (133 + 2048)))
    assert_uniform(cell.hyper_w_xh, math.sqrt(6 / (645 + 1024)))
    assert_uniform(model.encoder.cells[1].w_xh, math.sqrt(6 / (5 + 1024)))


def test_the_output_layer_is_glorot_uniform_its_bias_included(model: SketchRNN) -> None:
    linear = model.output.linear
    assert_uniform(linear.weight, 0.0971959)
    assert_uniform(linear.bias, 0.1561738)
    assert linear.bias.abs().max() > 0.14


def test_recurrent_weights_are_four_independent_orthogonal_blocks(model: SketchRNN) -> None:
    cell = model.decoder_cell
    for weight in (cell.w_hh, cell.hyper_w_hh, model.encoder.cells[0].w_hh):
        units = weight.shape[0]
        blocks = weight.detach().double().chunk(4, dim=1)
        for block in blocks:
            torch.testing.assert_close(
                block @ block.T, torch.eye(units, dtype=torch.float64), rtol=0, atol=1e-5
            )
        for other in blocks[1:]:
            correlation = (blocks[0] * other).sum() / units  # of unit variance over √units
            assert abs(correlation) < 5 / units


def test_layer_norms_start_as_the_identity_and_biases_at_zero(model: SketchRNN) -> None:
    for cell in (model.decoder_cell, *model.encoder.cells):
        for name, parameter in cell.named_parameters():
            if name.endswith("gamma"):
                assert (parameter == 1).all()
            if name.endswith("ln_all_beta") or name.endswith("ln_c_beta") or name == "bias":
                assert (parameter == 0).all()
    assert (LSTM(3, 5).cells[0].bias == 0).all()


def test_the_hyper_paths_start_with_every_factor_at_one_tenth(model: SketchRNN) -> None:
    cell = model.decoder_cell
    for path in ("x", "h"):
        embedding = getattr(cell, f"{path}_embedding")
        bias, alpha = getattr(cell, f"{path}_embedding_bias"), getattr(cell, f"{path}_alpha")
        assert (embedding == 0).all()
        assert (bias == 1).all()
        assert (alpha == 0.003125).all()
        factor = (torch.ones(1, 256) @ embedding + bias[:, None]) @ alpha
        torch.testing.assert_close(factor, torch.full_like(factor, 0.1))
    assert_normal(cell.b_embedding, 0.01)
    assert (cell.b_beta == 0).all()


def test_the_latent_layers_are_narrow_normals_with_zero_bias(model: SketchRNN) -> None:
    for linear in (model.posterior_mean, model.posterior_presig, model.initial_state):
        assert_normal(linear.weight, 0.001)
        assert (linear.bias == 0).all()


def test_torchs_generator_decides_the_weights() -> None:
    config = ModelConfig(enc_rnn_size=8, dec_rnn_size=8, dec_model="hyper", hyper_num_units=4)

    def state(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return SketchRNN(config).state_dict()

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["decoder.cells.0.w_hh"], other["decoder.cells.0.w_hh"])


def test_reset_parameters_draws_new_weights() -> None:
    layer = LSTM(3, 5)
    before = layer.cells[0].w_hh.detach().clone()
    layer.cells[0].reset_parameters()
    assert not torch.equal(layer.cells[0].w_hh, before)
