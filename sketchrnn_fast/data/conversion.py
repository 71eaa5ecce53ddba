"""Drawings in any known form to a dataset: an `.npz` as Magenta reads it, or a store.

Two passes. The first, here, reads the inputs piece by piece, in parallel, and leaves a part for
each piece in a work folder beside the output. The second (`assembly.py`), which alone knows how
many sketches there are, deals them to the splits and writes. Both take memory of a piece, not of
the input. A part is written whole or not at all, so a conversion that was stopped goes on from the
parts that it had made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sketchrnn_fast.data import parts, store
from sketchrnn_fast.data.assembly import Deal, Parts, Progress, assemble
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.parts import Recipe, make_part
from sketchrnn_fast.data.simplification import Simplification
from sketchrnn_fast.data.sources import Piece, find, pieces
from sketchrnn_fast.data.splitting import SplitSizes
from sketchrnn_fast.files import check_can_write, write_atomically

_FAILED = "failed"  # stands in the work folder of a conversion that an error ended
_PLAN = "plan.json"
_WORK_SUFFIX = ".partial"
# Problems that the provenance tells one by one; the others it counts.
_MOST_TOLD = 1000


@dataclass(frozen=True)
class Options:
    """What is done to the drawings on their way.

    Attributes:
        simplify: whether drawings are simplified: "auto" does so with raw recordings, SVG and
            polylines, "all" with everything, "none" with nothing.
        simplification: how.
        min_points, max_points: sketches of fewer or more points are left out.
        only_recognized: leaves out what QuickDraw's game did not recognize.
        deduplicate: leaves out exact repetitions within a class, whatever split they are in.
        splits: sizes of the splits. None keeps the splits that datasets among the inputs have, and
            deals the other sketches out as `SplitSizes()`.
        seed: of the random deal.
        dtype: of the offsets, int16 or float32. None rounds simplified drawings, as QuickDraw's
            are, keeps the others as they are, and takes float32 if int16 does not hold these.
        skip_bad: leaves out drawings that cannot be read, instead of stopping at the first.
    """

    simplify: Literal["auto", "all", "none"] = "auto"
    simplification: Simplification = field(default_factory=Simplification)
    min_points: int = 1
    max_points: int | None = None
    only_recognized: bool = False
    deduplicate: bool = False
    splits: SplitSizes | None = None
    seed: int = 0
    dtype: str | None = None
    skip_bad: bool = False

    def check(self) -> None:
        """Refuse what cannot be, before any work.

        Raises:
            DatasetError: an option has a value that is not accepted.
        """
        if self.simplify not in ("auto", "all", "none"):
            raise DatasetError(f"simplify is {self.simplify!r}; it takes auto, all or none")
        if self.dtype not in (None, *store.DTYPES):
            raise DatasetError(f"dtype is {self.dtype!r}; it takes {' or '.join(store.DTYPES)}")
        if self.min_points < 1:
            raise DatasetError(f"min_points is {self.min_points}; a sketch has at least one")
        if self.max_points is not None and self.max_points < self.min_points:
            raise DatasetError(
                f"max_points is {self.max_points}, below min_points, {self.min_points}"
            )
        self.simplification.check()
        (self.splits or SplitSizes()).check()


@dataclass(frozen=True)
class Result:
    """What a conversion did.

    Attributes:
        path: the dataset.
        counts: sketches of each split.
        classes: their names.
        left_out: why sketches were left out -> how many.
        problems: the drawings that could not be read, at most 1000 of them.
        reused_parts: how many parts of an earlier, stopped run were taken over.
    """

    path: Path
    counts: dict[str, int]
    classes: tuple[str, ...]
    left_out: dict[str, int]
    problems: list[str]
    reused_parts: int


def convert(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    options: Options | None = None,
    *,
    jobs: int = 1,
    restart: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Convert drawings to a dataset.

    Args:
        inputs: files and folders, see `sources.SUFFIXES`; folders are searched through.
        out: a path ending in .npz for a file as Magenta reads it, which is held in memory once;
            any other for a store, a new folder.
        options: what is done to the drawings.
        jobs: processes that read; 1 reads in this one. The result is the same.
        restart: begin anew where another conversion left its work folder.
        progress: called with what is going on, how much of it is done, and how much there is.

    Raises:
        DatasetError: an input or an option is not what it must be, a drawing cannot be read (and
            skip_bad is off), a split would be empty, or the output exists or cannot be written.
        OSError: the disk does not take the result.
    """
    options = options or Options()
    options.check()
    if jobs < 1:
        raise DatasetError(f"jobs is {jobs}; at least one process reads")
    out = Path(out)
    _check_out(out)
    files = find(inputs)
    recipe = Recipe(
        options.simplify,
        options.simplification,
        options.dtype,
        options.min_points,
        options.max_points,
        options.only_recognized,
        options.deduplicate,
    )
    work = out.with_name(f".{out.name}{_WORK_SUFFIX}")
    _prepare(work, _fingerprint(files, recipe), restart)
    report = progress or _no_progress
    reader = _Reader(work, recipe, options.skip_bad, jobs, report)
    try:
        reader.read(files)
        if not reader.sketches:
            raise DatasetError(_nothing_left(files, reader.left_out))
        counts, classes, left_out = assemble(
            out,
            work,
            Parts(
                reader.paths, reader.sketches, reader.split_sketches, reader.names, reader.left_out
            ),
            Deal(options.splits, options.seed, options.deduplicate),
            np.dtype(reader.dtype),
            _provenance(files, reader.dtype, options, reader.problems),
            report,
        )
    except DatasetError:
        with suppress(OSError):  # the error is what must be told
            (work / _FAILED).touch()
        raise
    shutil.rmtree(work, ignore_errors=True)
    return Result(out, counts, classes, left_out, reader.problems, reader.reused)


def _no_progress(stage: str, done: int, total: int) -> None:
    pass


def _nothing_left(files: Sequence[Path], left_out: dict[str, int]) -> str:
    """Why there is no dataset to write."""
    named = f"{files[0]}" if len(files) == 1 else f"the {len(files)} files, {files[0]} the first,"
    if not left_out:
        return f"{named} {'holds' if len(files) == 1 else 'hold'} no drawing"
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"no drawing of {named} is left: {reasons}"


# --------------------------------------------------------------------------------------------
# Before any work


def _check_out(out: Path) -> None:
    if out.suffix == ".npz":
        if out.is_file():
            raise DatasetError(f"{out} exists; delete it first, or give another name")
        check_can_write(out)
        return
    if out.suffix:
        raise DatasetError(
            f"{out} ends in {out.suffix}; a dataset is an .npz file, or a store: a folder without "
            "suffix"
        )
    if out.exists():
        raise DatasetError(f"{out} exists; a store is written as a new folder")
    if not out.resolve().parent.is_dir():
        raise DatasetError(f"{out} cannot be written: there is no folder {out.parent}")


def _fingerprint(files: Sequence[Path], recipe: Recipe) -> str:
    """What the parts depend on: the inputs, told by name, size and time, and the recipe."""
    listed = []
    for path in files:
        of = path / store.DESCRIPTION if path.is_dir() else path
        status = of.stat()
        listed.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    text = json.dumps([parts.VERSION, listed, asdict(recipe)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _prepare(work: Path, fingerprint: str, restart: bool) -> None:
    """Make the work folder, or take over that of a conversion of the same inputs."""
    plan = work / _PLAN
    if restart and work.exists():
        shutil.rmtree(work)
    if plan.exists():
        try:
            found = json.loads(plan.read_text())["fingerprint"]
        except (ValueError, KeyError, TypeError):
            found = None
        if found != fingerprint and (work / _FAILED).exists():
            shutil.rmtree(work)
        elif found != fingerprint:
            raise DatasetError(
                f"{work} is left from a conversion of other inputs, or with other options; "
                "delete it, or begin anew by --restart"
            )
    elif work.exists() and any(work.iterdir()):
        raise DatasetError(f"{work} is in the way: it is not the work folder of a conversion")
    work.mkdir(exist_ok=True)
    (work / _FAILED).unlink(missing_ok=True)
    if not plan.exists():
        write_atomically(plan, json.dumps({"fingerprint": fingerprint}).encode())
    for leftover in ("store", "repeats.bin"):
        path = work / leftover
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------
# The first pass


class _Reader:
    """Makes the parts that are missing, and keeps what the second pass must know of all."""

    def __init__(
        self, work: Path, recipe: Recipe, skip_bad: bool, jobs: int, report: Progress
    ) -> None:
        self.work = work
        self.recipe = recipe
        self.skip_bad = skip_bad
        self.jobs = jobs
        self.report = report
        self.paths: list[Path] = []
        self.sketches = 0
        self.split_sketches = 0
        self.names: set[str] = set()
        self.left_out: dict[str, int] = {}
        self.problems: list[str] = []
        self.dtype = recipe.dtype or "int16"
        self.reused = 0
        self._bytes = 0
        self._total = 0
        self._group: tuple[Path, str | None] | None = None
        self._records = 0

    def read(self, files: Sequence[Path]) -> None:
        self._total = sum(_size(path) for path in files)
        tasks = (
            (piece, self.work / f"part-{number:06d}.npz")
            for number, piece in enumerate(pieces(files))
        )
        if self.jobs == 1:
            for piece, path in tasks:
                if not self._is_made(path):
                    make_part(piece, path, self.recipe)
                self._take(piece, path)
            return
        # Workers are started afresh: a fork would copy the locks of torch's and NumPy's threads.
        with ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn")) as pool:
            waiting: list[tuple[Piece, Path, Future[None] | None]] = []
            try:
                for piece, path in tasks:
                    future = (
                        None
                        if self._is_made(path)
                        else pool.submit(make_part, piece, path, self.recipe)
                    )
                    waiting.append((piece, path, future))
                    if len(waiting) > 3 * self.jobs:
                        self._wait(*waiting.pop(0))
                while waiting:
                    self._wait(*waiting.pop(0))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _wait(self, piece: Piece, path: Path, future: Future[None] | None) -> None:
        if future is not None:
            future.result()
        self._take(piece, path)

    def _is_made(self, path: Path) -> bool:
        if path.exists() and parts.is_whole(path):
            self.reused += 1
            return True
        return False

    def _take(self, piece: Piece, path: Path) -> None:
        part = parts.read_summary(path)
        if piece.group != self._group:
            self._group, self._records = piece.group, 0
        for problem in part.problems:
            sentence = f"{piece.name_of(problem.record, self._records)} {problem.what}"
            if not self.skip_bad:
                raise DatasetError(
                    f"{sentence}; validate names every such drawing, skip-bad leaves them out"
                )
            self._count("cannot be read", 1)
            if len(self.problems) < _MOST_TOLD:
                self.problems.append(sentence)
        for reason, count in part.left_out.items():
            self._count(reason, count)
        self._records += part.records
        self.sketches += part.sketches
        if piece.split is not None:
            self.split_sketches += part.sketches
        self.names.update(part.names)
        if part.sketches and part.dtype == "float32":
            self.dtype = "float32"
        self.paths.append(path)
        self._bytes += piece.size
        self.report("reading", min(self._bytes, self._total), self._total)

    def _count(self, reason: str, count: int) -> None:
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(store.counts(path).values()) * 256
    return path.stat().st_size


def _provenance(
    files: Sequence[Path], dtype: str, options: Options, problems: Sequence[str]
) -> dict[str, Any]:
    """What a store says of its making."""
    named = [
        {"name": path.name, "bytes": None if path.is_dir() else path.stat().st_size}
        for path in files[:_MOST_TOLD]
    ]
    return {
        "made_by": "sketchrnn-fast data convert",
        "inputs": named,
        "input_files": len(files),
        "options": {**asdict(options), "dtype": dtype},
        "problems": list(problems),
    }
