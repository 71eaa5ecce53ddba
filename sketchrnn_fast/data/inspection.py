"""What is in a file of drawings or a store, and what is wrong with it, in memory of a piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data import store
from sketchrnn_fast.data.chunks import Problem
from sketchrnn_fast.data.dataset import OFFSET_LIMIT
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.npz import SPLITS
from sketchrnn_fast.data.parts import Recipe, finish, without_oversized
from sketchrnn_fast.data.ragged import Sketches
from sketchrnn_fast.data.simplification import Simplification
from sketchrnn_fast.data.sources import Piece, find, pieces
from sketchrnn_fast.philox import Stream, philox4x32

# Drawings as they are; float32 holds what any source has.
_AS_IT_IS = Recipe("none", Simplification(), "float32", 1, None, False, False)
# What `convert` does unless it is told otherwise; validate names what that could not take.
_CONVERTED = replace(_AS_IT_IS, simplify="auto")

Report = Callable[[int, int], None]


@dataclass
class Findings:
    """What was found.

    Attributes:
        tables: split -> its sketches by length; the split is "" for files that have none.
        classes: class -> how many sketches.
        problems: the drawings that cannot be read, as sentences.
        notes: what is no mistake but worth knowing, as sentences -> how many sketches.
        chosen: random sketches, stroke-3, as many as were asked for.
    """

    tables: dict[str, LengthTable] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    chosen: list[NDArray[Any]] = field(default_factory=list)

    @property
    def total(self) -> LengthTable:
        """All sketches by length."""
        return LengthTable.total(self.tables.values())

    @property
    def scale_factor(self) -> float:
        """The normalising scale factor: the train split's, or that of all where there is none."""
        return self.tables.get("train", self.total).scale_factor()


def inspect(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    pictured: int = 0,
    seed: int = 0,
    report: Report | None = None,
) -> Findings:
    """Look at every drawing.

    Args:
        inputs: as of `convert`.
        pictured: how many random sketches to keep.
        seed: which ones.
        report: called with bytes done and bytes in all.

    Raises:
        DatasetError: an input cannot be read as a whole, or there is nothing in any.
    """
    findings = Findings()
    lottery = _Lottery(pictured, seed)
    seen = 0
    for piece, sketches, codes, names, problems in _read_all(inputs, _AS_IT_IS, report):
        findings.problems += problems
        split = piece.split or ""
        before = findings.tables.get(split, LengthTable.empty())
        findings.tables[split] = LengthTable.total([before, LengthTable.of(sketches)])
        for name, count in zip(names, np.bincount(codes, minlength=len(names)), strict=True):
            if count:
                findings.classes[name] = findings.classes.get(name, 0) + int(count)
        for note, count in _notes(sketches):
            findings.notes[note] = findings.notes.get(note, 0) + count
        lottery.enter(sketches, seen)
        seen += len(sketches)
    if not seen and not findings.problems:
        raise DatasetError(f"{' and '.join(map(str, inputs))}: there is no drawing")
    findings.chosen = lottery.drawn()
    return findings


def validate(
    inputs: Sequence[str | os.PathLike[str]], report: Report | None = None
) -> Iterator[str]:
    """A sentence for every drawing that cannot be read or converted, as they are found.

    Besides single drawings, a store is checked as a whole: offsets, labels, order and the tables of
    its description; a dataset for splits without sketches; a file for having any drawing.

    Raises:
        DatasetError: an input cannot be read as a whole.
    """
    tables: dict[tuple[Path, str], LengthTable] = {}
    found: set[Path] = set()
    for piece, sketches, _, _, problems in _read_all(inputs, _CONVERTED, report):
        yield from problems
        if len(sketches) or problems or piece.split is not None:
            found.update(piece.paths)
        if piece.split is not None:
            key = (piece.paths[0], piece.split)
            before = tables.get(key, LengthTable.empty())
            tables[key] = LengthTable.total([before, LengthTable.of(sketches)])
    for path in find(inputs):
        if store.is_store(path):
            yield from _store_problems(path, tables)
        if path not in found:
            yield f"{path} holds no drawing"
    for (path, split), table in tables.items():
        if not table.sketches:
            yield f"{path}, split {split} holds no good sketch; a dataset has some in each split"


def _store_problems(path: Path, tables: dict[tuple[Path, str], LengthTable]) -> Iterator[str]:
    for name in SPLITS:
        split = store.open_store(path).splits[name]
        where = f"{path}, split {name}"
        found = tables.get((path, name), LengthTable.empty())
        if found.to_rows() != split.table.to_rows():
            yield f"{where}: its sketches are not those that {store.DESCRIPTION} counts"
        lengths = np.diff(split.offsets)
        order = split.order
        seen = np.zeros(len(split), np.bool_)
        if len(split) and not 0 <= order.min() <= order.max() < len(split):
            yield f"{where}: its order names sketches that there are not"
            continue
        seen[order] = True
        if not seen.all():
            yield f"{where}: its order leaves out sketches, or names some twice"
        elif (np.diff(lengths[order]) < 0).any():
            yield f"{where}: its order is not by length"


_Found = tuple[Piece, Sketches, NDArray[np.int32], tuple[str, ...], list[str]]


def _read_all(
    inputs: Sequence[str | os.PathLike[str]], recipe: Recipe, report: Report | None
) -> Iterator[_Found]:
    """All drawings as they are, without those that the recipe could not take."""
    files = find(inputs)
    total = sum(1 if path.is_dir() else path.stat().st_size for path in files)
    done = records = 0
    group: tuple[Path, str | None] | None = None
    for piece in pieces(files):
        if piece.group != group:
            group, records = piece.group, 0
        chunk, _ = without_oversized(piece.read(), recipe)
        sketches, kept, problems, _ = finish(chunk, _AS_IT_IS)
        yield piece, sketches, kept.codes, kept.names, _sentences(piece, records, problems)
        records += chunk.records
        done += piece.size
        if report is not None:
            report(min(done, total), total)


def _sentences(piece: Piece, before: int, problems: Sequence[Problem]) -> list[str]:
    return [f"{piece.name_of(problem.record, before)} {problem.what}" for problem in problems]


def _notes(sketches: Sketches) -> Iterator[tuple[str, int]]:
    if not len(sketches):
        return
    points, ends = sketches.points, np.cumsum(sketches.lengths) - 1
    large = (np.abs(points[:, :2]) > OFFSET_LIMIT).any(axis=1)
    starts = sketches.starts
    for note, flags in (
        ("do not lift the pen at their end", points[ends, 2] == 0),
        (
            f"have an offset above {OFFSET_LIMIT:.0f}, to which training clamps it",
            np.logical_or.reduceat(large, starts),
        ),
        ("have one point only", sketches.lengths == 1),
    ):
        count = int(flags.sum())
        if count:
            yield note, count


class _Lottery:
    """Keeps the sketches with the smallest random numbers of all that enter."""

    def __init__(self, places: int, seed: int) -> None:
        self.places = places
        self.seed = seed
        self._held: list[tuple[int, int, NDArray[Any]]] = []

    def enter(self, sketches: Sketches, before: int) -> None:
        if not self.places or not len(sketches):
            return
        numbers = np.arange(before, before + len(sketches))
        words = philox4x32(numbers & 0xFFFFFFFF, 0, numbers >> 32, Stream.BATCH_ORDER, self.seed)
        keys = words[:, 0]
        starts = sketches.starts
        for index in np.argsort(keys, kind="stable")[: self.places].tolist():
            start = starts[index]
            sketch = sketches.points[start : start + sketches.lengths[index]].copy()
            self._held.append((int(keys[index]), before + index, sketch))
        self._held = sorted(self._held, key=lambda held: held[:2])[: self.places]

    def drawn(self) -> list[NDArray[Any]]:
        """The sketches, in the order of the file."""
        return [sketch for *_, sketch in sorted(self._held, key=lambda held: held[1])]
