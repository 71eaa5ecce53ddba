"""Writing a store: sketches are appended as they come, whatever their number."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.npz import SPLITS
from sketchrnn_fast.data.ragged import Sketches
from sketchrnn_fast.data.store import DESCRIPTION, FORMAT, VERSION
from sketchrnn_fast.files import sync, write_atomically

_HEADER = 128
_CHUNK = 1 << 18


class StoreWriter:
    """Writes the splits of a store into a folder, which is a store once `finish` has returned.

    Args:
        folder: an empty folder.
        dtype: int16 or float32, of the points.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        self.folder = folder
        self.dtype = dtype
        self._splits = {split: _SplitWriter(folder / split, dtype) for split in SPLITS}

    def append(self, split: str, sketches: Sketches, labels: NDArray[np.int32]) -> None:
        """Add sketches of the store's dtype, none of them empty, at the end of a split."""
        self._splits[split].append(sketches, labels)

    def finish(self, classes: Sequence[str], provenance: Mapping[str, Any]) -> None:
        """Write the order by length and the description, and have the disk hold everything."""
        for writer in self._splits.values():
            writer.finish()
        description = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": self.dtype.name,
            "classes": list(classes),
            "splits": {split: self._splits[split].table.to_rows() for split in SPLITS},
            "provenance": dict(provenance),
        }
        text = json.dumps(description, ensure_ascii=False, indent=1)
        content = (text + "\n").encode(errors="replace")  # of file names that are no text
        write_atomically(self.folder / DESCRIPTION, content)
        sync(self.folder)

    def close(self) -> None:
        """Close the files of a store that is not to be finished."""
        for writer in self._splits.values():
            writer.close()


class _SplitWriter:
    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir()
        self._folder = folder
        self._points = _ArrayWriter(folder / "points.npy", dtype, (3,))
        self._offsets = _ArrayWriter(folder / "offsets.npy", np.dtype(np.int64))
        self._labels = _ArrayWriter(folder / "labels.npy", np.dtype(np.int32))
        self._offsets.append(np.zeros(1, np.int64))
        self.table = LengthTable.empty()

    def append(self, sketches: Sketches, labels: NDArray[np.int32]) -> None:
        self._offsets.append(self._points.length + np.cumsum(sketches.lengths))
        self._points.append(sketches.points)
        self._labels.append(labels)
        self.table = LengthTable.total([self.table, LengthTable.of(sketches)])

    def finish(self) -> None:
        self.close()
        self._write_order()
        sync(self._folder)

    def close(self) -> None:
        for array in (self._points, self._offsets, self._labels):
            array.close()

    def _write_order(self) -> None:
        """A counting sort in one pass: where each length begins is known already."""
        count = self.table.sketches
        path = self._folder / "order.npy"
        order = _ArrayWriter(path, np.dtype(np.int64))
        order.length = count
        order.close()
        if not count:
            return
        with path.open("r+b") as stream:
            stream.truncate(_HEADER + 8 * count)
        places = np.memmap(path, np.int64, "r+", _HEADER, (count,))
        bounds = np.memmap(self._folder / "offsets.npy", np.int64, "r", _HEADER, (count + 1,))
        next_place = np.cumsum(self.table.counts) - self.table.counts
        for start in range(0, count, _CHUNK):
            stop = min(start + _CHUNK, count)
            which = np.searchsorted(self.table.lengths, np.diff(bounds[start : stop + 1]))
            in_order = np.argsort(which, kind="stable")
            counts = np.bincount(which, minlength=len(next_place))
            firsts = np.cumsum(counts) - counts
            sorted_which = which[in_order]
            rank = np.arange(stop - start) - firsts[sorted_which]
            places[next_place[sorted_which] + rank] = start + in_order
            next_place += counts
        places.flush()


class _ArrayWriter:
    """An `.npy` that grows along its first axis; its header is written last."""

    def __init__(self, path: Path, dtype: np.dtype[Any], rest: tuple[int, ...] = ()) -> None:
        self.length = 0
        self._dtype = dtype
        self._rest = rest
        self._stream: BinaryIO = path.open("xb")
        self._stream.write(bytes(_HEADER))

    def append(self, rows: NDArray[Any]) -> None:
        self._stream.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self.length += len(rows)

    def close(self) -> None:
        if self._stream.closed:
            return
        header = io.BytesIO()
        fields = {
            "descr": npy.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.length, *self._rest),
        }
        npy.write_array_header_1_0(header, cast(Any, fields))
        assert len(header.getvalue()) == _HEADER, "NumPy pads headers to a multiple of 64 bytes"
        self._stream.seek(0)
        self._stream.write(header.getvalue())
        self._stream.flush()
        sync(Path(self._stream.name))
        self._stream.close()
