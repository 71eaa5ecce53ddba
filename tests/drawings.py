"""Small datasets of simple drawings, for tests that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data import write_npz

TINY_MODEL = {
    "enc_model": "layer_norm",
    "dec_model": "layer_norm",
    "enc_rnn_size": 8,
    "dec_rnn_size": 16,
    "z_size": 4,
    "num_mixture": 2,
}


def polygon(corners: int, size: float, turn: float) -> NDArray[np.float32]:
    """A closed polygon as stroke-3, the first offset from the origin to its first corner."""
    angles = turn + 2 * np.pi * np.arange(corners + 1) / corners
    points = size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    pen = np.zeros(corners + 1)
    pen[-1] = 1
    return np.column_stack([np.diff(points, axis=0, prepend=0), pen]).astype(np.float32)


def polygons(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Polygons of 3 to 8 corners, of random size and turn."""
    random = np.random.default_rng(seed)
    return [
        polygon(int(corners), size, turn)
        for corners, size, turn in zip(
            random.integers(3, 9, count),
            random.uniform(5, 15, count),
            random.uniform(0, np.pi, count),
            strict=True,
        )
    ]


def write_polygons(path: Path, train: int = 40, valid: int = 10, test: int = 10) -> Path:
    """A dataset of polygons as an .npz file."""
    splits = {"train": polygons(train, 1), "valid": polygons(valid, 2), "test": polygons(test, 3)}
    write_npz(path, splits)
    return path
