"""Writing what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from sketchrnn_fast.cli.options import OutputOptions
from sketchrnn_fast.data import write_sketches
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import check_can_write
from sketchrnn_fast.render import write_grid

SUFFIXES = (".svg", ".png", ".npz")


def output_paths(output: OutputOptions, default: str) -> list[Path]:
    """The files to write, refused before any work where they cannot be written.

    Raises:
        UserError: a suffix is unknown, a path is a folder or in none, or one is given twice.
    """
    paths = output.out or [Path(default)]
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(
                f"{path} ends in {path.suffix or 'no suffix'}; drawings are written as .svg, .png "
                "or .npz"
            )
        check_can_write(path)
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("out names one file twice")
    return paths


def write_drawings(
    sketches: Sequence[NDArray[Any]],
    paths: Sequence[Path],
    *,
    columns: int | None,
    pictured: Sequence[NDArray[Any]] | None = None,
) -> None:
    """Write the sketches to each file, and say so.

    Args:
        sketches: stroke-3 in data units.
        columns: of the grid; about as many as rows if None.
        pictured: what a grid shows instead.
    """
    shown = sketches if pictured is None else pictured
    for path in paths:
        if path.suffix.lower() == ".npz":
            write_sketches(path, sketches)
        else:
            write_grid(shown, path, columns=None if columns is None else min(columns, len(shown)))
    mean = np.mean([len(sketch) for sketch in sketches])
    names = ", ".join(map(str, paths))
    typer.echo(f"{len(sketches)} sketches of {mean:.0f} points on average: {names}")
