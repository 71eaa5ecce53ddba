"""The plans of recurrent kernels that were measured; written by `python bench/tune.py --write`.

The key is (architecture, op, N up to a power of two, bits of storage).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Form = Literal["sequence", "step", "persistent"]
FORMS: tuple[str, ...] = get_args(Form)


class Tile(NamedTuple):
    """Of a matrix product: rows, columns and depth of a tile, warps of a program, loads in
    flight."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


class Measured(NamedTuple):
    """The fastest form, and the tiles of its products forward and backward."""

    form: Form
    forward: Tile
    backward: Tile


MEASURED: dict[tuple[str, str, int, int], Measured] = {}
