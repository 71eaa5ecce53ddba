"""A split as one ragged array, checked, clamped, sorted and scaled as model_spec 1.4 says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.strokes import positions_within

# Magenta's clamp of every value, in the file's units, before any scaling.
OFFSET_LIMIT = 1000.0

# NumPy 1 sums an array in its buffers of 8192: pairwise within one, one after another over them.
_SUM_BLOCK = 8192


class Dataset(Protocol):
    """A split, in memory (`SketchDataset`) or on disk (`MappedDataset`): sketches by length.

    `len(dataset)` sketches; `dataset[i]` is stroke-3 float32 `[N, 3]`.
    """

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def left_out(self) -> int:
        """How many sketches were too long to be taken."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Points of each sketch, int64 `[n]`, ascending."""
        ...

    @property
    def max_seq_len(self) -> int:
        """Points of the longest sketch."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.float32]: ...

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The points of these sketches end to end, float32 `[P, 3]`, and their lengths."""
        ...


@dataclass(frozen=True, eq=False)
class SketchDataset:
    """Sketches in ascending order of length, laid end to end.

    `len(dataset)` sketches; `dataset[i]` is a stroke-3 view `[N, 3]` of `points`. Picklable.

    Attributes:
        points: float32 `[P, 3]`, the stroke-3 rows of all sketches, offsets already divided by
            the scale factor.
        starts: int64 `[n + 1]`; sketch i is `points[starts[i]:starts[i + 1]]`.
        name: what errors call it.
        left_out: how many sketches were too long to be taken.
    """

    points: NDArray[np.float32]
    starts: NDArray[np.int64]
    name: str = "the dataset"
    left_out: int = 0

    @classmethod
    def from_sketches(
        cls,
        sketches: Sequence[ArrayLike],
        *,
        max_seq_len: int | None = None,
        scale_factor: float = 1.0,
        name: str = "the dataset",
    ) -> SketchDataset:
        """Build from `[N, 3]` arrays of any number type, in any order.

        Args:
            sketches: at least one.
            max_seq_len: longer sketches are left out.
            scale_factor: offsets are divided by it, in float32.
            name: what errors call it.

        Raises:
            DatasetError: a sketch is not what it must be, or none is left.
        """
        points, lengths = flatten(sketches, name)
        return cls.from_points(
            points, lengths, max_seq_len=max_seq_len, scale_factor=scale_factor, name=name
        )

    @classmethod
    def from_points(
        cls,
        points: NDArray[np.float32],
        lengths: NDArray[np.int64],
        *,
        max_seq_len: int | None,
        scale_factor: float,
        name: str,
    ) -> SketchDataset:
        """Build from the result of `flatten`: filter, sort (stable), divide by the factor."""
        order = np.argsort(lengths, kind="stable")
        if max_seq_len is not None:
            order = order[: np.searchsorted(lengths[order], max_seq_len, side="right")]
            if not len(order):
                raise DatasetError(
                    f"{name} has no sketch of at most {max_seq_len} points; "
                    f"its shortest has {lengths.min()}"
                )
        starts = np.cumsum(lengths) - lengths
        sorted_lengths = lengths[order]
        rows = np.repeat(starts[order], sorted_lengths) + positions_within(sorted_lengths)
        scaled = points[rows]
        scaled[:, :2] /= np.float32(scale_factor)
        starts = np.concatenate([[0], np.cumsum(sorted_lengths)])
        return cls(scaled, starts, name, left_out=len(lengths) - len(order))

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Points of each sketch, int64 `[n]`, ascending."""
        return np.diff(self.starts)

    @property
    def max_seq_len(self) -> int:
        """Points of the longest sketch."""
        return int(self.lengths[-1])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} sketches; there is no index {index}")
        index %= len(self)
        return self.points[self.starts[index] : self.starts[index + 1]]

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The points of these sketches end to end, float32 `[P, 3]`, and their lengths.

        Raises:
            IndexError: there is no such index.
        """
        chosen = np.asarray(indices, np.int64)
        lengths = self.lengths[chosen]
        rows = np.repeat(self.starts[:-1][chosen], lengths) + positions_within(lengths)
        return self.points[rows], lengths


def normalizing_scale_factor(points: NDArray[np.float32]) -> float:
    """The standard deviation of all dx and dy, about their mean (model_spec 1.5).

    Args:
        points: stroke-3 float32 `[P, 3]` of the train split, clamped, in the file's order.

    Returns:
        A float32 value: the sums are in float32 and in the order of the NumPy that the original
        ran on, so that the figures agree in their last digit.
    """
    offsets = np.ascontiguousarray(points[:, :2]).reshape(-1)
    count = np.float32(len(offsets))
    centred = offsets - _sum_in_blocks(offsets) / count
    return float(np.sqrt(_sum_in_blocks(centred * centred) / count))


def _sum_in_blocks(values: NDArray[np.float32]) -> np.float32:
    whole = len(values) - len(values) % _SUM_BLOCK
    sums = values[:whole].reshape(-1, _SUM_BLOCK).sum(axis=1)
    return np.float32(np.add.accumulate(np.append(sums, values[whole:].sum()))[-1])


# --------------------------------------------------------------------------------------------
# Checks


def flatten(
    sketches: Sequence[ArrayLike], name: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Check the sketches, cast them to float32, clamp them to ±1000, and lay them end to end.

    Returns:
        points float32 `[P, 3]` and lengths int64 `[n]`, in the given order.

    Raises:
        DatasetError: there is no sketch, or one is empty, not `[N, 3]`, not of numbers, has an
            offset that is not finite in float32, or a pen other than 0 and 1. It names the first
            such one.
    """
    arrays = [np.asarray(sketch) for sketch in sketches]
    if not arrays:
        raise DatasetError(f"{name} holds no sketches; it must hold at least one")
    for index, array in enumerate(arrays):
        well_shaped = array.ndim == 2 and array.shape[1] == 3 and len(array)
        if not well_shaped or array.dtype.kind not in "iuf":
            raise DatasetError(f"{name}, sketch {index} {_misshapen(array)}")
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    with np.errstate(over="ignore"):
        points = np.concatenate(arrays, dtype=np.float32, casting="unsafe")
    check_values(points, lengths, arrays, name)
    return np.clip(points, -OFFSET_LIMIT, OFFSET_LIMIT, out=points), lengths


def _misshapen(array: NDArray[Any]) -> str:
    if array.dtype.kind not in "iuf":
        return f"has dtype {array.dtype}; it must be of integers or floats"
    if array.ndim == 2 and array.shape[1] == 3:
        return "is empty; a sketch has at least one point"
    if array.ndim == 2:
        return f"has {array.shape[1]} columns; a sketch has three: dx, dy, pen"
    return f"has shape {list(array.shape)}; a sketch has shape [points, 3]"


def check_values(
    points: NDArray[np.float32],
    lengths: NDArray[np.int64],
    arrays: Sequence[NDArray[Any]],
    name: str,
) -> None:
    """Refuse offsets that are not finite and pens other than 0 and 1.

    Args:
        points: float32 `[P, 3]`, all sketches end to end, of the given lengths `[n]`.
        arrays: the n sketches before their conversion to float32, for the message.

    Raises:
        DatasetError: it names the first such sketch and point.
    """
    pens = points[:, 2]
    for bad, what in (
        (~np.isfinite(points[:, :2]).all(axis=1), "offset"),
        ((pens != 0) & (pens != 1), "pen"),
    ):
        if not bad.any():
            continue
        row = int(bad.argmax())
        sketch = int(np.searchsorted(np.cumsum(lengths), row, side="right"))
        point = row - int(lengths[:sketch].sum())
        found = arrays[sketch][point]
        raise DatasetError(
            f"{name}, sketch {sketch}, point {point} has "
            + (
                f"the pen {found[2]}; it must be 0 or 1"
                if what == "pen"
                else f"the offset ({found[0]}, {found[1]}); it must be finite in float32"
            )
        )
