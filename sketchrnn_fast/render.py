"""Drawings and loss curves as pictures: SVG as text, PNG through matplotlib.

A sketch is stroke-3 `[N, 3]` (see `strokes.py`), y down. Its first offset is a move: what is drawn
begins at the first point. Each drawing is scaled uniformly to fill its cell but for a margin, so
the units of its offsets do not matter. Files appear whole or not at all.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARGIN = 0.1  # of a cell, on each side
_CURVES = ("cost", "reconstruction", "kl")


class RenderError(UserError):
    """A drawing or a file name cannot be made into a picture; the message says why."""


# --------------------------------------------------------------------------------------------
# SVG


def svg(sketch: ArrayLike, *, size: float = 200.0, line_width: float = 2.0) -> str:
    """One sketch as an SVG document of `size` × `size` pixels.

    Raises:
        RenderError: the sketch is not `[N, 3]`, or has a value that is not finite.
    """
    return svg_grid([sketch], columns=1, cell=size, line_width=line_width)


def svg_grid(
    sketches: Sequence[ArrayLike],
    *,
    columns: int | None = None,
    cell: float = 100.0,
    line_width: float = 1.5,
) -> str:
    """Sketches as one SVG document, row by row, each in a cell of `cell` × `cell` pixels.

    `columns` is the least that makes the grid no higher than wide, unless given. An empty sketch
    leaves its cell empty.

    Raises:
        RenderError: a sketch is not `[N, 3]`, or has a value that is not finite.
    """
    columns, rows = _grid(len(sketches), columns)
    width, height = _number(columns * cell), _number(rows * cell)
    paths = []
    for index, sketch in enumerate(sketches):
        left, top = index % columns * cell, index // columns * cell
        data = "".join(map(_path, _fit(_lines(sketch, index), left, top, cell)))
        if data:
            paths.append(f'<path d="{data}"/>\n')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<g fill="none" stroke="black" stroke-width="{_number(line_width)}" '
        'stroke-linecap="round" stroke-linejoin="round">\n' + "".join(paths) + "</g>\n</svg>\n"
    )


def _path(line: NDArray[np.float64]) -> str:
    """A polyline as path data; a line of one point as a dot, which round caps make visible."""
    data = "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in line)
    return data if len(line) > 1 else f"{data}h0"


def _number(value: float) -> str:
    """Two decimals at most, no trailing zeros."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# --------------------------------------------------------------------------------------------
# PNG


def png_grid(
    sketches: Sequence[ArrayLike],
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    cell: int = 100,
    line_width: float = 1.5,
) -> None:
    """Write sketches as a PNG, laid out as `svg_grid` does; `cell` in pixels.

    Raises:
        RenderError: a sketch is not `[N, 3]`, or has a value that is not finite.
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    columns, rows = _grid(len(sketches), columns)
    figure = Figure(figsize=(columns * cell / 100, rows * cell / 100), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, columns * cell)
    axes.set_ylim(rows * cell, 0)
    dot = np.array([[0.0, 0.0], [0.5, 0.0]])  # Agg draws no line of length 0
    lines = [
        line if len(line) > 1 else line + dot
        for index, sketch in enumerate(sketches)
        for line in _fit(
            _lines(sketch, index), index % columns * cell, index // columns * cell, cell
        )
    ]
    points = line_width * 72 / 100  # matplotlib counts in 1/72 inch
    axes.add_collection(
        LineCollection(lines, colors="black", linewidths=points, capstyle="round"), autolim=False
    )
    _save(figure, Path(path), "png")


def write_grid(
    sketches: Sequence[ArrayLike], path: str | os.PathLike[str], *, columns: int | None = None
) -> None:
    """Write sketches as a grid, in the form that the file's suffix names: .svg or .png.

    Raises:
        RenderError: the suffix is another, a sketch is not `[N, 3]`, or has a value that is not
            finite.
        OSError: the file cannot be written.
    """
    if check_grid_path(path) == "svg":
        write_atomically(path, svg_grid(sketches, columns=columns).encode())
    else:
        png_grid(sketches, path, columns=columns)


# --------------------------------------------------------------------------------------------
# Loss curves


def loss_curves(
    metrics: str | os.PathLike[str] | Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
    """Draw cost, reconstruction and KL of the train and valid splits over the steps.

    Args:
        metrics: a `metrics.jsonl`, or its records: step, split, cost, reconstruction, kl.
        path: a .png or .svg.

    Raises:
        RenderError: the suffix is another, a line is not a record, or there is no record.
        OSError: a file cannot be read or written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture_format = check_grid_path(path)
    records = _records(metrics)
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, curve in zip(figure.subplots(1, len(_CURVES)), _CURVES, strict=True):
        for split, colour, marker in (("train", "tab:blue", ""), ("valid", "tab:orange", "o")):
            points = [(r["step"], r[curve]) for r in records if r["split"] == split]
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(
                    steps, values, color=colour, label=split, lw=1.2, marker=marker, markersize=3
                )
        axes.set_title(curve)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
    _save(figure, Path(path), picture_format)


def _records(
    metrics: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    name = "the metrics"
    records: list[Any]
    if isinstance(metrics, str | os.PathLike):
        name = str(metrics)
        lines = Path(metrics).read_text(encoding="utf-8").splitlines()
        try:
            records = [json.loads(line) for line in lines if line.strip()]
        except json.JSONDecodeError as error:
            raise RenderError(f"{name} has a line that is not JSON: {error}") from None
    else:
        records = list(metrics)
    for index, record in enumerate(records):
        missing = {"step", "split", *_CURVES} - set(record)
        if missing:
            raise RenderError(f"{name}, record {index} lacks {', '.join(sorted(missing))}")
    if not any(record["split"] in ("train", "valid") for record in records):
        raise RenderError(f"{name} has no record of train or valid; there is nothing to draw")
    return records


# --------------------------------------------------------------------------------------------
# Geometry and files


def _lines(sketch: ArrayLike, index: int) -> list[NDArray[np.float64]]:
    """Absolute polylines, a last one without a lift included."""
    points = np.asarray(sketch, np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise RenderError(
            f"sketch {index} has shape {list(points.shape)}; a sketch has shape [points, 3]"
        )
    if not np.isfinite(points).all():
        raise RenderError(f"sketch {index} has a value that is not finite; it cannot be drawn")
    positions = np.cumsum(points[:, :2], axis=0)
    lines = np.split(positions, np.flatnonzero(points[:, 2] > 0.5) + 1)
    return [line for line in lines if len(line)]


def _fit(
    lines: Sequence[NDArray[np.float64]], left: float, top: float, cell: float
) -> list[NDArray[np.float64]]:
    """Move and scale lines to the middle of a cell, its margin left free."""
    if not lines:
        return []
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    scale = cell * (1 - 2 * _MARGIN) / extent if extent > 0 else 1.0
    centre = np.array([left + cell / 2, top + cell / 2])
    return [(line - (low + high) / 2) * scale + centre for line in lines]


def _grid(count: int, columns: int | None) -> tuple[int, int]:
    if columns is None:
        columns = max(1, math.ceil(math.sqrt(count)))
    if columns < 1:
        raise RenderError(f"columns is {columns}; a grid has at least one")
    return columns, max(1, math.ceil(count / columns))


def check_grid_path(path: str | os.PathLike[str]) -> str:
    """The form that a picture's suffix names: `svg` or `png`.

    Raises:
        RenderError: the suffix is another.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".svg", ".png"):
        raise RenderError(f"{path} ends in {suffix or 'no suffix'}; a picture is .svg or .png")
    return suffix[1:]


def _save(figure: Figure, path: Path, picture_format: str) -> None:
    content = io.BytesIO()
    metadata = {"Date": None} if picture_format == "svg" else None
    figure.savefig(content, format=picture_format, metadata=metadata)
    write_atomically(path, content.getvalue())
