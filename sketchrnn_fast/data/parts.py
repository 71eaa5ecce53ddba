"""What a conversion keeps of one piece of its inputs: finished sketches, in a file of their own."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.chunks import Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines, Sketches, concatenate, content_hashes
from sketchrnn_fast.data.simplification import Simplification
from sketchrnn_fast.data.sources import Piece
from sketchrnn_fast.strokes import positions_within

# Raise it whenever parts are made differently.
VERSION = 2
# Points between the steps of the simplification: of a drawing, and of those simplified at once.
MOST_POINTS = 1 << 17
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """What is done to each drawing, whatever the others; the fields are those of `Options`.

    Where `dtype` is None, simplified drawings become int16; the others do where int16 holds them as
    they are, else float32.
    """

    simplify: str
    simplification: Simplification
    dtype: str | None
    min_points: int
    max_points: int | None
    only_recognized: bool
    deduplicate: bool


@dataclass(frozen=True)
class Summary:
    """What a part says of itself."""

    records: int
    sketches: int
    split: str | None
    names: tuple[str, ...]
    dtype: str
    problems: list[Problem]
    left_out: dict[str, int]


@dataclass(frozen=True, eq=False)
class Part:
    """The sketches of a part, their classes (indices into `names`), and their split if any."""

    sketches: Sketches
    codes: NDArray[np.int32]
    names: tuple[str, ...]
    split: str | None


def make_part(piece: Piece, path: Path, recipe: Recipe) -> None:
    """Read a piece, follow the recipe, and write the part.

    Raises:
        DatasetError: the file of the piece is not what it must be.
        OSError: it cannot be read, or the part cannot be written.
    """
    sketches, chunk, problems, left_out = finish(piece.read(recipe.only_recognized), recipe)
    if piece.split is None:  # the classes of a dataset are its own, the others those of drawings
        chunk = _of_its_classes(chunk)
    summary = {
        "records": chunk.records,
        "sketches": len(sketches),
        "split": piece.split,
        "names": chunk.names,
        "dtype": sketches.points.dtype.name,
        "problems": problems,
        "left_out": left_out,
    }
    of_hashes = {}
    if recipe.deduplicate:
        of_hashes["hashes"] = content_hashes(sketches, _salts(chunk.names)[chunk.codes])
    _save(
        path,
        **of_hashes,
        points=sketches.points,
        lengths=sketches.lengths,
        codes=chunk.codes,
        summary=np.frombuffer(json.dumps(summary).encode(), np.uint8),
    )


def _of_its_classes(chunk: Chunk) -> Chunk:
    """The chunk without the names that no drawing has."""
    used, codes = np.unique(chunk.codes, return_inverse=True)
    names = tuple(chunk.names[code] for code in used.tolist())
    return replace(chunk, codes=codes.astype(np.int32), names=names)


def _salts(names: tuple[str, ...]) -> NDArray[np.uint64]:
    """64 bits for each class, by its name, which is the same in all parts."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def finish(chunk: Chunk, recipe: Recipe) -> tuple[Sketches, Chunk, list[Problem], dict[str, int]]:
    """The sketches of a chunk, as the recipe wants them, all of one dtype.

    Returns:
        the sketches that are kept; the chunk with the places and classes of these; all problems;
        and why how many others were left out.
    """
    chunk, points = without_oversized(chunk, recipe)
    problems = list(chunk.problems)
    made, fits = _sketches(chunk.drawings, _wants(chunk, recipe), points, recipe)
    problems += [
        Problem(place, f"has offsets that {recipe.dtype or 'int16'} cannot hold")
        for place in chunk.places[~fits].tolist()
    ]
    most = recipe.max_points
    short = fits & (made.lengths < recipe.min_points)
    long = fits & (made.lengths > most) if most is not None else np.zeros_like(fits)
    kept = fits & ~short & ~long
    left_out = {
        f"have fewer than {recipe.min_points} points": int(short.sum()),
        f"have more than {most} points": int(long.sum()),
        "were not recognized": chunk.unrecognized,
    }
    of_kept = Chunk(
        chunk.drawings,
        chunk.places[kept],
        chunk.codes[kept],
        chunk.names,
        chunk.is_raw[kept],
        chunk.records,
    )
    reasons = {reason: count for reason, count in left_out.items() if count}
    return made.take(kept), of_kept, sorted(problems), reasons


def without_oversized(chunk: Chunk, recipe: Recipe) -> tuple[Chunk, NDArray[np.float64]]:
    """Make problems of the drawings that are too large to be simplified.

    Returns:
        the chunk without them, and the points between of each that is left (0 where it is not
        simplified).
    """
    wants = _wants(chunk, recipe)
    points = np.zeros(len(wants))
    if not wants.any():
        return chunk, points
    points[wants] = recipe.simplification.points_between(_lines(chunk.drawings.take(wants)))
    fits = points <= MOST_POINTS
    if fits.all():
        return chunk, points
    what = f"points, simplified; at most {MOST_POINTS} are taken"
    problems = [
        Problem(place, f"goes through {count:.6g} {what}")
        for place, count in zip(chunk.places[~fits].tolist(), points[~fits], strict=True)
    ]
    left = replace(
        chunk,
        drawings=chunk.drawings.take(fits),
        places=chunk.places[fits],
        codes=chunk.codes[fits],
        is_raw=chunk.is_raw[fits],
        problems=sorted(chunk.problems + problems),
    )
    return left, points[fits]


def _wants(chunk: Chunk, recipe: Recipe) -> NDArray[np.bool_]:
    """Which drawings are simplified."""
    if recipe.simplify == "auto":
        return chunk.is_raw
    return np.full(len(chunk.places), recipe.simplify == "all")


def _lines(drawings: Lines | Sketches) -> Lines:
    return drawings if isinstance(drawings, Lines) else drawings.to_lines()


def _sketches(
    drawings: Lines | Sketches,
    wants: NDArray[np.bool_],
    points: NDArray[np.float64],
    recipe: Recipe,
) -> tuple[Sketches, NDArray[np.bool_]]:
    """All drawings as sketches of one dtype, and whether each fits into it."""
    plain, plain_fits = _as_they_are(drawings.take(~wants), recipe.dtype)
    if not wants.any():
        return plain, plain_fits
    simple, simple_fits = _simplified(_lines(drawings.take(wants)), points[wants], recipe)
    fits = np.empty(len(wants), np.bool_)
    fits[wants], fits[~wants] = simple_fits, plain_fits
    return _interleaved(simple, plain, wants), fits


def _as_they_are(
    drawings: Lines | Sketches, dtype: str | None
) -> tuple[Sketches, NDArray[np.bool_]]:
    sketches = drawings.to_sketches() if isinstance(drawings, Lines) else drawings
    if dtype is None:
        dtype = "int16" if _are_int16(sketches.points[:, :2]) else "float32"
    return sketches.to_dtype(np.dtype(dtype))


def _are_int16(offsets: NDArray[Any]) -> bool:
    """Whether int16 holds these numbers."""
    if not offsets.size:
        return True
    limits = np.iinfo(np.int16)
    return bool(
        (offsets.dtype.kind in "iu" or np.array_equal(offsets, np.rint(offsets)))
        and offsets.min() >= limits.min
        and offsets.max() <= limits.max
    )


def _simplified(
    lines: Lines, points: NDArray[np.float64], recipe: Recipe
) -> tuple[Sketches, NDArray[np.bool_]]:
    made, fits = [], []
    batch = np.cumsum(points) // _AT_ONCE
    for number in np.unique(batch):
        simple = recipe.simplification(lines.take(batch == number)).to_sketches()
        sketches, fit = simple.to_dtype(np.dtype(recipe.dtype or "int16"))
        made.append(sketches)
        fits.append(fit)
    return concatenate(made), np.concatenate(fits)


def _interleaved(first: Sketches, second: Sketches, is_first: NDArray[np.bool_]) -> Sketches:
    """Sketches of both, in the order that `is_first` says, of the dtype that holds both."""
    if is_first.all():
        return first
    both = concatenate([first, second])
    order = np.empty(len(is_first), np.int64)
    order[is_first] = np.arange(len(first))
    order[~is_first] = len(first) + np.arange(len(second))
    lengths = both.lengths[order]
    rows = np.repeat(both.starts[order], lengths) + positions_within(lengths)
    return Sketches(both.points[rows], lengths)


# --------------------------------------------------------------------------------------------
# Files


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_whole(path: Path) -> bool:
    """Whether this part can be read; one is renamed into its place, but disks have holes too."""
    try:
        read_summary(path)
        read_part(path)
        return True
    except (DatasetError, OSError):
        return False


def read_summary(path: Path) -> Summary:
    """What a part says of itself.

    Raises:
        DatasetError: it is damaged.
    """
    (content,) = _load(path, "summary")
    fields = json.loads(content.tobytes())
    fields["problems"] = [Problem(*problem) for problem in fields["problems"]]
    fields["names"] = tuple(fields["names"])
    return Summary(**fields)


def read_hashes(path: Path) -> NDArray[np.uint64]:
    """The hashes of its sketches."""
    hashes: NDArray[np.uint64] = _load(path, "hashes")[0]
    return hashes


def read_part(path: Path) -> Part:
    """Its sketches.

    Raises:
        DatasetError: it is damaged.
    """
    summary = read_summary(path)
    points, lengths, codes = _load(path, "points", "lengths", "codes")
    return Part(Sketches(points, lengths), codes, summary.names, summary.split)


def _load(path: Path, *names: str) -> list[NDArray[Any]]:
    try:
        # Opened here, since NumPy leaves open what turns out not to be an archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return [archive[name] for name in names]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged ({type(error).__name__}); delete it") from None
