"""Many drawings end to end: as absolute lines, and as stroke-3 sketches.

Everything here works on a whole chunk of drawings at once; nothing loops over drawings. D drawings
have L lines in all, and these P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.strokes import positions_within


@dataclass(frozen=True, eq=False)
class Lines:
    """Drawings as polylines.

    Attributes:
        points: absolute positions `[P, 2]`, of integers or floats.
        line_lengths: points of each line, int64 `[L]`, each at least 1.
        line_counts: lines of each drawing, int64 `[D]`, each at least 1.
    """

    points: NDArray[Any]
    line_lengths: NDArray[np.int64]
    line_counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.line_counts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Points of each drawing, int64 `[D]`."""
        if not len(self):
            return np.zeros(0, np.int64)
        firsts = np.cumsum(self.line_counts) - self.line_counts
        return np.add.reduceat(self.line_lengths, firsts)

    def take(self, chosen: NDArray[np.bool_]) -> Lines:
        """The drawings for which `chosen`, bool `[D]`, is true."""
        if chosen.all():
            return self
        of_lines = np.repeat(chosen, self.line_counts)
        of_points = np.repeat(of_lines, self.line_lengths)
        return Lines(self.points[of_points], self.line_lengths[of_lines], self.line_counts[chosen])

    def to_sketches(self) -> Sketches:
        """stroke-3: the first row is the first point itself, the pen lifts at a line's end.

        Of integers (int32) where the points are integers, of float64 otherwise.
        """
        is_whole = self.points.dtype.kind in "iu"
        rows = np.zeros((len(self.points), 3), np.int32 if is_whole else np.float64)
        rows[:, :2] = self.points
        lengths = self.lengths
        firsts = (np.cumsum(lengths) - lengths)[lengths > 0]
        starts = rows[firsts, :2].copy()
        rows[1:, :2] -= rows[:-1, :2].copy()
        rows[firsts, :2] = starts
        rows[np.cumsum(self.line_lengths) - 1, 2] = 1
        return Sketches(rows, lengths)


@dataclass(frozen=True, eq=False)
class Sketches:
    """Drawings as stroke-3.

    Attributes:
        points: rows (dx, dy, pen), `[P, 3]`.
        lengths: points of each drawing, int64 `[D]`.
    """

    points: NDArray[Any]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each drawing, int64 `[D]`."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, chosen: NDArray[np.bool_]) -> Sketches:
        """The drawings for which `chosen`, bool `[D]`, is true."""
        if chosen.all():
            return self
        lengths = self.lengths[chosen]
        rows = np.repeat(self.starts[chosen], lengths) + positions_within(lengths)
        return Sketches(self.points[rows], lengths)

    def split(self) -> list[NDArray[Any]]:
        """Each drawing as a view `[N, 3]`."""
        return np.split(self.points, np.cumsum(self.lengths)[:-1]) if len(self) else []

    def positions(self) -> NDArray[Any]:
        """Absolute positions `[P, 2]`: int64 for integers, float64 otherwise."""
        dtype = np.int64 if self.points.dtype.kind in "iu" else np.float64
        sums = np.zeros((len(self.points) + 1, 2), dtype)
        if dtype == np.int64:
            np.cumsum(self.points[:, :2], axis=0, dtype=dtype, out=sums[1:])
            return sums[1:] - np.repeat(sums[self.starts], self.lengths, axis=0)
        # A drawing's sums must not carry the rounding of those before it.
        for start, length in zip(self.starts, self.lengths, strict=True):
            rows = self.points[start : start + length, :2]
            np.cumsum(rows, axis=0, dtype=dtype, out=sums[1 + start : 1 + start + length])
        return sums[1:]

    def to_lines(self) -> Lines:
        """Absolute lines; a last line whose pen is not lifted ends with its drawing."""
        ends = self.points[:, 2] == 1
        ends[(np.cumsum(self.lengths) - 1)[self.lengths > 0]] = True
        line_ends = np.flatnonzero(ends)
        line_lengths = np.diff(line_ends, prepend=-1)
        of_drawing = np.repeat(np.arange(len(self)), self.lengths)[line_ends]
        counts = np.bincount(of_drawing, minlength=len(self)).astype(np.int64)
        return Lines(self.positions(), line_lengths, counts)

    def to_dtype(self, dtype: np.dtype[Any]) -> tuple[Sketches, NDArray[np.bool_]]:
        """Offsets as int16 or float32; to int16 the positions are rounded, not the offsets.

        Returns:
            the sketches, and for each whether it fits: bool `[D]`. One that does not fit (an
            offset outside of int16, or not finite in float32) has other numbers.
        """
        rows = self.points
        if dtype.kind == "i" and rows.dtype.kind == "f":
            whole = np.rint(rows)
            if not np.array_equal(whole, rows):
                rounded = np.rint(self.positions())
                whole[1:, :2] = np.diff(rounded, axis=0)
                firsts = self.starts[self.lengths > 0]
                whole[firsts, :2] = rounded[firsts]
            rows = whole
        if dtype.kind == "i":
            limits = np.iinfo(dtype)
            if not rows.size or (rows.min() >= limits.min and rows.max() <= limits.max):
                return Sketches(rows.astype(dtype), self.lengths), np.ones(len(self), np.bool_)
            fits = (rows >= limits.min) & (rows <= limits.max)
        else:
            with np.errstate(over="ignore"):
                fits = np.isfinite(rows.astype(dtype))
        with np.errstate(over="ignore", invalid="ignore"):
            converted = rows.astype(dtype)
        of_rows = np.logical_and.reduce(fits, axis=1)
        return Sketches(converted, self.lengths), all_of_each(of_rows, self.lengths)


def all_of_each(flags: NDArray[np.bool_], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each of the items laid end to end, whether all its flags are true; true if empty."""
    counts = np.concatenate([[0], np.cumsum(flags)])
    ends = np.cumsum(lengths)
    whole: NDArray[np.bool_] = counts[ends] - counts[ends - lengths] == lengths
    return whole


def concatenate(chunks: Sequence[Sketches]) -> Sketches:
    """Chunks one after another; at least one."""
    return Sketches(
        np.concatenate([chunk.points for chunk in chunks]),
        np.concatenate([chunk.lengths for chunk in chunks]),
    )


def content_hashes(sketches: Sketches, salt: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits for each drawing, equal for equal rows and salt.

    Each row is mixed with its place, the mixed rows are summed, and the sum is mixed with the
    length and the salt (the finaliser of splitmix64, Steele et al. 2014). Of n different drawings
    two agree with a probability of about n² / 2⁶⁵.

    Args:
        sketches: int16, or float32 with the same hashes for the same numbers.
        salt: uint64 `[D]`, such as the class.
    """
    values = np.ascontiguousarray(sketches.points, np.float32)
    values = np.where(values == 0, np.float32(0), values)  # one zero
    rows = values.view(np.uint32).astype(np.uint64)
    mixed = _mix(positions_within(sketches.lengths).astype(np.uint64))
    for column in range(3):
        mixed = _mix(mixed ^ rows[:, column])
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    starts = sketches.starts
    totals = sums[starts + sketches.lengths] - sums[starts]
    return _mix(_mix(totals ^ sketches.lengths.astype(np.uint64)) ^ salt)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
