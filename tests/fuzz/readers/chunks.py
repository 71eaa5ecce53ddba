"""What holds of every chunk of drawings, whatever the bytes that it was read from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk
from sketchrnn_fast.data.parts import Recipe, finish
from sketchrnn_fast.data.simplification import Simplification

_RECIPE = Recipe("auto", Simplification(), "int16", 1, None, False, True)


def input_file(suffix: str) -> Path:
    """A file for the readers to read, in memory where the system has such a folder."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    return Path(folder) / f"input{suffix}"


def check(chunk: Chunk) -> None:
    """Everything that a conversion relies on, and the conversion of the chunk itself."""
    drawings = chunk.drawings
    assert len(drawings) == len(chunk.places) == len(chunk.codes) == len(chunk.is_raw)
    assert len(chunk.places) + len(chunk.problems) + chunk.unrecognized <= chunk.records
    assert drawings.lengths.sum() == len(drawings.points)
    assert (drawings.lengths > 0).all()
    assert not len(chunk.codes) or 0 <= chunk.codes.min() <= chunk.codes.max() < len(chunk.names)
    assert (np.abs(drawings.points[:, :2]) <= MOST_COORDINATE).all()
    sketches, *_ = finish(chunk, _RECIPE)
    assert sketches.points.dtype == np.int16
    assert sketches.lengths.sum() == len(sketches.points)
