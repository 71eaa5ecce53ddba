"""Which form of a recurrent kernel runs, and its tiles: a table, by architecture, width and dtype."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import torch

Form = Literal["sequence", "step", "persistent"]
FORM_VARIABLE = "SKETCHRNN_FAST_TRITON_FORM"


class Tile(NamedTuple):
    """Of a matrix product: rows, columns and depth of a tile, warps of a program, loads in flight."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


class Plan(NamedTuple):
    """How a recurrent op runs.

    Attributes:
        form: as in `sequence.py`.
        forward, backward: the tiles of the recurrent products; of the form `sequence` the columns
            are N.
        row_tile: rows of a program that works on whole rows.
        row_warps: warps of a program that works on whole rows.
        precision: of float32 products, as `tl.dot` takes it.
    """

    form: Form
    forward: Tile
    backward: Tile
    row_tile: int
    row_warps: int
    precision: str


def padded(units: int) -> int:
    """Up to a power of two, 16 at least, which is the least that a matrix product takes."""
    return max(16, 1 << (units - 1).bit_length())


def plan(op: str, units: int, dtype: torch.dtype, device: torch.device) -> Plan:
    """The plan of an op for so many units on a device."""
    wide = dtype == torch.float32
    form = os.environ.get(FORM_VARIABLE) or ("sequence" if padded(units) <= 256 else "step")
    row_warps = 4 if units <= 512 else 8
    row_tile = max(1, min(8, 512 // padded(units)))
    precision = _precision(device)
    if form == "sequence":
        rows = 8
        columns = 128 if op == "hyper_lstm" else padded(units)
        tile = Tile(rows, columns, 16 if wide else 32, 8, 3)
        return Plan(form, tile, tile, row_tile, row_warps, precision)
    depth = 32 if wide else 64
    if form == "step" or op == "hyper_lstm":
        forward, backward = Tile(32, 64, depth, 4, 3), Tile(32, 32, depth, 4, 3)
        return Plan(form, forward, backward, row_tile, row_warps, precision)
    forward, backward = Tile(16, 64, 0, 8, 1), Tile(16, 16, 0, 8, 1)
    return Plan("persistent", forward, backward, row_tile, row_warps, precision)


def _precision(device: torch.device) -> str:
    """Of float32 products, as `tl.dot` takes it; AMD's matrix units have no such splitting."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "tf32x3"
