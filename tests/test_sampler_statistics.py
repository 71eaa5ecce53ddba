"""What the sampler's engines draw, against the distributions and against the reference sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from test_reference_sampler import (
    COUNT,
    LEAST_P,
    each_temperature,
    fixed_parameters,
    matches,
    probabilities,
)

import sketchrnn_fast
from sketchrnn_fast import ModelConfig, SketchRNN
from sketchrnn_fast.ops import Drawings, Sampler, Temperature
from sketchrnn_fast.reference.mixture_density import split_parameters
from sketchrnn_fast.reference.sampler import draw

T = 2  # the step whose strokes are looked at
SKETCHES, LIMIT = 2000, 40
HYPER = {"hyper_num_units": 8, "hyper_embedding_size": 4}


def constant_decoder(cell: str) -> SketchRNN:
    """A decoder that gives the fixed parameters at every step."""
    torch.manual_seed(0)
    model = SketchRNN(
        ModelConfig(dec_model=cell, dec_rnn_size=8, num_mixture=3, conditional=False, **HYPER)
    )
    with torch.no_grad():
        model.output.linear.weight.zero_()
        model.output.linear.bias.copy_(fixed_parameters()[0])
    return model


on_each_engine = pytest.mark.usefixtures("sampler_backend")


def strokes_of_step(temperature: Temperature, cell: str = "lstm") -> np.ndarray:
    """Stroke-5 [COUNT, 5] of step T, one for each seed; the end state has no offset (NaN)."""
    sampler = Sampler(constant_decoder(cell).decoder_weights())
    beginning = [np.zeros((T, 3), np.float32)] * COUNT
    drawings = sampler.draw(
        torch.arange(COUNT), prefixes=beginning, limit=T + 1, temperature=temperature
    )
    strokes = np.zeros((COUNT, 5))
    is_end = drawings.lengths == T
    np.testing.assert_array_equal(is_end, drawings.ended)
    strokes[:, :2] = np.where(is_end[:, None], np.nan, drawings.points[:, T, :2])
    strokes[np.arange(COUNT), np.where(is_end, 4, 2 + drawings.points[:, T, 2].astype(int))] = 1.0
    return strokes


@on_each_engine
@each_temperature
@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
def test_strokes_are_those_of_the_reference_seed_by_seed(
    cell: str, temperature: Temperature
) -> None:
    found = strokes_of_step(temperature, cell)
    params = fixed_parameters().expand(COUNT, -1)
    expected = draw(params, torch.arange(COUNT), T, temperature).numpy()
    # A uniform number that lies within float32's rounding of a border may fall to either side.
    differs = (found[:, 2:] != expected[:, 2:]).any(1) | (
        np.abs(found[:, 0] - expected[:, 0]) > 500
    )
    assert differs.sum() <= 2
    is_point = (found[:, 4] == 0) & ~differs
    np.testing.assert_allclose(found[is_point, :2], expected[is_point, :2], rtol=1e-5, atol=1e-4)


@on_each_engine
def test_a_vanishing_deviation_and_a_full_correlation_are_guarded_as_in_the_loss() -> None:
    model = constant_decoder("lstm")
    with torch.no_grad():
        bias = model.output.linear.bias
        bias[:3] = torch.tensor([0.0, 0.0, -1e4])
        bias[6:12] = 0.0  # means
        bias[12:15] = 0.0  # log sigma of x
        bias[15:18] = -60.0  # of y
        bias[18:] = 30.0  # correlations before the tanh
    found = Sampler(model.decoder_weights()).draw(torch.arange(50), limit=1).points[:, 0]
    params = bias.detach().double().expand(50, -1)
    expected = draw(params, torch.arange(50), 0, Temperature()).numpy()
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=1e-5)
    assert np.abs(found[:, 1]).max() > 1e-10


@on_each_engine
@each_temperature
def test_pen_states_and_gaussians_follow_their_probabilities(temperature: Temperature) -> None:
    strokes = strokes_of_step(temperature)
    mixture = split_parameters(fixed_parameters())
    assert matches(strokes[:, 2:].sum(0), probabilities(mixture.pen_logits, temperature))
    component = np.rint(strokes[strokes[:, 4] == 0, 0] / 1000).astype(int) + 1
    counts = np.bincount(component, minlength=3)
    assert matches(counts, probabilities(mixture.pi_logits, temperature))


@on_each_engine
@each_temperature
def test_offsets_follow_the_bivariate_normal_of_their_gaussian(temperature: Temperature) -> None:
    strokes = strokes_of_step(temperature)
    strokes = strokes[strokes[:, 4] == 0]
    component = np.rint(strokes[:, 0] / 1000).astype(int) + 1
    mixture = split_parameters(fixed_parameters())
    for k in range(3):
        x, y = strokes[component == k, :2].T
        n1 = (x - float(mixture.mean_x[0, k])) / np.exp(float(mixture.log_sigma_x[0, k]))
        n2 = (y - float(mixture.mean_y[0, k])) / np.exp(float(mixture.log_sigma_y[0, k]))
        n1, n2 = n1 / temperature.sigma, n2 / temperature.sigma
        rho = np.tanh(float(mixture.correlation[0, k]))
        rest = (n2 - rho * n1) / np.sqrt(1 - rho**2)
        assert stats.kstest(n1, "norm").pvalue > LEAST_P
        assert stats.kstest(n2, "norm").pvalue > LEAST_P
        assert stats.kstest(rest, "norm").pvalue > LEAST_P
        assert stats.pearsonr(rest, n1).pvalue > LEAST_P


# ---- Whole sketches ----


def lively_decoder(cell: str) -> SketchRNN:
    """Random weights, large enough that what is drawn depends on what was."""
    torch.manual_seed(5)
    model = SketchRNN(
        ModelConfig(dec_model=cell, dec_rnn_size=24, num_mixture=4, z_size=8, **HYPER)
    )
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        model.output.linear.weight.mul_(2.0)
        model.output.linear.bias[2] -= 2.0
        model.initial_state.weight.normal_(std=0.5)
    return model


def draw_sketches(model: SketchRNN, first_seed: int) -> Drawings:
    generator = torch.Generator().manual_seed(first_seed)
    return Sampler(model.decoder_weights()).draw(
        torch.arange(SKETCHES) + first_seed,
        z=torch.randn(SKETCHES, 8, generator=generator),
        limit=LIMIT,
    )


def statistics(drawings: Drawings) -> dict[str, np.ndarray]:
    """Numbers of each sketch [SKETCHES]; those of sketches without points are 0."""
    drawn = np.arange(LIMIT) < drawings.lengths[:, None]
    position = np.cumsum(np.where(drawn[..., None], drawings.points[..., :2], 0.0), axis=1)
    extent = position.max(1) - position.min(1)
    return {
        "length": drawings.lengths,
        "lifts": (drawings.points[..., 2] * drawn).sum(1),
        "width": extent[:, 0],
        "height": extent[:, 1],
        "end": position[:, -1, 0],
    }


@pytest.mark.usefixtures("on_native_kernels")
@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
def test_sketches_are_distributed_as_those_of_the_reference_with_other_seeds(cell: str) -> None:
    model = lively_decoder(cell)
    found = statistics(draw_sketches(model, 0))
    with sketchrnn_fast.backend("reference"):
        expected = statistics(draw_sketches(model, 10**6))
    assert 4 < found["length"].mean() < LIMIT - 4
    for name, values in found.items():
        assert stats.ks_2samp(values, expected[name]).pvalue > LEAST_P, name
