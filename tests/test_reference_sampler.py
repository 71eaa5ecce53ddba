"""The sampler's draws against the distribution that it draws from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sketchrnn_fast.reference.mixture_density import split_parameters
from sketchrnn_fast.reference.sampler import Temperature, choose, draw, generate

LEAST_P = 1e-4  # as in test_reference_philox.py
FLOAT64 = torch.float64
COUNT = 20000
TEMPERATURES = [
    Temperature(1.0),
    Temperature(0.4),
    Temperature(1.7),
    Temperature(1.0, "js"),
    Temperature(0.3, "js"),
]
each_temperature = pytest.mark.parametrize(
    "temperature", TEMPERATURES, ids=lambda value: f"{value.mode}_{value.value}"
)


def fixed_parameters() -> torch.Tensor:
    """[1, 6·3+3], its Gaussians so far apart that an offset tells which one it is from."""
    columns = [
        [0.3, -0.5, 0.1],  # pen
        [0.2, 0.9, -0.4],  # mixture
        [-1000.0, 0.0, 1000.0],  # means
        [10.0, -20.0, 30.0],
        [0.5, -0.7, 0.0],  # log sigmas
        [-0.3, 0.4, 1.0],
        [0.6, -1.2, 0.0],  # correlations before the tanh
    ]
    return torch.tensor(columns, dtype=FLOAT64).view(1, -1)


def draws(temperature: Temperature, t: int = 0) -> np.ndarray:
    """Strokes [COUNT, 5], one for each seed."""
    params = fixed_parameters().expand(COUNT, -1)
    return draw(params, torch.arange(COUNT), t, temperature).numpy()


def probabilities(logits: torch.Tensor, temperature: Temperature) -> np.ndarray:
    """By the definition: p^(1/T), normalised."""
    power = 1 / (
        temperature.value if temperature.mode == "magenta" else 0.5 + 0.5 * temperature.value
    )
    p = torch.softmax(logits[0], -1).numpy() ** power
    return p / p.sum()


def matches(counts: np.ndarray, expected: np.ndarray) -> bool:
    return bool(stats.chisquare(counts, expected * counts.sum()).pvalue > LEAST_P)


@each_temperature
def test_pen_states_follow_their_probabilities(temperature: Temperature) -> None:
    pen = draws(temperature)[:, 2:]
    assert set(pen.sum(1)) == {1.0}
    logits = split_parameters(fixed_parameters()).pen_logits
    assert matches(pen.sum(0), probabilities(logits, temperature))


@each_temperature
def test_gaussians_follow_their_probabilities(temperature: Temperature) -> None:
    component = np.rint(draws(temperature)[:, 0] / 1000).astype(int) + 1
    logits = split_parameters(fixed_parameters()).pi_logits
    counts = np.bincount(component, minlength=3)
    assert matches(counts, probabilities(logits, temperature))


@each_temperature
def test_offsets_follow_the_bivariate_normal_of_their_gaussian(temperature: Temperature) -> None:
    strokes = draws(temperature)
    component = np.rint(strokes[:, 0] / 1000).astype(int) + 1
    mixture = split_parameters(fixed_parameters())
    widen = temperature.value if temperature.mode == "magenta" else temperature.value**0.5
    for k in range(3):
        x, y = strokes[component == k, :2].T
        n1 = (x - float(mixture.mean_x[0, k])) / (np.exp(float(mixture.log_sigma_x[0, k])) * widen)
        n2 = (y - float(mixture.mean_y[0, k])) / (np.exp(float(mixture.log_sigma_y[0, k])) * widen)
        rho = np.tanh(float(mixture.correlation[0, k]))
        assert stats.kstest(n1, "norm").pvalue > LEAST_P
        assert stats.kstest(n2, "norm").pvalue > LEAST_P
        # What of y the correlation does not explain is standard normal and independent of x.
        rest = (n2 - rho * n1) / np.sqrt(1 - rho**2)
        assert stats.kstest(rest, "norm").pvalue > LEAST_P
        assert stats.pearsonr(rest, n1).pvalue > LEAST_P


def test_pen_gaussian_and_offset_are_drawn_independently() -> None:
    strokes = draws(Temperature())
    component = np.rint(strokes[:, 0] / 1000).astype(int) + 1
    pen = strokes[:, 2:].argmax(1)
    table = np.histogram2d(component, pen, bins=(3, 3))[0]
    assert stats.chi2_contingency(table).pvalue > LEAST_P
    middle = component == 1
    x = strokes[middle, 0]
    groups = [x[pen[middle] == state] for state in range(3)]
    assert stats.kruskal(*groups).pvalue > LEAST_P


def test_steps_draw_independently() -> None:
    first, second = draws(Temperature(), 0), draws(Temperature(), 1)
    table = np.histogram2d(first[:, 2:].argmax(1), second[:, 2:].argmax(1), bins=(3, 3))[0]
    assert stats.chi2_contingency(table).pvalue > LEAST_P
    assert stats.pearsonr(first[:, 1], second[:, 1]).pvalue > LEAST_P


def test_greedy_takes_the_likeliest_gaussians_mean_and_pen_state() -> None:
    stroke = draw(fixed_parameters(), torch.tensor([5]), 0, Temperature(0.0))
    assert stroke.tolist() == [[0.0, -20.0, 1.0, 0.0, 0.0]]


def test_a_low_temperature_approaches_greedy() -> None:
    strokes = draws(Temperature(0.01))
    assert (strokes[:, 2] == 1).all()
    np.testing.assert_allclose(strokes[:, :2], np.tile([0.0, -20.0], (COUNT, 1)), atol=0.2)


def test_choose_takes_the_first_index_whose_cumulative_probability_reaches_u() -> None:
    logits = torch.log(torch.tensor([[0.25, 0.5, 0.25]], dtype=FLOAT64))
    u = torch.tensor([0.01, 0.249, 0.251, 0.749, 0.751, 0.999], dtype=FLOAT64)
    assert choose(logits.expand(6, -1), 1.0, u).tolist() == [0, 0, 1, 1, 2, 2]


def test_choose_falls_back_to_the_last_possible_index() -> None:
    """Where rounding leaves the cumulative sum below u; never to one of probability zero."""
    logits = torch.tensor([[0.0, 1.0, -torch.inf], [0.0, 1.0, 2.0], [0.0, -torch.inf, -torch.inf]])
    beyond = torch.full((3,), 1.0001)
    assert choose(logits, 1.0, beyond).tolist() == [1, 2, 0]


# ---- Whole sketches, from a decoder that is a table ----


def scripted(ends: list[int]) -> tuple[object, list[int]]:
    """A decoder whose row b draws its end state at step ends[b], and the steps it was asked."""
    asked: list[int] = []

    def step(
        stroke: torch.Tensor, state: tuple[torch.Tensor, ...] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        t = 0 if state is None else int(state[0])
        asked.append(t)
        params = fixed_parameters().repeat(stroke.shape[0], 1)
        params[:, :3] = torch.tensor([100.0, 0.0, -100.0])
        for row, end in enumerate(ends):
            if t == end:
                params[row, 2] = 300.0
        return params, (torch.tensor(t + 1),)

    return step, asked


@pytest.mark.parametrize("temperature", [Temperature(), Temperature(0.0)], ids=["1", "greedy"])
def test_a_sketch_ends_before_its_end_state(temperature: Temperature) -> None:
    step, asked = scripted([3, 0, 5])
    strokes, lengths = generate(step, None, torch.arange(3), 10, temperature, FLOAT64)
    assert lengths.tolist() == [3, 0, 5]
    assert len(asked) == 6  # the last row's end state, and no step more
    for row, length in enumerate(lengths.tolist()):
        assert (strokes[:length, row, 4] == 0).all()


def test_a_sketch_that_does_not_end_is_cut_at_the_limit() -> None:
    step, asked = scripted([99, 2])
    strokes, lengths = generate(step, None, torch.arange(2), 4, Temperature(), FLOAT64)
    assert lengths.tolist() == [4, 2]
    assert strokes.shape == (4, 2, 5)
    assert len(asked) == 4


def test_sketches_that_end_at_once_are_empty() -> None:
    step, _ = scripted([0, 0])
    strokes, lengths = generate(step, None, torch.arange(2), 4, Temperature(), FLOAT64)
    assert lengths.tolist() == [0, 0]
    assert strokes.shape == (0, 2, 5)


def test_a_sketch_is_a_function_of_its_seed_whatever_else_is_drawn() -> None:
    def sketches(seeds: list[int]) -> torch.Tensor:
        step, _ = scripted([])
        return generate(step, None, torch.tensor(seeds), 6, Temperature(), FLOAT64)[0]

    together = sketches([5, -1, 2**62])
    for row, seed in enumerate([5, -1, 2**62]):
        assert torch.equal(sketches([seed])[:, 0], together[:, row])
    assert not torch.equal(together[:, 0], together[:, 1])
    assert not torch.equal(together[0, 0], together[1, 0])


def test_no_temperature_is_too_low_to_choose_the_likeliest() -> None:
    logits = torch.tensor([[-3.0, 2.0, 1.9], [60.0, -60.0, 59.0]])
    for temperature in (1e-3, 1e-30, 1e-300):
        assert choose(logits, temperature, torch.tensor([0.5, 0.5])).tolist() == [1, 0]
