"""The second pass of a conversion: from the parts to a dataset.

Repetitions are left out, the other sketches dealt to the splits by a random permutation, in the
order of the parts, and written. Nothing of the size of the input is held, but for an `.npz`, which
is one object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data import parts, store
from sketchrnn_fast.data.arrays import encode_names
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.npz import SPLITS, write_npz
from sketchrnn_fast.data.ragged import Sketches, concatenate
from sketchrnn_fast.data.splitting import SplitSizes, mark_repeats, permuted
from sketchrnn_fast.data.store_writing import StoreWriter

_AT_ONCE = 1 << 16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Parts:
    """The parts that the first pass has left.

    Attributes:
        paths: their files, in order.
        sketches: how many they hold.
        split_sketches: how many of these have a split already.
        names: the classes.
        left_out: why sketches were left out before -> how many.
    """

    paths: list[Path]
    sketches: int
    split_sketches: int
    names: set[str]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Deal:
    """How sketches come to splits; the fields are those of `conversion.Options`."""

    splits: SplitSizes | None
    seed: int
    deduplicate: bool


def assemble(
    out: Path,
    work: Path,
    made: Parts,
    deal: Deal,
    dtype: np.dtype[Any],
    provenance: dict[str, Any],
    report: Progress,
) -> tuple[dict[str, int], tuple[str, ...], dict[str, int]]:
    """Write the dataset.

    Args:
        out: an `.npz`, or a store's folder.
        work: the work folder, which gets what the dataset is made in.
        dtype: int16 or float32, which holds what all parts have.
        provenance: what the store says of its making; what was left out is added.

    Returns:
        sketches of each split, the classes, and why sketches were left out.

    Raises:
        DatasetError: a split would be empty, or has been given more sketches than there are.
        OSError: the disk does not take it.
    """
    classes = tuple(sorted(made.names))
    is_repeat = _repeats(work, made, deal.deduplicate)
    total = _count_dealt(made, is_repeat, deal)
    sizes = (deal.splits or SplitSizes()).counts(total)
    folder = work / "store"
    folder.mkdir()
    writer = StoreWriter(folder, dtype)
    counts = dict.fromkeys(SPLITS, 0)
    try:
        for sketches, labels, splits in _dealt(made, is_repeat, classes, sizes, total, deal, dtype):
            for code, split in enumerate(SPLITS):
                mine = splits == code
                if mine.any():
                    writer.append(split, sketches.take(mine), labels[mine])
                    counts[split] += int(mine.sum())
            report("writing", sum(counts.values()), made.sketches)
        empty = [split for split in SPLITS if not counts[split]]
        if empty:
            raise DatasetError(
                f"split {' and '.join(empty)} would be empty: there are {sum(counts.values())} "
                "sketches in all; train, valid and test give the sizes of splits"
            )
        left_out = dict(made.left_out)
        if repeats := int(is_repeat.sum()):
            left_out["repeat another"] = repeats
        if undealt := made.sketches - repeats - sum(counts.values()):
            left_out["are more than the splits take"] = undealt
        writer.finish(classes, {**provenance, "left_out": left_out})
    finally:
        writer.close()
    if out.suffix == ".npz":
        _write_npz(out, folder)
    else:
        folder.rename(out)
    report("writing", made.sketches, made.sketches)
    return counts, classes, left_out


def _repeats(work: Path, made: Parts, deduplicate: bool) -> NDArray[np.bool_]:
    if not deduplicate or not made.sketches:
        return np.zeros(made.sketches, np.bool_)
    path = work / "repeats.bin"
    is_repeat = np.memmap(path, np.bool_, "w+", shape=(made.sketches,))
    mark_repeats(lambda: map(parts.read_hashes, made.paths), made.sketches, is_repeat)
    return is_repeat


def _count_dealt(made: Parts, is_repeat: NDArray[np.bool_], deal: Deal) -> int:
    """Sketches that are to be dealt: those that repeat no other, and do not keep their split."""
    if deal.splits is not None or not made.split_sketches:
        return made.sketches - int(is_repeat.sum())
    dealt = before = 0
    for path in made.paths:
        summary = parts.read_summary(path)
        if summary.split is None:
            dealt += int((~is_repeat[before : before + summary.sketches]).sum())
        before += summary.sketches
    return dealt


def _dealt(
    made: Parts,
    is_repeat: NDArray[np.bool_],
    classes: tuple[str, ...],
    sizes: tuple[int, int, int],
    total: int,
    deal: Deal,
    dtype: np.dtype[Any],
) -> Iterator[tuple[Sketches, NDArray[np.int32], NDArray[np.int8]]]:
    """The sketches that are no repetitions, their labels, and their splits (-1 for none)."""
    number = {name: code for code, name in enumerate(classes)}
    bounds = np.cumsum(sizes)
    dealt = before = 0
    for path in made.paths:
        part = parts.read_part(path)
        kept = ~is_repeat[before : before + len(part.sketches)]
        before += len(part.sketches)
        taken = part.sketches.take(kept)
        sketches = Sketches(taken.points.astype(dtype, copy=False), taken.lengths)
        of_part = np.array([number[name] for name in part.names] or [0], np.int32)
        if part.split is not None and deal.splits is None:
            splits = np.full(len(sketches), SPLITS.index(part.split), np.int8)
        else:
            ranks = np.arange(dealt, dealt + len(sketches))
            dealt += len(sketches)
            places = permuted(deal.seed, ranks, total)
            splits = np.searchsorted(bounds, places, side="right").astype(np.int8)
            splits[splits == len(SPLITS)] = -1
        yield sketches, of_part[part.codes[kept]], splits


def _write_npz(out: Path, folder: Path) -> None:
    opened = store.open_store(folder)
    arrays: dict[str, NDArray[Any]] = {}
    splits = {}
    for name, split in opened.splits.items():
        chunks = [
            store.read_chunk(folder, name, start, min(start + _AT_ONCE, len(split)))
            for start in range(0, len(split), _AT_ONCE)
        ]
        sketches = [chunk.drawings for chunk in chunks if isinstance(chunk.drawings, Sketches)]
        splits[name] = concatenate(sketches).split()
        arrays[f"{name}_labels"] = np.array(split.labels)
    arrays["classes"] = encode_names(opened.classes)
    write_npz(out, splits, arrays)
