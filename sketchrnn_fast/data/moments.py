"""How many sketches there are of each length, with the sums from which any scale factor follows.

The normalising scale factor is the standard deviation of the offsets of those sketches that are not
too long (model_spec 1.5). Kept for each length, its sums answer for every limit without reading the
sketches again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.dataset import OFFSET_LIMIT
from sketchrnn_fast.data.ragged import Sketches


@dataclass(frozen=True, eq=False)
class LengthTable:
    """Sketches by their length.

    Attributes:
        lengths: int64 `[k]`, ascending, each at least 1.
        counts: sketches of each length, int64 `[k]`.
        sums: of all their dx and dy, clamped to ±1000, float64 `[k]`; exact for int16.
        squares: of their squares, float64 `[k]`.
    """

    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def sketches(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def points(self) -> int:
        """The points of all of them."""
        return int((self.counts * self.lengths).sum())

    @classmethod
    def empty(cls) -> LengthTable:
        """Of no sketches."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))

    @classmethod
    def of(cls, sketches: Sketches) -> LengthTable:
        """Of a chunk of sketches, none empty."""
        if not len(sketches):
            return cls.empty()
        x, y = (
            np.clip(sketches.points[:, axis].astype(np.float64), -OFFSET_LIMIT, OFFSET_LIMIT)
            for axis in (0, 1)
        )
        starts = sketches.starts
        sums = np.add.reduceat(x + y, starts)
        squares = np.add.reduceat(x * x + y * y, starts)
        lengths, which = np.unique(sketches.lengths, return_inverse=True)
        return cls(
            lengths,
            np.bincount(which, minlength=len(lengths)).astype(np.int64),
            _sums(which, sums, len(lengths)),
            _sums(which, squares, len(lengths)),
        )

    @classmethod
    def total(cls, tables: Iterable[LengthTable]) -> LengthTable:
        """Of the sketches of all tables."""
        parts = [table for table in tables if len(table.lengths)]
        if not parts:
            return cls.empty()
        lengths, which = np.unique(
            np.concatenate([table.lengths for table in parts]), return_inverse=True
        )
        counts = np.zeros(len(lengths), np.int64)
        np.add.at(counts, which, np.concatenate([table.counts for table in parts]))
        sums, squares = (
            _sums(which, np.concatenate([getattr(table, name) for table in parts]), len(lengths))
            for name in ("sums", "squares")
        )
        return cls(lengths, counts, sums, squares)

    def up_to(self, limit: int) -> LengthTable:
        """Of the sketches of at most `limit` points."""
        k = int(np.searchsorted(self.lengths, limit, side="right"))
        return LengthTable(self.lengths[:k], self.counts[:k], self.sums[:k], self.squares[:k])

    def scale_factor(self) -> float:
        """The standard deviation of all offsets, as a float32 value; 0 of none.

        The sums are exact for int16 offsets; the original's are in float32, so the last digits
        of the two may differ.
        """
        count = 2 * self.points
        if not count:
            return 0.0
        mean = math.fsum(self.sums) / count
        variance = math.fsum(self.squares) / count - mean * mean
        return float(np.float32(math.sqrt(max(variance, 0.0))))

    def to_rows(self) -> list[list[Any]]:
        """[length, count, sum, sum of squares] of each length, for JSON."""
        return [
            [length, count, _whole(total), _whole(square)]
            for length, count, total, square in zip(
                self.lengths.tolist(),
                self.counts.tolist(),
                self.sums.tolist(),
                self.squares.tolist(),
                strict=True,
            )
        ]

    @classmethod
    def from_rows(cls, rows: Any) -> LengthTable:
        """The reverse of `to_rows`.

        Raises:
            ValueError: the rows are not what they must be.
        """
        if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
            raise ValueError("rows of four numbers are expected")
        if not rows:
            return cls.empty()
        columns = list(zip(*rows, strict=True))
        lengths, counts = (np.array(column, np.int64) for column in columns[:2])
        sums, squares = (np.array(column, np.float64) for column in columns[2:])
        if (np.diff(lengths) <= 0).any() or lengths[0] < 1 or counts.min() < 1:
            raise ValueError("lengths ascend from 1 on, with counts above 0")
        # More would not fit into a file, and products of them not into 64 bits.
        if sum(length * count for length, count, *_ in rows) > 1 << 48:
            raise ValueError("there cannot be so many points")
        if not (np.isfinite(sums).all() and np.isfinite(squares).all()):
            raise ValueError("sums are finite")
        return cls(lengths, counts, sums, squares)


def _sums(which: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    sums: NDArray[Any] = np.bincount(which, values, size)
    return sums.astype(np.float64)


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 4
        and all(type(value) is int and 0 <= value < 1 << 48 for value in row[:2])
        and all(type(value) in (int, float) and abs(value) < 1e300 for value in row[2:])
    )
