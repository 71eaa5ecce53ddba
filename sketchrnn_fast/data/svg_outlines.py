"""The outlines of SVG shapes: segments as svgelements reads them, transformed, and as polylines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.data.chunks import MOST_COORDINATE
from sketchrnn_fast.data.errors import DatasetError

MOST_POINTS = 1 << 20

# A curve becomes points this part of the drawing's longer side apart, at most so many.
_CURVE_STEP = 1 / 255
_MOST_CURVE_POINTS = 256


def parsed(kind: str, text: object, parse: Callable[[], Any]) -> Any:
    """What svgelements makes of a text.

    Raises:
        DatasetError: it makes nothing of it.
    """
    try:
        return parse()
    except Exception:  # what svgelements raises depends on the text
        raise DatasetError(f"has a {kind} that cannot be read: {str(text)[:60]!r}") from None


@dataclass(frozen=True, eq=False)
class Segment:
    """A move (one point), a line (2), or a Bézier curve of degree 2 or 3 (3 or 4), float64."""

    points: NDArray[np.float64]
    closes: bool = False


def segments(segment: Any, matrix: Any) -> list[Segment]:
    """A segment of svgelements' and a matrix as segments of ours, none or several.

    Raises:
        DatasetError: it has numbers that are none, or no begin.
    """
    kind = type(segment).__name__
    if kind == "Move":
        points = [segment.end]
    elif kind in ("Line", "Close"):
        if segment.end is None or segment.start is None:
            return []
        points = [segment.start, segment.end]
    elif kind == "QuadraticBezier":
        points = [segment.start, segment.control, segment.end]
    elif kind == "CubicBezier":
        points = [segment.start, segment.control1, segment.control2, segment.end]
    elif kind == "Arc":
        curves = parsed("arc", segment, lambda: list(segment.as_cubic_curves()))
        if curves:
            return [taken for curve in curves for taken in segments(curve, matrix)]
        if segment.start == segment.end:
            return []
        points = [segment.start, segment.end]  # an arc without radius is a line
    else:
        raise DatasetError(f"has a segment of the kind {kind}, which is not known")
    if any(point is None for point in points):
        raise DatasetError("has a path that begins without a move")
    array = np.array([(point.x, point.y) for point in points], np.float64)
    if not np.isfinite(array).all():
        raise DatasetError("has numbers that are not finite")
    if not matrix.is_identity():
        a, b, c, d, e, f = (getattr(matrix, name) for name in "abcdef")
        with np.errstate(over="ignore", invalid="ignore"):
            array = array @ np.array([[a, b], [c, d]]) + np.array([e, f])
    return [Segment(array, closes=kind == "Close")]


def polylines(found: list[Segment]) -> list[NDArray[np.float64]]:
    """Join segments that follow each other; curves become points.

    Returns:
        absolute lines, float64 `[n, 2]`, a closed one with its first point again at the end.

    Raises:
        DatasetError: coordinates or points are beyond bounds.
    """
    if not found:
        return []
    corners = np.concatenate([segment.points for segment in found])
    if not (np.abs(corners) <= MOST_COORDINATE).all():
        raise DatasetError(f"has coordinates outside of ±{MOST_COORDINATE:.0f}")
    step = float(np.ptp(corners, axis=0).max()) * _CURVE_STEP
    lines: list[list[NDArray[np.float64]]] = []
    dots = set()
    total = 0
    for segment in found:
        points = segment.points
        if len(points) == 1:
            lines.append([points])
            continue
        if not lines or not np.array_equal(lines[-1][-1][-1], points[0]):
            lines.append([points[:1]])
        if segment.closes and np.array_equal(points[0], points[1]):
            dots.add(len(lines) - 1)  # if nothing else was drawn; a closed line gets no point
            continue
        made = points[1:] if len(points) == 2 else _curve(points, step)
        lines[-1].append(made)
        total += len(made)
        if total > MOST_POINTS:
            raise DatasetError(f"has more than {MOST_POINTS} points")
    joined = [np.concatenate(line) for line in lines]
    # A move that only another move follows draws nothing.
    return [line for k, line in enumerate(joined) if len(line) > 1 or k in dots]


def _curve(points: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Points of a Bézier curve after its first."""
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    count = int(np.clip(np.ceil(length / step) if step > 0 else 1, 1, _MOST_CURVE_POINTS))
    t = (np.arange(1, count + 1) / count)[:, None]
    made = points[None, :, :].repeat(count, axis=0)
    for _ in range(len(points) - 1):  # de Casteljau
        made = made[:, :-1] * (1 - t)[:, None] + made[:, 1:] * t[:, None]
    made[-1, 0] = points[-1]
    curve: NDArray[np.float64] = made[:, 0]
    return curve
