"""Chunks of drawings: lines and stroke-3 are two forms of one thing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data.ragged import Lines, Sketches, concatenate, content_hashes
from sketchrnn_fast.strokes import lines_to_strokes, strokes_to_lines

points = st.tuples(st.integers(-300, 300), st.integers(-300, 300))
drawings = st.lists(
    st.lists(st.lists(points, min_size=1, max_size=5), min_size=1, max_size=4), max_size=5
)


def ragged(found) -> Lines:
    lines = [line for drawing in found for line in drawing]
    rows = [point for line in lines for point in line]
    return Lines(
        np.array(rows, np.int64).reshape(-1, 2),
        np.array([len(line) for line in lines], np.int64),
        np.array([len(drawing) for drawing in found], np.int64),
    )


def sketches(arrays, dtype=np.float64) -> Sketches:
    lengths = np.array([len(array) for array in arrays], np.int64)
    rows = np.concatenate([np.asarray(array, dtype).reshape(-1, 3) for array in arrays])
    return Sketches(rows, lengths)


@given(drawings)
def test_a_chunk_of_lines_becomes_what_each_drawing_would_become(found):
    made = ragged(found).to_sketches().split()
    assert len(made) == len(found)
    for sketch, drawing in zip(made, found, strict=True):
        assert_array_equal(sketch, lines_to_strokes(drawing))


@given(drawings)
def test_lines_come_back_from_sketches_exactly(found):
    lines = ragged(found)
    back = lines.to_sketches().to_lines()
    assert_array_equal(back.points, lines.points)
    assert_array_equal(back.line_lengths, lines.line_lengths)
    assert_array_equal(back.line_counts, lines.line_counts)


def test_a_last_line_without_a_lift_ends_with_its_drawing():
    chunk = sketches([[[1, 2, 0], [3, 4, 0]], [[5, 6, 1], [7, 8, 0]]])
    lines = chunk.to_lines()
    assert lines.line_lengths.tolist() == [2, 1, 1]
    assert lines.line_counts.tolist() == [1, 2]
    assert lines.points.tolist() == [[1, 2], [4, 6], [5, 6], [12, 14]]


@given(drawings, st.data())
def test_taking_some_drawings_is_taking_each(found, data):
    chosen = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), np.bool_
    )
    lines = ragged(found)
    expected = ragged([drawing for drawing, take in zip(found, chosen, strict=True) if take])
    for taken in (lines.take(chosen), lines.to_sketches().take(chosen).to_lines()):
        assert_array_equal(taken.points, expected.points)
        assert_array_equal(taken.line_lengths, expected.line_lengths)
        assert_array_equal(taken.line_counts, expected.line_counts)


def test_rounding_to_int16_does_not_drift():
    steps = np.tile([[0.4, -0.4, 0]], (1000, 1))
    whole, fits = sketches([steps, steps]).to_dtype(np.dtype(np.int16))
    assert fits.all()
    assert whole.points.dtype == np.int16
    for sketch in whole.split():
        assert np.abs(sketch[:, 0].sum() - 400) <= 0.5
        assert np.abs(np.cumsum(sketch[:, 0]) - np.cumsum(steps[:, 0])).max() <= 0.5


@pytest.mark.parametrize(("value", "dtype"), [(40_000, "int16"), (-33_000.0, "int16")])
def test_a_sketch_that_does_not_fit_is_told_and_the_others_are_kept(value, dtype):
    chunk = sketches([[[1, 2, 1]], [[value, 0, 1]], [[3, 4, 1]]])
    made, fits = chunk.to_dtype(np.dtype(dtype))
    assert fits.tolist() == [True, False, True]
    assert made.take(fits).points.tolist() == [[1, 2, 1], [3, 4, 1]]


def test_floats_keep_their_positions_to_the_last_digit_whatever_stands_before():
    far = [[1e6 / 3, 1e6 / 7, 1]] * 50
    near = [[0.1, 0.2, 0], [0.3, 0.4, 1]]
    alone = sketches([near]).to_lines().points
    assert_array_equal(sketches([far, near]).to_lines().points[-2:], alone)
    assert_array_equal(alone, strokes_to_lines(near)[0])


@given(drawings, drawings)
def test_equal_drawings_have_equal_hashes_and_others_do_not(first, second):
    chunk = concatenate([ragged(first).to_sketches(), ragged(second).to_sketches()])
    chunk = chunk.to_dtype(np.dtype(np.int16))[0]
    hashes = content_hashes(chunk, np.zeros(len(chunk), np.uint64))
    keys = [sketch.tobytes() for sketch in chunk.split()]
    assert len(set(keys)) == len(set(hashes.tolist()))
    assert len(set(zip(keys, hashes.tolist(), strict=True))) == len(set(keys))


def test_the_class_is_part_of_the_hash_and_minus_zero_is_zero():
    chunk = Sketches(np.array([[0.0, 1, 1], [-0.0, 1, 1]], np.float32), np.array([1, 1]))
    same = content_hashes(chunk, np.zeros(2, np.uint64))
    assert same[0] == same[1]
    other = content_hashes(chunk, np.array([0, 1], np.uint64))
    assert other[0] != other[1]
