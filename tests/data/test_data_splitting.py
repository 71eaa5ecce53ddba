"""Splits of exact sizes by a permutation that needs no memory, and repetitions found in parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import DatasetError
from sketchrnn_fast.data.splitting import SplitSizes, mark_repeats, permuted


@given(st.integers(1, 3000), st.integers(0, 2**40))
def test_every_place_is_taken_once(total, seed):
    places = permuted(seed, np.arange(total), total)
    assert_array_equal(np.sort(places), np.arange(total))


def test_a_permutation_depends_on_its_seed_only_not_on_how_it_is_asked():
    whole = permuted(3, np.arange(1000), 1000)
    parts = [permuted(3, np.arange(k, k + 100), 1000) for k in range(0, 1000, 100)]
    assert_array_equal(np.concatenate(parts), whole)
    assert (permuted(4, np.arange(1000), 1000) != whole).mean() > 0.9


def test_places_are_spread_evenly():
    """Of each tenth of the sketches about a tenth goes to each tenth of the places."""
    total = 100_000
    places = permuted(0, np.arange(total), total)
    table = np.histogram2d(np.arange(total), places, bins=10)[0]
    assert abs(table - total / 100).max() < 6 * np.sqrt(total / 100)
    assert abs(np.corrcoef(np.arange(total), places)[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("sizes", "total", "counts"),
    [
        (SplitSizes(), 1000, (900, 50, 50)),
        (SplitSizes(None, 2500, 2500), 75_000, (70_000, 2500, 2500)),
        (SplitSizes(10, 3, 2), 100, (10, 3, 2)),
        (SplitSizes(0.5, 0.25, 0.25), 5, (3, 1, 1)),
        (SplitSizes(0.5, None, 7), 20, (10, 3, 7)),
        (SplitSizes(None, 0, 0), 7, (7, 0, 0)),
    ],
)
def test_counts_and_shares_give_these_sizes(sizes, total, counts):
    sizes.check()
    assert sizes.counts(total) == counts


@given(st.integers(0, 500), st.integers(0, 10), st.integers(0, 10))
def test_shares_that_make_a_whole_leave_out_none(total, a, b):
    shares = a / (a + b + 1), b / (a + b + 1)
    sizes = SplitSizes(1 - shares[0] - shares[1], *shares)
    counts = sizes.counts(total)
    assert min(counts) >= 0
    assert sum(counts) == total


@pytest.mark.parametrize("sizes", [SplitSizes(valid=-1), SplitSizes(0.9, 0.2), SplitSizes(1.5)])
def test_sizes_that_cannot_be_are_refused(sizes):
    with pytest.raises(
        DatasetError, match=r"it takes a count, or a share|the shares of the splits"
    ):
        sizes.check()


def test_more_sketches_than_there_are_cannot_be_dealt():
    with pytest.raises(DatasetError, match="there are 10 sketches; train, valid and test were to"):
        SplitSizes(None, 8, 3).counts(10)


@given(st.lists(st.lists(st.integers(0, 12), max_size=20), max_size=5), st.integers(1, 50))
def test_of_equal_hashes_all_but_the_first_are_marked(chunks, at_once):
    # Spread over all 64 bits, as hashes are.
    spread = [np.array(chunk, np.uint64) * np.uint64(0x1357_9BDF_0246_8ACE) for chunk in chunks]
    flat = [value for chunk in chunks for value in chunk]
    marked = np.zeros(len(flat), np.bool_)
    mark_repeats(lambda: iter(spread), len(flat), marked, at_once)
    assert marked.tolist() == [value in flat[:k] for k, value in enumerate(flat)]
