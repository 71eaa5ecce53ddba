"""Aligning, resampling and dropping points, against definitions written out here."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sketchrnn_fast.data import DatasetError
from sketchrnn_fast.data.json_lines import read
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.data.simplification import Simplification, align, drop_points, resample

coordinates = st.floats(-500, 500).map(lambda value: round(value, 2))
one_line = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=12)
some_lines = st.lists(one_line, min_size=1, max_size=4)


def lines(found) -> Lines:
    return Lines(
        np.array([point for line in found for point in line], np.float64),
        np.array([len(line) for line in found], np.int64),
        np.array([len(found)], np.int64),
    )


def each(made: Lines):
    return np.split(made.points, np.cumsum(made.line_lengths)[:-1])


def ramer(points, epsilon):
    """The algorithm as it is usually told, one line at a time."""
    first, last = points[0], points[-1]
    if len(points) < 3:
        return points
    way = last - first
    inner = points[1:-1] - first
    along = np.clip(inner @ way / (way @ way), 0, 1) if way @ way else np.zeros(len(inner))
    distances = np.hypot(*(inner - along[:, None] * way).T)
    furthest = int(distances.argmax()) + 1
    if distances.max() <= epsilon:
        return points[[0, -1]]
    left, right = ramer(points[: furthest + 1], epsilon), ramer(points[furthest:], epsilon)
    return np.concatenate([left[:-1], right])


@given(some_lines)
def test_an_aligned_drawing_begins_at_the_corner_and_fills_the_size(found):
    made = align(lines(found), 255.0).points
    points = np.concatenate([np.array(line) for line in found])
    extent = np.ptp(points, axis=0).max()
    assert_array_equal(made.min(axis=0), 0)
    assert made.max() == pytest.approx(255.0 if extent else 0.0)
    assert_allclose(made * (extent / 255 if extent else 1), points - points.min(axis=0), atol=1e-9)


@given(some_lines)
def test_resampled_points_stand_one_step_apart_on_the_line(found):
    made = each(resample(lines(found), 1.0))
    for before, after in zip((np.array(line) for line in found), made, strict=True):
        assert_array_equal(after[0], before[0])
        assert_array_equal(after[-1], before[-1])
        walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(before, axis=0).T))])
        total = walked[-1]
        assert len(after) == (1 if len(before) == 1 else max(1, np.ceil(total - 1e-9)) + 1)
        where = np.append(np.arange(len(after) - 1), total)
        for axis in (0, 1):
            assert_allclose(after[:, axis], np.interp(where, walked, before[:, axis]), atol=1e-6)


@given(some_lines, st.sampled_from([0.5, 2.0, 20.0]))
def test_points_are_dropped_as_ramer_douglas_and_peucker_say(found, epsilon):
    made = each(drop_points(lines(found), epsilon))
    for before, after in zip((np.array(line) for line in found), made, strict=True):
        expected = ramer(before, epsilon)
        if len(after) != len(expected) or not np.array_equal(after, expected):
            # Of points that are equally far off, either may be kept: what counts is the distance.
            assert _furthest(before, after) <= epsilon + 1e-9
            assert abs(len(after) - len(expected)) <= 2


def _furthest(points, line):
    """How far a point is from the nearest segment of a line, at most."""
    starts, ways = line[:-1], np.diff(line, axis=0)
    worst = 0.0
    for point in points:
        squares = (ways * ways).sum(axis=1)
        along = ((point - starts) * ways).sum(axis=1) / np.where(squares, squares, 1)
        nearest = starts + np.clip(along, 0, 1)[:, None] * ways
        worst = max(worst, float(np.hypot(*(nearest - point).T).min()))
    return worst


def test_points_exactly_epsilon_off_are_dropped():
    assert drop_points(lines([[(0, 0), (2, 2), (4, 0)]]), 2.0).line_lengths.tolist() == [2]
    assert drop_points(lines([[(0, 0), (2, 2.1), (4, 0)]]), 2.0).line_lengths.tolist() == [3]


def test_lines_of_one_and_two_points_and_closed_ones_survive():
    found = [[(1, 1)], [(2, 2), (2, 2)], [(0, 0), (9, 0), (9, 9), (0, 0)]]
    made = Simplification()(lines(found))
    assert made.line_lengths.tolist() == [1, 2, 4]


def test_a_drawing_is_the_same_whatever_stands_beside_it(real_data):
    drawings = read(real_data / "quickdraw_raw" / "sheep.ndjson", 0, 1 << 20, "", False).drawings
    together = Simplification()(drawings).to_sketches().split()
    for index in range(len(drawings)):
        one = np.arange(len(drawings)) == index
        alone = Simplification()(drawings.take(one)).to_sketches().points
        assert_allclose(alone, together[index], atol=1e-6)


def test_real_recordings_become_drawings_like_those_of_quickdraw(real_data):
    """0 to 255, with as many points as the published sets have: 20 to 80 on average a class."""
    for file in sorted((real_data / "quickdraw_raw").glob("*.ndjson")):
        chunk = read(file, 0, 1 << 20, "", False)
        assert not chunk.problems
        assert chunk.is_raw.all()
        made = Simplification()(chunk.drawings)
        assert made.points.min() == 0
        assert made.points.max() == pytest.approx(255)
        assert 5 < len(made.points) / len(made) < 100
        assert len(made.points) < len(chunk.drawings.points)


@pytest.mark.parametrize(
    ("name", "value"), [("size", 0.0), ("spacing", -1.0), ("epsilon", float("nan"))]
)
def test_sizes_that_cannot_be_are_refused(name, value):
    with pytest.raises(DatasetError, match=f"{name} is {value}; it must be"):
        Simplification(**{name: value}).check()


@given(some_lines, st.sampled_from([0.7, 1.0, 30.0]), st.sampled_from([0.5, 2.0, 20.0]))
def test_the_outer_points_of_straight_pieces_are_enough_to_drop_points(found, spacing, epsilon):
    every = resample(lines(found), spacing)
    some = resample(lines(found), spacing, all_points=False)
    expected, made = each(drop_points(every, epsilon)), each(drop_points(some, epsilon))
    for whole, less, of_all, of_less in zip(each(every), each(some), expected, made, strict=True):
        assert {tuple(point) for point in less} <= {tuple(point) for point in whole}
        if not np.array_equal(of_all, of_less):
            # Of points that are equally far off, either may be kept.
            assert _furthest(whole, of_less) <= epsilon + 1e-9
            assert abs(len(of_all) - len(of_less)) <= 2


def test_points_between_are_never_fewer_than_there_are(real_data):
    drawings = read(real_data / "quickdraw_raw" / "sheep.ndjson", 0, 1 << 20, "", False).drawings
    aligned = align(drawings, 255.0)
    every = Simplification(epsilon=0.0)
    assert_array_equal(every.points_between(drawings), resample(aligned, 1.0).lengths)
    bounds = Simplification().points_between(drawings)
    made = resample(aligned, 1.0, all_points=False).lengths
    assert (made <= bounds).all()
    assert bounds.sum() < 1.5 * made.sum()
    assert_array_equal(Simplification(spacing=0.0).points_between(drawings), drawings.lengths)


def test_a_zigzag_is_simplified_by_its_corners_not_by_its_pixels():
    """4,100 teeth from wall to wall are a million pixels, of which each tooth would see all."""
    teeth = np.stack([np.arange(4100) * 0.01, np.arange(4100) % 2 * 255.0], axis=1)
    (made,) = each(Simplification()(lines([teeth.tolist()])))
    assert len(made) > 3500
    assert Simplification().points_between(lines([teeth.tolist()])) == [2 * 4100 + 1]


def test_dropping_points_takes_no_stack_of_the_caller():
    """Shrinking teeth, of which the next is always the furthest: GEOS recurses for each."""
    k = np.arange(8000)
    teeth = np.stack([k * 255 / 8000, np.where(k % 2, 1, -1) * (129.5 - 127 * k / 8000)], axis=1)
    before = threading.stack_size(1 << 19)
    try:
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(drop_points, lines([teeth.tolist()]), 2.0).result()
    finally:
        threading.stack_size(before)
    assert len(made.points) > 7900


def test_a_drawing_almost_without_extent_has_none():
    made = align(lines([[(0, 0), (1e-310, 0)]]), 255.0)
    assert np.isfinite(made.points).all()
    with pytest.raises(DatasetError, match="spacing is 1e-12; it must be 0, or 1e-09 or more"):
        Simplification(spacing=1e-12).check()
