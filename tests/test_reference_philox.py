"""The draws that the network makes from Philox in PyTorch: masks, normals, branches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from cells import dropout_factors
from scipy import stats

from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox

SEED = torch.tensor([20171122])
# The draws are fixed by their seeds: a test that passes once passes always, and this level is
# such that a sound generator passes with nearly every seed.
LEAST_P = 1e-4


def independent(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays of booleans pass a chi-square test of independence."""
    table = np.array([[np.sum((first == a) & (second == b)) for b in (0, 1)] for a in (0, 1)])
    return bool(stats.chi2_contingency(table).pvalue > LEAST_P)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 250])
@pytest.mark.parametrize("stream", [Stream.RECURRENT_DROPOUT, Stream.OUTPUT_DROPOUT])
def test_the_keep_mask_follows_the_lane_rule(units: int, stream: Stream) -> None:
    mask = philox.keep_mask(SEED, 2, 3, units, 0.7, stream, row_offset=2**31)
    for t, b in itertools.product(range(2), range(3)):
        expected = dropout_factors(int(SEED), t, 2**31 + b, units, 0.7, stream)
        np.testing.assert_array_equal(mask[t, b].numpy(), expected > 0)


def test_a_mask_of_some_rows_is_a_slice_of_the_whole() -> None:
    whole = philox.keep_mask(SEED, 4, 10, 20, 0.8)
    assert torch.equal(philox.keep_mask(SEED, 4, 3, 20, 0.8, row_offset=5), whole[:, 5:8])


@pytest.mark.parametrize("keep_prob", [0.001, 0.1, 0.5, 0.9, 0.99])
def test_the_share_kept_is_the_probability(keep_prob: float) -> None:
    mask = philox.keep_mask(SEED, 50, 40, 250, keep_prob)
    rounded = round(keep_prob * 65536) / 65536
    assert stats.binomtest(int(mask.sum()), mask.numel(), rounded).pvalue > LEAST_P


def test_every_unit_step_and_row_keeps_its_share() -> None:
    mask = philox.keep_mask(SEED, 100, 60, 50, 0.5).numpy()
    for axis in range(3):
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        expected = np.full(counts.shape, mask.size / counts.size / 2)
        # Each count is binomial with p = ½; so is what is left out: hence twice the statistic.
        statistic = 2 * ((counts - expected) ** 2 / expected).sum()
        assert stats.chi2.sf(statistic, counts.size) > LEAST_P


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("distance", [1, 4, 8])
def test_neighbours_in_time_rows_and_units_are_independent(axis: int, distance: int) -> None:
    mask = np.moveaxis(philox.keep_mask(SEED, 40, 40, 64, 0.5).numpy(), axis, 0)
    assert independent(mask[distance:], mask[:-distance])


def test_seeds_streams_and_branches_give_independent_masks() -> None:
    def mask(seed: torch.Tensor, stream: Stream = Stream.RECURRENT_DROPOUT) -> np.ndarray:
        return philox.keep_mask(seed, 30, 30, 64, 0.5, stream).numpy()

    reference = mask(SEED)
    others = [
        mask(SEED + 1),
        mask(SEED + 2**32),
        mask(SEED, Stream.INPUT_DROPOUT),
        mask(SEED, Stream.OUTPUT_DROPOUT),
        mask(philox.branch(SEED, 1)),
        mask(philox.branch(SEED, 2)),
    ]
    for other in others:
        assert not np.array_equal(reference, other)
        assert independent(reference, other)


def test_kept_values_are_divided_by_the_probability() -> None:
    scale = philox.dropout_scale(SEED, 2, 3, 64, 0.8, torch.float64)
    assert scale is not None
    assert set(scale.unique().tolist()) == {0.0, 1 / 0.8}


def test_a_probability_of_one_needs_neither_mask_nor_seed() -> None:
    assert philox.dropout_scale(None, 2, 3, 4, 1.0, torch.float32) is None


def test_dropout_without_a_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"keep_prob is 0\.5, so dropout needs a seed"):
        philox.dropout_scale(None, 2, 3, 4, 0.5, torch.float32)


@pytest.mark.parametrize("size", [1, 3, 4, 128])
def test_normals_are_standard_normal(size: int) -> None:
    rows = torch.arange(20000 // size)
    draws = philox.normal(SEED, rows, size, torch.float64).numpy()
    assert draws.shape == (len(rows), size)
    assert stats.kstest(draws.ravel(), "norm").pvalue > LEAST_P


def test_normals_of_different_columns_and_rows_are_uncorrelated() -> None:
    draws = philox.normal(SEED, torch.arange(4000), 12, torch.float64).numpy()
    for matrix in (draws, np.vstack([draws[:-1, 0], draws[1:, 0]]).T):
        for first, second in itertools.combinations(matrix.T, 2):
            assert stats.pearsonr(first, second).pvalue > LEAST_P
            # Box-Muller's pairs share a radius: their squares must be uncorrelated too.
            assert stats.pearsonr(first**2, second**2).pvalue > LEAST_P


def test_a_rows_normals_depend_on_its_number_alone() -> None:
    whole = philox.normal(SEED, torch.arange(10), 5, torch.float32)
    assert torch.equal(philox.normal(SEED, torch.tensor([7, 2]), 5, torch.float32), whole[[7, 2]])


def test_each_row_may_have_a_key_of_its_own() -> None:
    seeds = torch.tensor([[3], [-4]])
    draws = philox.normal(seeds, torch.zeros(2, dtype=torch.int64), 6, torch.float32)
    for seed, row in zip(seeds, draws, strict=True):
        alone = philox.normal(seed, torch.zeros(1, dtype=torch.int64), 6, torch.float32)
        assert torch.equal(row, alone[0])


def test_normals_are_finite_for_the_extreme_words() -> None:
    words = torch.tensor([0, 2**32 - 1])
    for first, second in itertools.product(words, words):
        assert all(normal.isfinite() for normal in philox.box_muller(first, second))


def test_a_uniform_lies_strictly_between_zero_and_one() -> None:
    extremes = philox.uniform(torch.tensor([0, 2**32 - 1]))
    assert extremes.tolist() == [2.0**-24, 1 - 2.0**-24]


def test_branches_wrap_around_the_int64_range() -> None:
    seed = torch.tensor([2**63 - 1])
    places = [int(philox.branch(seed, place)) for place in range(50)]
    assert len(set(places)) == 50
    assert places[0] == 2**63 - 1
    assert places[1] == (2**63 - 1 + 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63
