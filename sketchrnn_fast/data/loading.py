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

from sketchrnn_fast.data import hershey
from sketchrnn_fast.data.dataset import SketchDataset, flatten, normalizing_scale_factor
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import SPLITS, read_npz


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of one or more merged datasets, all divided by `scale_factor`.

    Attributes:
        scale_factor: the train split's unless one was given; a drawing times it is in the files'
            units again.
        max_seq_len: T, the most points of a sketch in any split.
    """

    train: SketchDataset
    valid: SketchDataset
    test: SketchDataset
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
        data_set: names of `.npz` files in `data_dir`, or `hershey`, the built-in dataset.
        data_dir: the current folder unless given.
        max_seq_len: the length of the longest sketch of all splits unless given; longer sketches
            are left out, also of the scale factor.
        cache_dir: where the built-in dataset is kept; `hershey.cache_folder` otherwise.
        scale_factor: divides the offsets of all splits, as where a model is shown data that it
            was not trained on; the train split's own unless given.

    Raises:
        DatasetError: a name is unknown, or a file is not what it must be; before any work.
    """
    if isinstance(data_set, str) or not data_set:
        raise DatasetError(f"data_set is {data_set!r}; it takes a list of at least one name")
    folder = Path(data_dir) if data_dir is not None else Path()
    for name in data_set:
        _check_name(name, folder)
    loaded = [_load_one(name, folder, cache_dir) for name in data_set]
    merged = {split: _merge([one[split] for one in loaded]) for split in SPLITS}
    longest = max(int(lengths.max()) for _, lengths in merged.values())
    limit = longest if max_seq_len is None else max_seq_len
    if scale_factor is None:
        scale_factor = normalizing_scale_factor(_points_within(*merged["train"], limit))
    if not (scale_factor > 0 and math.isfinite(scale_factor)):
        raise DatasetError(
            f"the scale factor is {scale_factor}; it must be above 0, as it is wherever the "
            "offsets of the train split differ"
        )
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


_Flat = tuple[NDArray[np.float32], NDArray[np.int64]]


def _check_name(name: str, folder: Path) -> None:
    if name == hershey.NAME:
        return
    if not name.endswith(".npz"):
        raise DatasetError(
            f"there is no dataset {name!r}; it takes the name of an .npz file, or {hershey.NAME}, "
            "the built-in one"
        )
    if not (folder / name).is_file():
        raise DatasetError(f"{folder / name} does not exist; {name} is looked up in {folder}")


def _load_one(
    name: str, folder: Path, cache_dir: str | os.PathLike[str] | None
) -> dict[str, _Flat]:
    sketches: Mapping[str, Sequence[NDArray[Any]]]
    sketches = hershey.sketches(cache_dir) if name == hershey.NAME else read_npz(folder / name)
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
