"""SVG files as drawings, and drawings as SVG files that come back unchanged.

Taken are the outlines of path, line, polyline, polygon, rect, circle and ellipse, through groups,
nested svg, symbols and use, with all transforms and view boxes. Not taken is what is not displayed
(defs, clipPath, mask, marker, pattern, display: none), what nobody sees for want of a line (without
fill, as bounding boxes are, or white, as backgrounds are), text and images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.data.svg_outlines import polylines
from sketchrnn_fast.data.svg_tree import Tree
from sketchrnn_fast.data.svg_walk import Walk
from sketchrnn_fast.strokes import strokes_to_lines

MOST_BYTES = 1 << 22


def read(paths: list[Path], labels: list[str]) -> Chunk:
    """One drawing a file.

    Args:
        paths: the files.
        labels: the class of each.
    """
    lines: list[NDArray[np.float64]] = []
    counts, places, codes, problems = [], [], [], []
    names: dict[str, int] = {}
    for place, (path, label) in enumerate(zip(paths, labels, strict=True)):
        try:
            found = read_lines(_content(path))
        except DatasetError as error:
            problems.append(Problem(place, str(error)))
            continue
        lines += found
        counts.append(len(found))
        places.append(place)
        codes.append(names.setdefault(label, len(names)))
    points = np.concatenate(lines) if lines else np.zeros((0, 2))
    drawings = Lines(
        points,
        np.array([len(line) for line in lines], np.int64),
        np.array(counts, np.int64),
    )
    return Chunk(
        drawings,
        np.array(places, np.int64),
        np.array(codes, np.int32),
        tuple(names),
        np.ones(len(places), np.bool_),
        len(paths),
        problems,
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise DatasetError(f"cannot be read: {error.strerror or error}") from None


def read_lines(content: bytes) -> list[NDArray[np.float64]]:
    """The outlines of an SVG document as absolute polylines, float64 `[n, 2]`, at least one.

    Raises:
        DatasetError: it is no SVG, draws nothing, is larger than `MOST_BYTES`, declares entities,
            nests or repeats itself beyond bounds, or has numbers that are none.
    """
    if len(content) > MOST_BYTES:
        raise DatasetError(f"is larger than {MOST_BYTES} bytes")
    root = Tree(content).root
    if root is None or root.tag != "svg":
        raise DatasetError(f"is no SVG: its root is {root.tag[:40] if root else 'missing'}")
    lines = polylines(Walk(root).segments)
    if not lines:
        raise DatasetError("draws nothing: it has no path, line, polyline, polygon or shape to see")
    for line in lines:
        if not (np.abs(line) <= MOST_COORDINATE).all():
            raise DatasetError(f"has coordinates outside of ±{MOST_COORDINATE:.0f}")
    return lines


def sketch_to_svg(sketch: ArrayLike) -> str:
    """A stroke-3 sketch as an SVG document in its own coordinates, y down.

    `read_lines` gives `strokes_to_lines(sketch)` again, to the last digit. Points after the last
    lift are left out, as there.
    """
    lines = strokes_to_lines(sketch)
    points = np.concatenate(lines) if lines else np.zeros((1, 2))
    low, high = points.min(axis=0) - 5, points.max(axis=0) + 5
    box = " ".join(_text(value) for value in (*low, *(high - low)))
    # A line of one point is a path that closes at once: with round caps, a dot.
    data = "".join(
        "M" + "L".join(f"{_text(x)} {_text(y)}" for x, y in line) + ("z" if len(line) == 1 else "")
        for line in lines
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">\n<path d="{data}" fill="none" '
        'stroke="black" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>\n</svg>\n'
    )


def _text(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
