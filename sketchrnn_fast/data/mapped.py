"""A split that stays on disk: batches are gathered from memory-mapped stores, sketch by sketch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.dataset import OFFSET_LIMIT
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.ragged import Sketches
from sketchrnn_fast.data.store import Split
from sketchrnn_fast.strokes import positions_within


@dataclass(frozen=True, eq=False)
class LoadedPart:
    """Sketches in memory that are merged with mapped ones; the attributes are those of `Split`."""

    points: NDArray[np.float32]
    offsets: NDArray[np.int64]
    order: NDArray[np.int64]
    table: LengthTable

    @classmethod
    def of(cls, points: NDArray[np.float32], lengths: NDArray[np.int64]) -> LoadedPart:
        """From the result of `dataset.flatten`."""
        return cls(
            points,
            np.concatenate([[0], np.cumsum(lengths)]),
            np.argsort(lengths, kind="stable"),
            LengthTable.of(Sketches(points, lengths)),
        )


@dataclass(frozen=True, eq=False)
class MappedDataset:
    """Sketches of one or more stores in ascending order of length, as `SketchDataset` has them.

    Ties are in the order of the parts, then of the files. Only the sketches that a batch needs are
    read. Picklable: the files are mapped again where it is unpickled.

    Attributes:
        parts: splits of stores, and loaded sketches.
        limit: sketches of more points are left out.
        scale_factor: offsets are divided by it, in float32.
        name: what errors call it.
    """

    parts: tuple[Split | LoadedPart, ...]
    limit: int
    scale_factor: float
    name: str = "the dataset"

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def _cells(self) -> _Cells:
        return _Cells.of([part.table.up_to(self.limit) for part in self.parts])

    @property
    def left_out(self) -> int:
        """How many sketches were too long to be taken."""
        return sum(part.table.sketches for part in self.parts) - len(self)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Points of each sketch, int64 `[n]`, ascending; made anew at each call."""
        return np.repeat(self._cells.lengths, np.diff(self._cells.bounds))

    @property
    def max_seq_len(self) -> int:
        """Points of the longest sketch."""
        return int(self._cells.lengths[-1])

    def __len__(self) -> int:
        return int(self._cells.bounds[-1])

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} sketches; there is no index {index}")
        return self.gather([index % len(self)])[0]

    def gather(self, indices: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The points of these sketches end to end, float32 `[P, 3]`, and their lengths.

        Raises:
            IndexError: there is no such index.
            DatasetError: a store is not what its description says.
        """
        chosen = np.asarray(indices, np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"{self.name} has {len(self)} sketches; an index is outside of them")
        cells = self._cells
        cell = np.searchsorted(cells.bounds, chosen, side="right") - 1
        rank = cells.first_rank[cell] + chosen - cells.bounds[cell]
        lengths = cells.lengths[cell]
        points = np.empty((lengths.sum(), 3), np.float32)
        ends = np.cumsum(lengths)
        for number, part in enumerate(self.parts):
            mine = cells.part[cell] == number
            if not mine.any():
                continue
            starts = self._starts(part, rank[mine], lengths[mine])
            within = positions_within(lengths[mine])
            rows = np.repeat(starts, lengths[mine]) + within
            places = np.repeat((ends - lengths)[mine], lengths[mine]) + within
            points[places] = part.points[rows]
        np.clip(points, -OFFSET_LIMIT, OFFSET_LIMIT, out=points)
        points[:, :2] /= np.float32(self.scale_factor)
        return points, lengths

    def _starts(
        self, part: Split | LoadedPart, rank: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Where the sketches of these ranks begin in the part's points."""
        sketch = part.order[rank]
        count = len(part.order)
        if (sketch < 0).any() or (sketch >= count).any():
            raise DatasetError(f"{self.name}: the order of a store is damaged; validate tells more")
        starts, stops = part.offsets[sketch], part.offsets[sketch + 1]
        if not np.array_equal(stops - starts, lengths) or (
            len(starts) and not 0 <= starts.min() <= stops.max() <= len(part.points)
        ):
            raise DatasetError(
                f"{self.name}: the offsets of a store are damaged; validate tells more"
            )
        return starts


@dataclass(frozen=True, eq=False)
class _Cells:
    """Runs of sketches of one length and one part, in ascending order of length, then of part.

    Attributes:
        bounds: int64 `[c + 1]`; cell k holds the indices from bounds[k] to bounds[k + 1].
        lengths, part: of each cell, int64 `[c]`.
        first_rank: the rank of its first sketch among the part's by length, int64 `[c]`.
    """

    bounds: NDArray[np.int64]
    lengths: NDArray[np.int64]
    part: NDArray[np.int64]
    first_rank: NDArray[np.int64]

    @classmethod
    def of(cls, tables: Sequence[LengthTable]) -> _Cells:
        lengths = np.concatenate([table.lengths for table in tables])
        counts = np.concatenate([table.counts for table in tables])
        ranks = np.concatenate([np.cumsum(table.counts) - table.counts for table in tables])
        part = np.repeat(np.arange(len(tables)), [len(table.lengths) for table in tables])
        order = np.lexsort((part, lengths))
        bounds = np.concatenate([[0], np.cumsum(counts[order])])
        return cls(bounds, lengths[order], part[order], ranks[order])
