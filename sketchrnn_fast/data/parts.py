"""What a conversion keeps of one piece of its inputs: finished sketches, in a file of their own."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.chunks import Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines, Sketches, concatenate, content_hashes
from sketchrnn_fast.data.simplification import Simplification
from sketchrnn_fast.data.sources import Piece

# Raise it whenever parts are made differently.
VERSION = 1
# Drawings that are simplified at once: their resampled points are many times those that stay.
_AT_ONCE = 1024


@dataclass(frozen=True)
class Recipe:
    """What is done to each drawing, whatever the others; the fields are those of `Options`."""

    simplify: str
    simplification: Simplification
    dtype: str
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
    summary = {
        "records": chunk.records,
        "sketches": len(sketches),
        "split": piece.split,
        "names": chunk.names,
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


def _salts(names: tuple[str, ...]) -> NDArray[np.uint64]:
    """64 bits for each class, by its name, which is the same in all parts."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def finish(chunk: Chunk, recipe: Recipe) -> tuple[Sketches, Chunk, list[Problem], dict[str, int]]:
    """The sketches of a chunk, as the recipe wants them.

    Returns:
        the sketches that are kept; the chunk with the places and classes of these; all problems;
        and why how many others were left out.
    """
    problems = list(chunk.problems)
    wants = {
        "auto": chunk.is_raw,
        "all": np.ones(len(chunk.places), np.bool_),
        "none": np.zeros(len(chunk.places), np.bool_),
    }[recipe.simplify]
    made, fits = _sketches(chunk.drawings, wants, recipe)
    problems += [
        Problem(place, f"has offsets that {recipe.dtype} cannot hold")
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


def _sketches(
    drawings: Lines | Sketches, wants: NDArray[np.bool_], recipe: Recipe
) -> tuple[Sketches, NDArray[np.bool_]]:
    """All drawings as sketches of the recipe's dtype, and whether each fits into it."""
    dtype = np.dtype(recipe.dtype)
    if not wants.any():
        whole = drawings.to_sketches() if isinstance(drawings, Lines) else drawings
        return whole.to_dtype(dtype)
    made, fits = [], []
    for start in range(0, len(wants), _AT_ONCE):
        here = np.zeros(len(wants), np.bool_)
        here[start : start + _AT_ONCE] = True
        some = drawings.take(here)
        some_wants = wants[here]
        lines = some if isinstance(some, Lines) else some.to_lines()
        simple = recipe.simplification(lines.take(some_wants)).to_sketches()
        others = some.take(~some_wants)
        plain = others.to_sketches() if isinstance(others, Lines) else others
        sketches, fit = _interleaved(simple, plain, some_wants).to_dtype(dtype)
        made.append(sketches)
        fits.append(fit)
    return concatenate(made), np.concatenate(fits)


def _interleaved(first: Sketches, second: Sketches, is_first: NDArray[np.bool_]) -> Sketches:
    """Sketches of both, in the order that `is_first` says."""
    if is_first.all():
        return first
    both = concatenate([first, second])
    order = np.empty(len(is_first), np.int64)
    order[is_first] = np.arange(len(first))
    order[~is_first] = len(first) + np.arange(len(second))
    lengths = both.lengths[order]
    rows = np.repeat(both.starts[order] - (np.cumsum(lengths) - lengths), lengths)
    return Sketches(both.points[rows + np.arange(lengths.sum())], lengths)


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
