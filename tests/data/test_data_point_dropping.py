"""Point dropping (model_spec 1.6): the vectorised form against the loop, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketchrnn_fast.data import load
from sketchrnn_fast.philox import Stream, philox4x32, uniform
from sketchrnn_fast.strokes import drop_points, drop_points_ragged

offset = st.floats(-100, 100, width=32)
row = st.tuples(offset, offset, st.sampled_from([0, 0, 0, 1]))
sketch = st.lists(row, max_size=40).map(lambda rows: np.array(rows, np.float32).reshape(-1, 3))


def drop_points_loop(
    points: NDArray[np.float32], uniforms: NDArray[np.float32], prob: float
) -> NDArray[np.float32]:
    """The pseudo-code of model_spec 1.6, word for word."""
    kept: list[list[np.float32]] = []
    run = 0
    for (dx, dy, pen), u in zip(points, uniforms, strict=True):
        last_pen = kept[-1][2] if kept else 1
        run = 0 if pen == 1 or last_pen == 1 else run + 1
        if pen == 0 and last_pen == 0 and run > 2 and u < np.float32(prob):
            kept[-1][0] += dx
            kept[-1][1] += dy
        else:
            kept.append([dx, dy, pen])
    return np.array(kept, np.float32).reshape(-1, 3)


def uniforms_for(count: int, seed: int = 0) -> NDArray[np.float32]:
    words = philox4x32(np.arange((count + 3) // 4), 0, 0, Stream.AUGMENTATION, seed)
    return uniform(words).reshape(-1)[:count]


@given(sketch, st.floats(0, 1), st.integers(0, 2**63))
def test_point_dropping_is_bit_equal_to_the_loop_of_the_specification(points, prob, seed):
    uniforms = uniforms_for(len(points), seed)
    expected = drop_points_loop(points, uniforms, prob)
    assert drop_points(points, uniforms, prob).tobytes() == expected.tobytes()


@given(st.lists(sketch, min_size=1, max_size=6), st.floats(0, 1))
def test_ragged_point_dropping_is_bit_equal_to_dropping_in_each_sketch(sketches, prob):
    lengths = np.array([len(points) for points in sketches])
    uniforms = uniforms_for(int(lengths.sum()))
    ends = np.cumsum(lengths)
    expected = [
        drop_points_loop(points, part, prob)
        for points, part in zip(sketches, np.split(uniforms, ends[:-1]), strict=True)
    ]
    dropped, left = drop_points_ragged(np.concatenate(sketches), lengths, uniforms, prob)
    assert left.tolist() == [len(points) for points in expected]
    assert dropped.tobytes() == np.concatenate(expected).tobytes()


def test_a_long_line_with_every_inner_point_dropped_sums_in_the_order_of_the_loop():
    points = np.zeros((300, 3), np.float32)
    points[:, :2] = uniforms_for(600).reshape(-1, 2) * 1000
    points[-1, 2] = 1
    nothing = np.zeros(300, np.float32)
    dropped = drop_points(points, nothing, 1.0)
    assert len(dropped) == 4
    assert dropped.tobytes() == drop_points_loop(points, nothing, 1.0).tobytes()


def test_no_point_is_dropped_with_probability_zero():
    points = np.ones((20, 3), np.float32) * (1, 1, 0)
    assert len(drop_points(points, uniforms_for(20), 0.0)) == 20


@pytest.mark.parametrize("prob", [0.1, 0.9])
def test_point_dropping_of_real_sketches_is_bit_equal_to_the_loop(prob, real_data):
    splits = load(["aaron_sheep.npz"], real_data)
    for index, sketch in enumerate(splits.test):
        uniforms = uniforms_for(len(sketch), seed=index)
        ours = drop_points(sketch, uniforms, prob)
        assert ours.tobytes() == drop_points_loop(sketch, uniforms, prob).tobytes()


def test_point_dropping_removes_the_share_of_sheep_points_that_the_original_does(real_data):
    splits = load(["aaron_sheep.npz"], real_data)
    count = len(splits.train.points)
    _, left = drop_points_ragged(
        splits.train.points, splits.train.lengths, uniforms_for(count), 0.10
    )
    assert 1 - left.sum() / count == pytest.approx(0.068, abs=0.001)
