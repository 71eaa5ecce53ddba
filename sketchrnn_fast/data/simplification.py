"""From a recording to a drawing of few points, as QuickDraw's simplified drawings were made.

Four steps, named in Google's description of the dataset: move the drawing to the top left corner,
scale it uniformly so that its longer side is 255, put a point on every pixel of the way, and drop
points by the algorithm of Ramer (1972), Douglas and Peucker (1973) with ε = 2. Google's own code
is not published; what it does with ties and roundings is not known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.strokes import positions_within

_LEAST = 1e-9  # a smaller extent is none
# GEOS drops points by recursion, at worst once for each that stays, in 200 bytes of the stack.
_LONG = 2000
_STACK = 1 << 26


@dataclass(frozen=True)
class Simplification:
    """What is done to a drawing; each step is left out where its number is None or 0.

    Attributes:
        size: the longer side of the aligned drawing; a drawing without extent is only moved.
        spacing: of the points along a line, in the units after scaling.
        epsilon: points that are no further than this from the simplified line are dropped.
    """

    size: float | None = 255.0
    spacing: float = 1.0
    epsilon: float = 2.0

    def check(self) -> None:
        """Refuse sizes that cannot be.

        Raises:
            DatasetError: one is negative, not finite, or the size is 0, or the spacing nearly.
        """
        if 0 < self.spacing < _LEAST:
            raise DatasetError(f"spacing is {self.spacing}; it must be 0, or {_LEAST} or more")
        for name, value in (
            ("size", 1.0 if self.size is None else self.size),
            ("spacing", self.spacing),
            ("epsilon", self.epsilon),
        ):
            if not (np.isfinite(value) and value >= 0) or (name == "size" and value == 0):
                raise DatasetError(
                    f"{name} is {value}; it must be {'above 0' if name == 'size' else '0 or more'}"
                )

    def __call__(self, lines: Lines) -> Lines:
        """The simplified drawings, float64; the first and last point of every line stay."""
        if self.size is not None:
            lines = align(lines, self.size)
        if self.spacing:
            lines = resample(lines, self.spacing, all_points=not self.epsilon)
        return drop_points(lines, self.epsilon) if self.epsilon else lines

    def points_between(self, lines: Lines) -> NDArray[np.float64]:
        """How many points each drawing has before points are dropped, at most: float64 `[D]`.

        Memory goes with their number; time, with drawings that zigzag, with its square.
        """
        if not len(lines):
            return np.zeros(0)
        made = lines.line_lengths.astype(np.float64)
        if self.spacing:
            aligned = lines if self.size is None else align(lines, self.size)
            steps = _Way.of(aligned, self.spacing).steps + 1
            # Of the points on a straight piece two are taken, and the ends of the line.
            made = np.minimum(steps, 2 * made + 1) if self.epsilon else steps
        return np.add.reduceat(made, np.cumsum(lines.line_counts) - lines.line_counts)


def align(lines: Lines, size: float) -> Lines:
    """Move each drawing so that its least x and y are 0, and scale its longer side to `size`."""
    if not len(lines):
        return lines
    points = lines.points.astype(np.float64)
    lengths = lines.lengths
    firsts = np.cumsum(lengths) - lengths
    low = np.minimum.reduceat(points, firsts)
    extent = (np.maximum.reduceat(points, firsts) - low).max(axis=1)
    scale = np.where(extent > _LEAST, size / np.where(extent > _LEAST, extent, 1.0), 1.0)
    points -= np.repeat(low, lengths, axis=0)
    points *= np.repeat(scale, lengths)[:, None]
    return Lines(points, lines.line_lengths, lines.line_counts)


@dataclass(frozen=True, eq=False)
class _Way:
    """Lines by the way along them: one table serves all, in which each goes on after the last.

    Attributes:
        points: float64 `[P, 2]`.
        firsts: where lines begin among them, int64 `[L]`.
        walked: the way up to each point, float64 `[P]`.
        start: that up to the first point of each line, float64 `[L]`.
        steps: points that stand on each line before its last one, whole numbers, float64 `[L]`.
    """

    points: NDArray[np.float64]
    firsts: NDArray[np.int64]
    walked: NDArray[np.float64]
    start: NDArray[np.float64]
    steps: NDArray[np.float64]

    @staticmethod
    def of(lines: Lines, spacing: float) -> _Way:
        points = lines.points.astype(np.float64)
        lengths = lines.line_lengths
        firsts = np.cumsum(lengths) - lengths
        way = np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T)
        way[firsts] = 0.0
        way[firsts[1:]] = spacing  # a gap between lines
        walked = np.cumsum(way)
        start = walked[firsts]
        # A last full step that reaches the end but for rounding is the end.
        steps = np.ceil((walked[firsts + lengths - 1] - start) / spacing * (1 - 1e-12))
        return _Way(points, firsts, walked, start, np.where(lengths > 1, np.maximum(steps, 1), 0))


def resample(lines: Lines, spacing: float, *, all_points: bool = True) -> Lines:
    """A point every `spacing` along each line, from its first point on; its last point stays.

    Args:
        lines: the drawings.
        spacing: above 0.
        all_points: if False, of the points between two corners of a line only the first and the
            last are made. The distance from any chord is convex along a straight piece, so one of
            these two is the furthest of the piece, and `drop_points` keeps the same points.
    """
    if not len(lines):
        return lines
    way = _Way.of(lines, spacing)
    lengths = lines.line_lengths
    numbers, counts = (_all_steps if all_points else _outer_steps)(way, lengths, spacing)
    wanted = np.repeat(way.start, counts) + numbers * spacing
    made = np.stack([np.interp(wanted, way.walked, way.points[:, axis]) for axis in (0, 1)], axis=1)
    # Ends are taken as they are: the table has rounded them.
    ends = np.cumsum(counts) - 1
    made[ends] = way.points[way.firsts + lengths - 1]
    made[ends - counts + 1] = way.points[way.firsts]
    return Lines(made, counts, lines.line_counts)


_Steps = tuple[NDArray[Any], NDArray[np.int64]]


def _all_steps(way: _Way, lengths: NDArray[np.int64], spacing: float) -> _Steps:
    """Numbers of all steps, line by line, and how many each line has, its end among them."""
    counts = way.steps.astype(np.int64) + 1
    return positions_within(counts), counts


def _outer_steps(way: _Way, lengths: NDArray[np.int64], spacing: float) -> _Steps:
    """The same, but of the steps between a point and the next only the first and the last."""
    last_step = np.repeat(way.steps - 1, lengths)
    reached = np.floor((way.walked - np.repeat(way.start, lengths)) / spacing)
    reached = np.minimum(reached, last_step)
    # Before each point of a line: the first step after the point before, and the last one.
    numbers = np.stack([np.roll(reached, 1) + 1, reached, last_step + 1], axis=1)
    numbers[way.firsts, :2] = 0
    taken = np.zeros(numbers.shape, np.bool_)
    taken[:, 1] = numbers[:, 1] >= numbers[:, 0]
    taken[:, 0] = numbers[:, 1] > numbers[:, 0]
    taken[way.firsts, 1] = True
    ends = way.firsts + lengths - 1
    taken[ends[lengths > 1], 2] = True
    counts = np.add.reduceat(taken.sum(axis=1), way.firsts)
    return numbers[taken], counts


def drop_points(lines: Lines, epsilon: float) -> Lines:
    """Ramer-Douglas-Peucker on each line: its ends stay, and what is further off than epsilon."""
    import shapely

    lengths = lines.line_lengths
    long = lengths > 2
    if not long.any():
        return lines
    points = lines.points.astype(np.float64)
    inside = np.repeat(long, lengths)
    geometries = shapely.linestrings(
        points[inside], indices=np.repeat(np.arange(long.sum()), lengths[long])
    )
    if lengths.max() > _LONG:
        simple = _with_large_stack(lambda: _simplify(geometries, epsilon))
    else:
        simple = _simplify(geometries, epsilon)
    kept_points, line = shapely.get_coordinates(simple, return_index=True)
    counts = lengths.copy()
    counts[long] = np.bincount(line, minlength=int(long.sum()))
    made: NDArray[np.float64] = np.empty((counts.sum(), 2))
    of_long = np.repeat(long, counts)
    made[of_long] = kept_points
    made[~of_long] = points[~inside]
    return Lines(made, counts, lines.line_counts)


def _simplify(geometries: Any, epsilon: float) -> Any:
    import shapely

    return shapely.simplify(geometries, epsilon, preserve_topology=False)


def _with_large_stack(run: Callable[[], Any]) -> Any:
    """What `run` gives, in a thread of its own, whose stack is there as far as it is used."""
    before = threading.stack_size(_STACK)
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()
    finally:
        threading.stack_size(before)
