"""From a recording to a drawing of few points, as QuickDraw's simplified drawings were made.

Four steps, named in Google's description of the dataset: move the drawing to the top left corner,
scale it uniformly so that its longer side is 255, put a point on every pixel of the way, and drop
points by the algorithm of Ramer (1972), Douglas and Peucker (1973) with ε = 2. Google's own code
is not published; what it does with ties and roundings is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.strokes import positions_within


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
            DatasetError: one is negative, not finite, or the size is 0.
        """
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
            lines = resample(lines, self.spacing)
        return drop_points(lines, self.epsilon) if self.epsilon else lines


def align(lines: Lines, size: float) -> Lines:
    """Move each drawing so that its least x and y are 0, and scale its longer side to `size`."""
    if not len(lines):
        return lines
    points = lines.points.astype(np.float64)
    lengths = lines.lengths
    firsts = np.cumsum(lengths) - lengths
    low = np.minimum.reduceat(points, firsts)
    extent = (np.maximum.reduceat(points, firsts) - low).max(axis=1)
    scale = np.where(extent > 0, size / np.where(extent > 0, extent, 1.0), 1.0)
    points -= np.repeat(low, lengths, axis=0)
    points *= np.repeat(scale, lengths)[:, None]
    return Lines(points, lines.line_lengths, lines.line_counts)


def resample(lines: Lines, spacing: float) -> Lines:
    """A point every `spacing` along each line, from its first point on; its last point stays.

    Raises:
        DatasetError: more than 2²⁰ points would stand on one line.
    """
    if not len(lines):
        return lines
    points = lines.points.astype(np.float64)
    lengths = lines.line_lengths
    firsts = np.cumsum(lengths) - lengths
    steps = np.hypot(*np.diff(points, axis=0, prepend=points[:1]).T)
    steps[firsts] = 0.0
    # Distances go on over the ends of lines, a gap apart, so that one table serves all lines.
    steps[firsts[1:]] = spacing
    walked = np.cumsum(steps)
    start = walked[firsts]
    total = walked[firsts + lengths - 1] - start
    # A last full step that reaches the end but for rounding is the end.
    whole = np.ceil(total / spacing * (1 - 1e-12)).astype(np.int64)
    if whole.max() > 1 << 20:
        raise DatasetError(
            f"a line is {total.max():.6g} long: with a point every {spacing:g} that is too many"
        )
    counts = np.where(lengths > 1, np.maximum(whole, 1) + 1, 1)
    place = positions_within(counts)
    wanted = np.repeat(start, counts) + place * spacing
    made = np.stack([np.interp(wanted, walked, points[:, axis]) for axis in (0, 1)], axis=1)
    # Ends are taken as they are: the table has rounded them.
    ends = np.cumsum(counts) - 1
    made[ends] = points[firsts + lengths - 1]
    made[ends - counts + 1] = points[firsts]
    return Lines(made, counts, lines.line_counts)


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
    simple = shapely.simplify(geometries, epsilon, preserve_topology=False)
    kept_points, line = shapely.get_coordinates(simple, return_index=True)
    counts = lengths.copy()
    counts[long] = np.bincount(line, minlength=int(long.sum()))
    made: NDArray[np.float64] = np.empty((counts.sum(), 2))
    of_long = np.repeat(long, counts)
    made[of_long] = kept_points
    made[~of_long] = points[~inside]
    return Lines(made, counts, lines.line_counts)
