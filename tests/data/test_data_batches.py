"""Batches: padding, randomness, augmentation, against model_spec 1.6."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import (
    DatasetError,
    SketchDataset,
    batch,
    evaluation_batches,
    random_batch,
)
from sketchrnn_fast.philox import Stream, choose, philox4x32, uniform
from sketchrnn_fast.strokes import drop_points, scale_randomly, to_stroke5

AUGMENTED = {"random_scale_factor": 0.15, "augment_stroke_prob": 0.5}
PLAIN = {"random_scale_factor": 0.0, "augment_stroke_prob": 0.0}


def dataset_of(count=30, longest=25):
    """Sketches of many lengths whose offsets tell them apart, with a lift now and then."""
    words = philox4x32(np.arange(longest), np.arange(count)[:, None], 0, 0, 0)
    rows = uniform(words[..., :3])
    rows[..., 2] = rows[..., 2] < 0.1
    lengths = 1 + np.arange(count) % longest
    return SketchDataset.from_sketches([rows[i, :n] for i, n in enumerate(lengths)])


DATASET = dataset_of()
T = DATASET.max_seq_len


def test_padding_agrees_with_the_worked_example_of_the_specification():
    dataset = SketchDataset.from_sketches(
        [[[3, 4, 0], [5, 6, 1]], [[1, 1, 0], [2, 2, 0], [7, 8, 1]]]
    )
    made = batch(dataset, [0, 1], 3)
    assert made.lengths.tolist() == [2, 3]
    assert_array_equal(
        made.strokes,
        [
            [[0, 0, 1, 0, 0], [3, 4, 1, 0, 0], [5, 6, 0, 1, 0], [0, 0, 0, 0, 1]],
            [[0, 0, 1, 0, 0], [1, 1, 1, 0, 0], [2, 2, 1, 0, 0], [7, 8, 0, 1, 0]],
        ],
    )


def test_a_batch_has_the_shapes_and_dtypes_that_a_model_takes():
    made = random_batch(DATASET, 8, T, seed=1, **AUGMENTED)
    assert (made.strokes.shape, made.strokes.dtype) == ((8, T + 1, 5), np.float32)
    assert (made.lengths.shape, made.lengths.dtype) == ((8,), np.int64)
    assert (made.indices.shape, made.indices.dtype) == ((8,), np.int64)
    assert made.strokes.flags.c_contiguous


def test_a_random_batch_takes_different_sketches_as_the_generator_chooses_them():
    made = random_batch(DATASET, 30, T, seed=5, **PLAIN)
    assert_array_equal(made.indices, choose(5, 30, 30))
    assert sorted(made.indices) == list(range(30))
    assert_array_equal(made.strokes, batch(DATASET, made.indices, T).strokes)


def test_a_batch_is_a_pure_function_of_its_seed():
    first, again, other = (
        random_batch(DATASET, 20, T, seed=seed, **AUGMENTED) for seed in (-3, -3, 4)
    )
    assert first.strokes.tobytes() == again.strokes.tobytes()
    assert first.strokes.tobytes() != other.strokes.tobytes()


@given(st.integers(-(2**63), 2**63 - 1), st.floats(0, 1), st.floats(0, 1))
def test_augmentation_follows_the_counters_of_the_design(seed, factor, prob):
    made = random_batch(
        DATASET, 6, T, seed=seed, random_scale_factor=factor, augment_stroke_prob=prob
    )
    for row, index in enumerate(made.indices):
        sketch = DATASET[index]
        scale = uniform(philox4x32(0, 0, row, Stream.AUGMENTATION, seed))[:2]
        point = np.arange(len(sketch))
        words = philox4x32(point // 4, 1, row, Stream.AUGMENTATION, seed)
        drops = uniform(words[point, point % 4])
        expected = drop_points(scale_randomly(sketch, scale, factor), drops, prob)
        assert made.lengths[row] == len(expected)
        assert made.strokes[row, 1:].tobytes() == to_stroke5(expected, T).tobytes()


@given(st.integers(0, 2**62), st.integers(0, 12), st.integers(0, 12), st.integers(1, 3))
def test_rows_of_a_rank_equal_those_of_the_whole_batch(seed, start, stop, step):
    whole = random_batch(DATASET, 12, T, seed=seed, **AUGMENTED)
    rows = slice(start, stop, step)
    part = random_batch(DATASET, 12, T, seed=seed, rows=rows, **AUGMENTED)
    assert part.strokes.tobytes() == whole.strokes[rows].tobytes()
    assert_array_equal(part.lengths, whole.lengths[rows])
    assert_array_equal(part.indices, whole.indices[rows])


def test_a_batch_leaves_the_dataset_alone():
    before = DATASET.points.copy()
    random_batch(DATASET, 30, T, seed=0, random_scale_factor=1.0, augment_stroke_prob=1.0)
    assert_array_equal(DATASET.points, before)


def test_fewer_sketches_than_the_batch_are_refused_by_name():
    dataset = SketchDataset.from_sketches([[[1, 1, 1]]], name="cats.npz, split train")
    with pytest.raises(
        DatasetError, match=r"^cats\.npz, split train has 1 sketches; a batch takes 2 different"
    ):
        random_batch(dataset, 2, 5, seed=0, **PLAIN)


def test_a_sketch_longer_than_the_batch_is_refused_by_name():
    with pytest.raises(DatasetError, match=r"sketch 29 has 25 points; max_seq_len is 24"):
        batch(DATASET, [0, 29], 24)


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_evaluation_takes_every_sketch_once_in_ascending_order_of_length(batch_size):
    batches = list(evaluation_batches(DATASET, batch_size, T))
    assert np.concatenate([made.indices for made in batches]).tolist() == list(range(30))
    assert all(len(made.indices) == batch_size for made in batches[:-1])
    for made in batches:
        for row, index in enumerate(made.indices):
            assert_array_equal(made.strokes[row, 1:], to_stroke5(DATASET[index], T))
