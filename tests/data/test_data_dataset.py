"""A split as a ragged array: order, clamp, scale, checks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import DatasetError, SketchDataset, normalizing_scale_factor


def marked(length, mark, dtype=np.int16):
    sketch = np.full((length, 3), mark, dtype)
    sketch[:, 2] = 0
    return sketch


def test_sketches_are_sorted_by_length_and_ties_keep_their_order():
    dataset = SketchDataset.from_sketches([marked(n, i) for i, n in enumerate([3, 1, 3, 2, 1])])
    assert [int(sketch[0, 0]) for sketch in dataset] == [1, 4, 3, 0, 2]
    assert dataset.lengths.tolist() == [1, 1, 2, 3, 3]
    assert dataset.max_seq_len == 3


def test_a_sketch_is_a_view_and_indices_count_from_either_end():
    dataset = SketchDataset.from_sketches([marked(2, 7), marked(1, 5)])
    assert dataset[1].base is not None
    assert np.shares_memory(dataset[1], dataset.points)
    assert_array_equal(dataset[-1], dataset[1])
    with pytest.raises(IndexError, match="has 2 sketches; there is no index 2"):
        dataset[2]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_every_number_type_becomes_float32(dtype):
    dataset = SketchDataset.from_sketches([marked(2, 100, dtype)])
    assert dataset.points.dtype == np.float32
    assert_array_equal(dataset[0], [[100, 100, 0]] * 2)


def test_values_are_clamped_to_1000_before_they_are_scaled():
    dataset = SketchDataset.from_sketches([[[1500, -1e30, 1]]], scale_factor=10.0)
    assert_array_equal(dataset[0], [[100, -100, 1]])


def test_int8_values_are_clamped_without_overflow():
    assert_array_equal(SketchDataset.from_sketches([marked(1, -128, np.int8)])[0][0, :2], -128)


def test_longer_sketches_are_left_out_and_the_limit_is_inclusive():
    dataset = SketchDataset.from_sketches([marked(n, n) for n in (4, 2, 3)], max_seq_len=3)
    assert dataset.lengths.tolist() == [2, 3]


def test_a_limit_that_leaves_no_sketch_is_refused():
    with pytest.raises(DatasetError, match="no sketch of at most 3 points; its shortest has 4"):
        SketchDataset.from_sketches([marked(4, 1)], max_seq_len=3)


def test_pens_are_not_scaled():
    assert SketchDataset.from_sketches([[[2, 4, 1]]], scale_factor=2.0)[0].tolist() == [[1, 2, 1]]


def test_a_dataset_survives_pickling():
    dataset = SketchDataset.from_sketches([marked(2, 7), marked(1, 5)], name="letters")
    copy = pickle.loads(pickle.dumps(dataset))
    assert_array_equal(copy.points, dataset.points)
    assert copy.lengths.tolist() == [1, 2]
    assert copy.name == "letters"


def test_the_arguments_are_left_alone():
    sketch = np.array([[2000, 0, 1]], np.float32)
    SketchDataset.from_sketches([sketch], scale_factor=3.0)
    assert sketch[0, 0] == 2000


@given(st.lists(st.tuples(*[st.integers(-500, 500)] * 2), min_size=1, max_size=400))
def test_the_scale_factor_is_the_standard_deviation_of_both_axes_together(offsets):
    points = np.zeros((len(offsets), 3), np.float32)
    points[:, :2] = offsets
    expected = np.std(points[:, :2].astype(np.float64))
    assert normalizing_scale_factor(points) == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_the_scale_factor_of_more_points_than_one_buffer_takes_them_all():
    points = np.zeros((50_001, 3), np.float32)
    points[:, 0] = np.arange(50_001) % 7
    points[:, 1] = np.arange(50_001) % 11
    expected = np.std(points[:, :2].astype(np.float64))
    assert normalizing_scale_factor(points) == pytest.approx(expected, rel=1e-6)


GOOD = [[1, 2, 0], [3, 4, 1]]
WRONG = {
    "two columns": ([[1, 2]], "sketch 1 has 2 columns; a sketch has three"),
    "flat": ([1, 2, 3], r"sketch 1 has shape \[3\]; a sketch has shape \[points, 3\]"),
    "empty": (np.zeros((0, 3)), "sketch 1 is empty; a sketch has at least one point"),
    "text": ([["a", "b", "c"]], "sketch 1 has dtype <U1; it must be of integers or floats"),
    "nan": ([[0, 0, 0], [1, np.nan, 1]], r"sketch 1, point 1 has the offset \(1.0, nan\)"),
    "huge": ([[1e300, 0, 0]], r"sketch 1, point 0 has the offset \(1e\+300, 0.0\); it must be"),
    "infinity": ([[np.inf, 0, 0]], r"sketch 1, point 0 has the offset \(inf, 0.0\); it must be"),
    "pen 2": ([[0, 0, 0], [0, 0, 0], [0, 0, 2]], "sketch 1, point 2 has the pen 2; it must be 0"),
    "pen half": ([[0, 0, 0.5]], "sketch 1, point 0 has the pen 0.5; it must be 0 or 1"),
    "pen nan": ([[0, 0, np.nan]], "sketch 1, point 0 has the pen nan; it must be 0 or 1"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_sketch_is_refused_by_name(what):
    sketch, sentence = WRONG[what]
    with pytest.raises(DatasetError, match=f"^cats.npz, split train, {sentence}"):
        SketchDataset.from_sketches([GOOD, sketch, GOOD], name="cats.npz, split train")


def test_a_dataset_without_sketches_is_refused():
    with pytest.raises(DatasetError, match="the dataset holds no sketches"):
        SketchDataset.from_sketches([])
