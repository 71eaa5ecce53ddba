"""Batches made on a device are the host's, to the bit; their few lengths are well chosen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketchrnn_fast.data import Batch, SketchDataset, load, random_batch
from sketchrnn_fast.training.device_data import DeviceSketches, bucket_sizes

CPU = torch.device("cpu")


def assert_same_batch(
    dataset: SketchDataset, seed: int, size: int, most_points: int | None, **augmentation: float
) -> None:
    """Of a draw of the host, what the device makes of its indices and its seed."""
    longest = dataset.max_seq_len
    expected: Batch = random_batch(dataset, size, longest, seed=seed, **augmentation)
    originals = dataset.lengths[expected.indices]
    sketches, indices = DeviceSketches(dataset, CPU), torch.from_numpy(expected.indices)
    strokes, lengths = sketches.batch(
        indices,
        torch.tensor([seed]),
        most_points=most_points or int(originals.max()),
        max_seq_len=longest,
        **augmentation,
    )
    assert strokes.numpy().tobytes() == expected.strokes.tobytes()
    np.testing.assert_array_equal(lengths.numpy(), expected.lengths)
    np.testing.assert_array_equal(sketches.labels(indices).numpy(), expected.labels)


@pytest.mark.parametrize("scale", [0.15, 0.0])
@pytest.mark.parametrize("prob", [0.1, 0.0, 0.6, 1.0])
def test_batches_of_aaron_sheep_are_the_hosts_to_the_bit(
    shared: Path, scale: float, prob: float
) -> None:
    dataset = load(("aaron_sheep.npz",), shared / "data").train
    for seed in (0, -1, 2**62 + 12345):
        for most_points in (None, 250):
            assert_same_batch(
                dataset,
                *(seed, 100, most_points),
                random_scale_factor=scale,
                augment_stroke_prob=prob,
            )


offset = st.floats(-100, 100, width=32)
row = st.tuples(offset, offset, st.sampled_from([0, 0, 0, 1]))
sketches = st.lists(st.lists(row, min_size=1, max_size=40), min_size=1, max_size=6)


@settings(deadline=None, max_examples=50)
@given(sketches, st.floats(0, 1), st.floats(0, 1), st.integers(-(2**63), 2**63 - 1))
def test_batches_of_any_sketches_are_the_hosts_to_the_bit(
    drawn: list[list[tuple[float, float, int]]], scale: float, prob: float, seed: int
) -> None:
    arrays = [np.array(rows, np.float32) for rows in drawn]
    dataset = SketchDataset.from_sketches(arrays)
    assert_same_batch(
        dataset, seed, len(dataset), None, random_scale_factor=scale, augment_stroke_prob=prob
    )


def batch_maxima(lengths: NDArray[np.int64], batch_size: int, draws: int) -> NDArray[np.int64]:
    random = np.random.default_rng(0)
    return np.array([random.choice(lengths, batch_size).max() for _ in range(draws)])


def test_each_size_serves_equally_many_batches_and_the_last_serves_all() -> None:
    lengths = np.sort(np.random.default_rng(1).geometric(0.02, 20000))
    sizes = bucket_sizes(lengths, 20, 4)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == lengths[-1]
    assert len(sizes) == 4
    served = np.searchsorted(sizes, batch_maxima(lengths, 20, 4000))
    counts = np.bincount(served, minlength=4)
    assert counts.sum() == 4000
    # Binomial with p = 1/4: five standard deviations, and a length more or less.
    np.testing.assert_allclose(counts, 1000, atol=200)


def test_sizes_that_would_save_hardly_a_step_are_left_out(shared: Path) -> None:
    assert bucket_sizes(np.full(50, 7), 10, 4) == [7]
    lengths = load(("aaron_sheep.npz",), shared / "data").train.lengths
    # Of a hundred of these, the longest nearly always has close to 250 points.
    assert bucket_sizes(lengths, 100, 4) == [250]
    sizes = bucket_sizes(lengths, 5, 4)
    assert len(sizes) > 1
    assert all(size < 0.9 * larger for size, larger in pairwise(sizes))


def test_one_sketch_makes_one_size() -> None:
    assert bucket_sizes(np.array([3]), 1, 4) == [3]
