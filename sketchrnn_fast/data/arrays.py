"""Sketches in `.npz` and `.npy` files as chunks: datasets, lists of sketches, stroke-5 arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import SPLITS, listed, read_npy, read_npz_members
from sketchrnn_fast.data.ragged import Sketches


def split_names(path: Path) -> tuple[str, ...]:
    """The splits of a dataset; nothing for a file that is a plain list of sketches."""
    if path.suffix.lower() == ".npy":
        return ()
    members = read_npz_members(path, ())[1]
    return tuple(split for split in SPLITS if split in members)


def read(path: Path, split: str | None, name: str) -> Chunk:
    """The sketches of a file, or of one split of a dataset.

    Args:
        path: an `.npz` with splits (Magenta's, also with stroke-5 sketches), or with `points` and
            `lengths` as the drawing commands write it; or an `.npy` of one sketch `[N, 3 or 5]`
            or of many of one length, `[n, N, 3 or 5]`.
        split: which split; None for a file that has none.
        name: their class, where the file names none.

    Raises:
        DatasetError: the file is not one of these; what is wrong with a single sketch is a problem
            of the chunk instead.
    """
    codes: NDArray[np.int32] | None = None
    names: tuple[str, ...] = (name,)
    if path.suffix.lower() == ".npy":
        sketches = _of_array(path, read_npy(path))
    elif split is not None:
        members, present = read_npz_members(path, (split,))
        sketches = members[split]
        if f"{split}_labels" in present and "classes" in present:
            codes, names = _labels(path, split, len(sketches))
    else:
        sketches = _of_list(path)
    return chunk_of(sketches, codes, names)


def chunk_of(
    sketches: Sequence[NDArray[Any]], codes: NDArray[np.int32] | None, names: tuple[str, ...]
) -> Chunk:
    """Sort sketches into good ones and problems.

    Args:
        sketches: R arrays of any shape and type.
        codes: the class of each, int32 `[R]`; 0 if None.
        names: the classes.
    """
    problems, good = [], []
    for record, sketch in enumerate(sketches):
        what = problem_of(sketch)
        if what:
            problems.append(Problem(record, what))
        else:
            good.append(record)
    rows = [_stroke3(sketches[record]) for record in good]
    is_float = any(row.dtype.kind == "f" for row in rows)
    dtype = np.dtype(np.float64 if is_float else np.int64)
    points = np.concatenate(rows, dtype=dtype) if rows else np.zeros((0, 3), dtype)
    places = np.array(good, np.int64)
    return Chunk(
        Sketches(points, np.array([len(row) for row in rows], np.int64)),
        places,
        np.zeros(len(places), np.int32) if codes is None else codes[places],
        names,
        np.zeros(len(places), np.bool_),
        len(sketches),
        problems,
    )


def problem_of(sketch: NDArray[Any]) -> str | None:
    """What is wrong with a sketch of 3 or 5 columns, as the end of a sentence; None if nothing."""
    if sketch.dtype.kind not in "iuf":
        return f"has dtype {sketch.dtype}; it must be of integers or floats"
    if sketch.ndim != 2 or sketch.shape[1] not in (3, 5):
        return f"has shape {list(sketch.shape)}; it must be [points, 3] or [points, 5]"
    if not len(sketch):
        return "has no points"
    offsets = sketch[:, :2]
    if offsets.dtype == np.float16:  # which cannot hold the limit
        offsets = offsets.astype(np.float32)
    within = (offsets >= -MOST_COORDINATE) & (offsets <= MOST_COORDINATE)
    if not within.all():
        point = int((~within.all(axis=1)).argmax())
        x, y = offsets[point]
        return (
            f"has the offset ({x}, {y}) at point {point}; offsets are within ±{MOST_COORDINATE:.0f}"
        )
    pens = sketch[:, 2:]
    is_pen = ((pens == 0) | (pens == 1)).all(axis=1)
    if sketch.shape[1] == 5:
        is_pen &= pens.sum(axis=1) == 1
    if not is_pen.all():
        point = int((~is_pen).argmax())
        found = pens[point, 0] if sketch.shape[1] == 3 else pens[point].tolist()
        wanted = "0 or 1" if sketch.shape[1] == 3 else "one-hot"
        return f"has the pen {found} at point {point}; it must be {wanted}"
    if sketch.shape[1] == 5 and sketch[0, 4] == 1:
        return "has no points"
    return None


def _stroke3(sketch: NDArray[Any]) -> NDArray[Any]:
    """A good sketch of 3 or 5 columns, cut at its end."""
    if sketch.shape[1] == 3:
        return sketch
    ends = np.flatnonzero(sketch[:, 4] == 1)
    return sketch[: ends[0] if len(ends) else len(sketch), [0, 1, 3]]


def _of_array(path: Path, array: NDArray[Any]) -> list[NDArray[Any]]:
    if array.ndim == 2:
        return [array]
    if array.ndim == 3:
        return list(array)
    raise DatasetError(
        f"{path} has an array of shape {list(array.shape)}; it takes one sketch [N, 3 or 5], or "
        "many, [n, N, 3 or 5]"
    )


def _of_list(path: Path) -> list[NDArray[Any]]:
    members, present = read_npz_members(path, ())
    if not {"points", "lengths"} <= set(present):
        raise DatasetError(
            f"{path} has {listed(sorted(present))}; it takes the splits "
            f"{', '.join(SPLITS)} of a dataset, or points and lengths of a list of sketches"
        )
    members, _ = read_npz_members(path, (), ("points", "lengths"))
    points, lengths = members["points"], members["lengths"]
    is_list = lengths.ndim == 1 and lengths.dtype.kind in "iu" and points.ndim == 2
    if not is_list or sum(lengths.tolist()) != len(points) or (lengths.astype(float) < 0).any():
        raise DatasetError(f"{path}: its points and lengths do not fit together")
    return np.split(points, np.cumsum(lengths.astype(np.int64))[:-1]) if len(lengths) else []


def _labels(path: Path, split: str, count: int) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    members, _ = read_npz_members(path, (), (f"{split}_labels", "classes"))
    labels, classes = members[f"{split}_labels"], members["classes"]
    names = decode_names(classes)
    is_whole = labels.dtype.kind in "iu" and labels.shape == (count,)
    if (
        names is None
        or not is_whole
        or (count and not 0 <= labels.min() <= labels.max() < len(names))
    ):
        raise DatasetError(
            f"{path}: the labels of split {split} do not fit its classes or sketches"
        )
    return labels.astype(np.int32), names


def encode_names(names: Sequence[str]) -> NDArray[np.uint8]:
    """Names as an array of plain bytes, UTF-8, one a line.

    Raises:
        DatasetError: a name holds a line's end, which would make it two.
    """
    for name in names:
        if "\n" in name:
            raise DatasetError(
                f"the class {name!r} is of several lines; an .npz takes names of one, a store any"
            )
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def decode_names(array: NDArray[Any]) -> tuple[str, ...] | None:
    """The reverse of `encode_names`; None where the array is not one."""
    if array.dtype != np.uint8 or array.ndim != 1:
        return None
    try:
        return tuple(array.tobytes().decode().split("\n"))
    except UnicodeDecodeError:
        return None
