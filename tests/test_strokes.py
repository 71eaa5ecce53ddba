"""Sketches as arrays, against model_spec 1.1, 1.6 and 6.1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast import strokes

SMALL = np.array([[3, 4, 0], [5, 6, 1]], np.int16)

offset = st.floats(-100, 100, width=32)
row = st.tuples(offset, offset, st.sampled_from([0, 0, 0, 1]))
sketch = st.lists(row, max_size=40).map(lambda rows: np.array(rows, np.float32).reshape(-1, 3))


# --------------------------------------------------------------------------------------------
# Forms


def test_stroke5_of_a_sketch_has_one_end_row_unless_told():
    assert_array_equal(
        strokes.to_stroke5(SMALL), [[3, 4, 1, 0, 0], [5, 6, 0, 1, 0], [0, 0, 0, 0, 1]]
    )
    assert_array_equal(strokes.to_stroke5(SMALL, 2), [[3, 4, 1, 0, 0], [5, 6, 0, 1, 0]])
    assert strokes.to_stroke5(SMALL, 4)[:, 4].tolist() == [0, 0, 1, 1]


@given(sketch, st.integers(0, 3))
def test_stroke5_and_back_gives_the_same_sketch(points, extra):
    assert_array_equal(strokes.to_stroke3(strokes.to_stroke5(points, len(points) + extra)), points)


def test_a_stroke5_whose_first_row_is_the_end_is_an_empty_sketch():
    assert strokes.to_stroke3([[0, 0, 0, 0, 1], [1, 2, 1, 0, 0]]).shape == (0, 3)


def test_a_stroke5_without_an_end_is_taken_whole():
    assert_array_equal(strokes.to_stroke3([[1, 2, 1, 0, 0], [3, 4, 0, 1, 0]])[:, 2], [0, 1])


def test_a_sketch_longer_than_asked_is_refused():
    with pytest.raises(ValueError, match="has 2 points; it may have at most length = 1"):
        strokes.to_stroke5(SMALL, 1)
    with pytest.raises(ValueError, match="sketch 1 has 2 points; it may have at most max_len = 1"):
        strokes.pad_to_stroke5([SMALL[:1], SMALL], 1)


def test_shapes_that_are_no_sketch_are_refused_by_name():
    with pytest.raises(ValueError, match=r"shape \[N, 3\]; this one has \[2, 4\]"):
        strokes.bounds(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"shape \[N, 5\]; this one has \[3\]"):
        strokes.to_stroke3(np.zeros(3))


def test_padding_agrees_with_the_worked_example_of_the_specification():
    padded = strokes.pad_to_stroke5([SMALL, [[1, 1, 0], [2, 2, 0], [7, 8, 1]]], 3)
    assert padded.dtype == np.float32
    assert_array_equal(
        padded,
        [
            [[0, 0, 1, 0, 0], [3, 4, 1, 0, 0], [5, 6, 0, 1, 0], [0, 0, 0, 0, 1]],
            [[0, 0, 1, 0, 0], [1, 1, 1, 0, 0], [2, 2, 1, 0, 0], [7, 8, 0, 1, 0]],
        ],
    )


@given(st.lists(sketch, max_size=5))
def test_a_padded_batch_is_the_start_token_then_each_stroke5(sketches):
    longest = max(map(len, sketches), default=0)
    padded = strokes.pad_to_stroke5(sketches, longest + 1)
    assert padded.shape == (len(sketches), longest + 2, 5)
    for rows, points in zip(padded, sketches, strict=True):
        assert_array_equal(rows[0], strokes.START_TOKEN)
        assert_array_equal(rows[1:], strokes.to_stroke5(points, longest + 1))


def test_lines_are_absolute_and_points_after_the_last_lift_are_left_out():
    lines = strokes.strokes_to_lines([[1, 1, 0], [2, 0, 1], [0, 5, 1], [9, 9, 0]])
    assert [line.tolist() for line in lines] == [[[1, 1], [3, 1]], [[3, 6]]]
    assert strokes.strokes_to_lines([[1, 1, 0]]) == []
    assert strokes.strokes_to_lines(np.zeros((0, 3))) == []


def test_lines_become_offsets_with_a_lift_at_the_end_of_each():
    made = strokes.lines_to_strokes([[[1, 1], [3, 1]], [], [[3, 6]]])
    assert_array_equal(made, [[1, 1, 0], [2, 0, 1], [0, 5, 1]])
    assert strokes.lines_to_strokes([]).shape == (0, 3)


@given(st.lists(st.tuples(*[st.integers(-99, 99)] * 2, st.sampled_from([0, 1])), min_size=1))
def test_lines_and_back_gives_the_same_sketch(rows):
    points = np.array(rows)
    points[-1, 2] = 1
    assert_array_equal(strokes.lines_to_strokes(strokes.strokes_to_lines(points)), points)


# --------------------------------------------------------------------------------------------
# Size


def test_bounds_include_the_origin():
    assert strokes.bounds([[5, 5, 0], [1, -2, 1]]) == (0.0, 6.0, 0.0, 5.0)
    assert strokes.bounds(np.zeros((0, 3))) == (0.0, 0.0, 0.0, 0.0)


def test_int8_positions_do_not_overflow_in_bounds():
    assert strokes.bounds(np.array([[100, 0, 0]] * 3, np.int8))[1] == 300.0


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float32, np.float64])
def test_scaling_makes_the_longer_side_the_dimension_and_leaves_the_argument_alone(dtype):
    points = np.array([[20, 0, 0], [0, 40, 1]], dtype)
    before = points.copy()
    scaled = strokes.scale_to(points, 10.0)
    assert scaled.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert_array_equal(scaled, [[5, 0, 0], [0, 10, 1]])
    assert_array_equal(points, before)


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.zeros((2, 3)), np.array([[0, 0, 1]])])
def test_a_drawing_without_extent_is_returned_unscaled(points):
    assert_array_equal(strokes.scale_to(points), points)


# --------------------------------------------------------------------------------------------
# Augmentation


def test_random_scaling_maps_uniforms_to_one_plus_minus_the_factor():
    scaled = strokes.scale_randomly([[100, 100, 1]], np.array([0.0, 0.75], np.float32), 0.5)
    assert_array_equal(scaled, [[50, 125, 1]])


@given(sketch)
def test_random_scaling_by_factor_zero_is_the_identity(points):
    assert_array_equal(
        strokes.scale_randomly(points, np.array([0.1, 0.9], np.float32), 0.0), points
    )
