"""The store: a dataset as a folder of plain arrays, mapped into memory and never read as a whole.

    sketches.json     format, classes, where the sketches came from; of each split the number of
                      sketches, and for each length how many there are, the sum of their offsets
                      and the sum of the squares
    train/            and valid/, test/
        points.npy    int16 or float32 [P, 3], stroke-3 rows of all sketches end to end
        offsets.npy   int64 [n + 1]; sketch i is points[offsets[i]:offsets[i + 1]]
        labels.npy    int32 [n], indices into the classes
        order.npy     int64 [n], the sketches in ascending order of length, ties as they stand

The files are `.npy` so that NumPy alone, or anything that reads it, opens them. A store is checked
when it is opened (forms and sizes), and where it is used (lengths); `validate` checks every value.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.arrays import problem_of
from sketchrnn_fast.data.chunks import Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.npz import SPLITS, read_npy_header
from sketchrnn_fast.data.ragged import Sketches, all_of_each

DESCRIPTION = "sketches.json"
FORMAT = "sketchrnn-fast store"
VERSION = 1
DTYPES = ("int16", "float32")
_MOST_DESCRIPTION = 1 << 26


def is_store(path: Path) -> bool:
    """Whether this is a folder with a store's description."""
    return path.is_dir() and (path / DESCRIPTION).is_file()


@dataclass(frozen=True)
class Split:
    """One split of a store; its arrays are mapped when they are first asked for. Picklable.

    Attributes:
        folder: where its arrays are.
        dtype: of the points.
        table: how many sketches there are of each length, and the moments of their offsets.
        classes: the number of classes.
    """

    folder: Path
    dtype: str
    table: LengthTable
    classes: int

    def __len__(self) -> int:
        return self.table.sketches

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def points(self) -> NDArray[Any]:
        """int16 or float32 `[P, 3]`, mapped."""
        return _map(self.folder / "points.npy", self.dtype, (self.table.points, 3))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 `[n + 1]`, mapped."""
        return _map(self.folder / "offsets.npy", "int64", (len(self) + 1,))

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """int32 `[n]`, mapped."""
        return _map(self.folder / "labels.npy", "int32", (len(self),))

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """int64 `[n]`, mapped."""
        return _map(self.folder / "order.npy", "int64", (len(self),))

    def check(self) -> None:
        """Map everything, which compares forms and sizes.

        Raises:
            DatasetError: an array is missing, or is not of the form that the description says.
        """
        for array in (self.points, self.offsets, self.labels, self.order):
            assert array is not None


@dataclass(frozen=True)
class Store:
    """A store that was opened.

    Attributes:
        path: its folder.
        dtype: of its points, int16 or float32.
        classes: their names.
        splits: train, valid and test.
        provenance: where it came from, as the conversion wrote it.
    """

    path: Path
    dtype: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    provenance: Mapping[str, Any]


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store: read its description, map its arrays. Takes no memory of its size.

    Raises:
        DatasetError: it is no store, of a newer version, or its files do not fit together.
    """
    path = Path(path)
    file = path / DESCRIPTION
    if not is_store(path):
        raise DatasetError(f"{path} is no store: it has no file {DESCRIPTION}")
    try:
        if file.stat().st_size > _MOST_DESCRIPTION:
            raise DatasetError(f"{file} is larger than {_MOST_DESCRIPTION} bytes")
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DatasetError(f"{file} does not describe a store of sketchrnn-fast")
        if content.get("version") != VERSION:
            raise DatasetError(
                f"{file} is of version {content.get('version')}; this program reads {VERSION}"
            )
        store = _of_description(path, content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{file} is damaged ({type(error).__name__})") from None
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from None
    for split in store.splits.values():
        split.check()
    return store


def _of_description(path: Path, content: dict[str, Any]) -> Store:
    dtype, classes = content["dtype"], tuple(content["classes"])
    if dtype not in DTYPES or not all(isinstance(name, str) for name in classes):
        raise DatasetError(f"{path / DESCRIPTION}: its dtype or classes are not what they must be")
    splits = {
        split: Split(
            path / split, dtype, LengthTable.from_rows(content["splits"][split]), len(classes)
        )
        for split in SPLITS
    }
    return Store(path, dtype, classes, splits, content.get("provenance", {}))


def counts(path: Path) -> dict[str, int]:
    """The number of sketches of each split."""
    return {name: len(split) for name, split in open_store(path).splits.items()}


def read_chunk(path: Path, split_name: str, start: int, stop: int) -> Chunk:
    """Sketches `start` to `stop` of a split, each checked.

    Raises:
        DatasetError: the store is damaged beyond single sketches.
    """
    store = open_store(path)
    split = store.splits[split_name]
    bounds = np.array(split.offsets[start : stop + 1])
    lengths = np.diff(bounds)
    if bounds.min() < 0 or bounds.max() > len(split.points) or (lengths < 0).any():
        raise DatasetError(f"{path}, split {split_name}: its offsets are damaged")
    rows = np.array(split.points[bounds[0] : bounds[-1]])
    labels = np.array(split.labels[start:stop])
    sketches = Sketches(rows, lengths)
    good = all_of_each(
        np.isfinite(rows).all(axis=1) & ((rows[:, 2] == 0) | (rows[:, 2] == 1)), lengths
    )
    good &= lengths > 0
    problems = []
    for record in np.flatnonzero(~good).tolist():
        first = bounds[record] - bounds[0]
        sketch = rows[first : first + lengths[record]]
        problems.append(Problem(record, problem_of(sketch) or "is damaged"))
    outside = good & ((labels < 0) | (labels >= split.classes))
    problems += [
        Problem(record, f"has the label {labels[record]}; there are {split.classes} classes")
        for record in np.flatnonzero(outside).tolist()
    ]
    good &= ~outside
    places = np.flatnonzero(good)
    return Chunk(
        sketches.take(good),
        places,
        labels[good],
        store.classes,
        np.zeros(len(places), np.bool_),
        stop - start,
        sorted(problems),
    )


def _map(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map an `.npy` of exactly this type and shape, read-only."""
    try:
        with path.open("rb") as stream:
            found_shape, fortran, found = read_npy_header(stream)
            start = stream.tell()
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from None
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    if found != np.dtype(dtype) or found_shape != shape or fortran:
        raise DatasetError(
            f"{path} is of {found} {list(found_shape)}; the store's description says {dtype} "
            f"{list(shape)}"
        )
    count = int(np.prod(shape))
    if size != start + count * found.itemsize:
        raise DatasetError(
            f"{path} has {size} bytes; its header says {start + count * found.itemsize}"
        )
    if not count:
        return np.zeros(shape, found)
    mapped = np.memmap(path, found, "r", start, shape)
    # Sketches are drawn at random: reading ahead would fill memory with what nobody asked for.
    mapping = getattr(mapped, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
    return mapped.view(np.ndarray)
