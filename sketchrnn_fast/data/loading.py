"""From the names of datasets to the three splits that a run uses (model_spec 1.3)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data import hershey, registry
from sketchrnn_fast.data.dataset import (
    Dataset,
    SketchDataset,
    flatten,
    normalizing_scale_factor,
)
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.mapped import LoadedPart, MappedDataset
from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.npz import SPLITS, read_npz
from sketchrnn_fast.data.store import Split, is_store, open_store


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of one or more merged datasets, all divided by `scale_factor`.

    Attributes:
        scale_factor: the train split's unless one was given; a drawing times it is in the files'
            units again.
        max_seq_len: T, the most points of a sketch in any split.
    """

    train: Dataset
    valid: Dataset
    test: Dataset
    scale_factor: float
    max_seq_len: int


def load(
    data_set: Sequence[str],
    data_dir: str | os.PathLike[str] | None = None,
    max_seq_len: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    scale_factor: float | None = None,
) -> Splits:
    """Load datasets and merge them, split by split, in the given order.

    Args:
        data_set: names of `.npz` files or of folders with a store in `data_dir`, `hershey`, the
            built-in dataset, or names of the registry that were fetched. Stores stay on disk: of
            them only what a batch needs is read.
        data_dir: the current folder unless given.
        max_seq_len: the length of the longest sketch of all splits unless given; longer sketches
            are left out, also of the scale factor.
        cache_dir: where the built-in and the fetched datasets are kept; `hershey.cache_folder`
            otherwise.
        scale_factor: divides the offsets of all splits, as where a model is shown data that it
            was not trained on; the train split's own unless given.

    Raises:
        DatasetError: a name is unknown, or a file is not what it must be; before any work.
    """
    if isinstance(data_set, str) or not data_set:
        raise DatasetError(f"data_set is {data_set!r}; it takes a list of at least one name")
    folder = Path(data_dir) if data_dir is not None else Path()
    found = [_find(name, folder, cache_dir) for name in data_set]
    if any(path is not None and is_store(path) for path in found):
        return _map(data_set, found, max_seq_len, cache_dir, scale_factor)
    loaded = [_load_one(name, path, cache_dir) for name, path in zip(data_set, found, strict=True)]
    merged = {split: _merge([one[split] for one in loaded]) for split in SPLITS}
    longest = max(int(lengths.max()) for _, lengths in merged.values())
    limit = longest if max_seq_len is None else max_seq_len
    if scale_factor is None:
        scale_factor = normalizing_scale_factor(_points_within(*merged["train"], limit))
    _check_scale_factor(scale_factor)
    train, valid, test = (
        SketchDataset.from_points(
            *merged[split],
            max_seq_len=limit,
            scale_factor=scale_factor,
            name=f"{', '.join(data_set)}, split {split}",
        )
        for split in SPLITS
    )
    return Splits(train, valid, test, scale_factor, limit)


def _check_scale_factor(scale_factor: float) -> None:
    if not (scale_factor > 0 and math.isfinite(scale_factor)):
        raise DatasetError(
            f"the scale factor is {scale_factor}; it must be above 0, as it is wherever the "
            "offsets of the train split differ"
        )


def _map(
    data_set: Sequence[str],
    found: Sequence[Path | None],
    max_seq_len: int | None,
    cache_dir: str | os.PathLike[str] | None,
    scale_factor: float | None,
) -> Splits:
    """Splits of which a part, or all, stays on disk."""
    parts: dict[str, list[Split | LoadedPart]] = {split: [] for split in SPLITS}
    for name, path in zip(data_set, found, strict=True):
        if path is not None and is_store(path):
            splits = open_store(path).splits
            for split in SPLITS:
                parts[split].append(splits[split])
        else:
            loaded = _load_one(name, path, cache_dir)
            for split in SPLITS:
                parts[split].append(LoadedPart.of(*loaded[split]))
    tables = {split: LengthTable.total(part.table for part in parts[split]) for split in SPLITS}
    for split, table in tables.items():
        name = f"{', '.join(data_set)}, split {split}"
        if not table.sketches:
            raise DatasetError(f"{name} holds no sketches; it must hold at least one")
        if max_seq_len is not None and table.lengths[0] > max_seq_len:
            raise DatasetError(
                f"{name} has no sketch of at most {max_seq_len} points; its shortest has "
                f"{table.lengths[0]}"
            )
    longest = max(int(table.lengths[-1]) for table in tables.values())
    limit = longest if max_seq_len is None else max_seq_len
    if scale_factor is None:
        scale_factor = tables["train"].up_to(limit).scale_factor()
    _check_scale_factor(scale_factor)
    train, valid, test = (
        MappedDataset(
            tuple(parts[split]), limit, scale_factor, f"{', '.join(data_set)}, split {split}"
        )
        for split in SPLITS
    )
    return Splits(train, valid, test, scale_factor, limit)


_Flat = tuple[NDArray[np.float32], NDArray[np.int64]]


def _find(name: str, folder: Path, cache_dir: str | os.PathLike[str] | None) -> Path | None:
    """The file or store of a name; None for the built-in dataset."""
    if name == hershey.NAME:
        return None
    path = folder / name
    if is_store(path) or (name.endswith(".npz") and path.is_file()):
        return path
    if name.endswith(".npz"):
        raise DatasetError(f"{path} does not exist; {name} is looked up in {folder}")
    known = registry.find(name)
    if known is None:
        raise DatasetError(
            f"there is no dataset {name!r}; it takes the name of an .npz file or of a store's "
            f"folder in {folder}, {hershey.NAME}, the built-in one, or a name of `data list`"
        )
    fetched = registry.cached(known, cache_dir)
    if not fetched.is_file():
        raise DatasetError(
            f"the dataset {name} is not in the cache, {fetched.parent}; "
            f"sketchrnn-fast data fetch {name!r} puts it there"
        )
    return fetched


def _load_one(
    name: str, path: Path | None, cache_dir: str | os.PathLike[str] | None
) -> dict[str, _Flat]:
    sketches: Mapping[str, Sequence[NDArray[Any]]]
    sketches = hershey.sketches(cache_dir) if path is None else read_npz(path)
    return {split: flatten(sketches[split], f"{name}, split {split}") for split in SPLITS}


def _merge(parts: Sequence[_Flat]) -> _Flat:
    points, lengths = zip(*parts, strict=True)
    return np.concatenate(points), np.concatenate(lengths)


def _points_within(
    points: NDArray[np.float32], lengths: NDArray[np.int64], limit: int
) -> NDArray[np.float32]:
    """The points of the sketches that are not too long; all of them where none is left."""
    within = lengths <= limit
    return points[np.repeat(within, lengths)] if within.any() else points
