"""SVG files as drawings, and drawings as SVG files that come back unchanged.

The tree is read here, by expat, with everything bounded: no entities, so many bytes, elements and
levels, and so many elements again after `use` has copied them. svgelements reads what stands in
attributes: path data, transforms, lengths. Taken are the outlines of path, line, polyline, polygon,
rect, circle and ellipse, through groups, nested svg and use, with all transforms; what is not
displayed (defs, symbol, clipPath, mask, marker, pattern, display: none), what is white without a
line, as backgrounds are, text and images are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.strokes import strokes_to_lines

MOST_BYTES = 1 << 22
MOST_ELEMENTS = 50_000
MOST_LEVELS = 100
MOST_POINTS = 1 << 20

# A curve becomes points this part of the drawing's longer side apart, at most so many.
_CURVE_STEP = 1 / 255
_MOST_CURVE_POINTS = 256

_CONTAINERS = {"svg", "g", "a", "switch"}
_SHAPES = {
    "line": ("x1", "y1", "x2", "y2"),
    "rect": ("x", "y", "width", "height", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_LENGTH = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*(px|pt|pc|cm|mm|in)?\s*$")
_STYLE = re.compile(r"(?:^|;)\s*(fill|stroke)\s*:\s*([^;]{1,40})")
_WHITE = {"white", "#fff", "#ffffff", "rgb(255,255,255)"}
_HIDDEN = re.compile(r"(^|;)\s*(display\s*:\s*none|visibility\s*:\s*hidden)")


# --------------------------------------------------------------------------------------------
# Files


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
    root = _Tree(content).root
    if root is None or root.tag != "svg":
        raise DatasetError(f"is no SVG: its root is {root.tag[:40] if root else 'missing'}")
    walk = _Walk(root)
    lines = _polylines(walk.segments)
    if not lines:
        raise DatasetError("draws nothing: it has no path, line, polyline, polygon or shape")
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


# --------------------------------------------------------------------------------------------
# The tree


@dataclass(eq=False)
class _Element:
    tag: str
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)


class _Tree:
    """The elements of a document, without text, comments and namespaces."""

    def __init__(self, content: bytes) -> None:
        self.root: _Element | None = None
        self._open: list[_Element] = []
        self._count = 0
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.EntityDeclHandler = self._entity
        try:
            parser.Parse(content, True)
        except DatasetError:
            raise
        except expat.ExpatError as error:
            raise DatasetError(f"is no XML: {error}") from None
        except (LookupError, ValueError):
            raise DatasetError("is in an encoding that cannot be read") from None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MOST_ELEMENTS:
            raise DatasetError(f"has more than {MOST_ELEMENTS} elements")
        if len(self._open) >= MOST_LEVELS:
            raise DatasetError(f"has elements nested more than {MOST_LEVELS} deep")
        plain = {key.rpartition(":")[2]: value for key, value in attributes.items()}
        element = _Element(name.rpartition(":")[2], plain)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, name: str) -> None:
        self._open.pop()

    def _entity(self, *declaration: Any) -> None:
        raise DatasetError(
            f"declares the entity {str(declaration[0])[:40]}; drawings need none, refused"
        )


class _Walk:
    """The displayed shapes of a tree as transformed segments."""

    def __init__(self, root: _Element) -> None:
        from svgelements import Matrix

        self.segments: list[_Segment] = []
        self._points = 0
        self._visited = 0
        self._by_id = {
            element.attributes["id"]: element
            for element in _descendants(root)
            if "id" in element.attributes
        }
        self._visit(root, Matrix(), _Paint(), 0)

    def _visit(self, element: _Element, matrix: Any, paint: _Paint, level: int) -> None:
        self._visited += 1
        if self._visited > MOST_ELEMENTS:
            raise DatasetError(f"becomes more than {MOST_ELEMENTS} elements by its use elements")
        if level > MOST_LEVELS:
            raise DatasetError("has a use element that uses itself, or nests too deeply")
        attributes = element.attributes
        if _is_hidden(attributes):
            return
        tag = element.tag
        paint = paint.inherited(attributes)
        if tag in _CONTAINERS:
            is_moved = tag == "svg" and level > 0
            inner = _moved(element, matrix) if is_moved else _transformed(attributes, matrix)
            for child in element.children:
                self._visit(child, inner, paint, level + 1)
        elif tag == "use":
            target = self._by_id.get(attributes.get("href", "").removeprefix("#"))
            if target is not None:
                inner = _moved(element, _transformed(attributes, matrix))
                if target.tag == "symbol":
                    target = _Element("g", target.attributes, target.children)
                self._visit(target, inner, paint, level + 1)
        elif not paint.is_white_only:
            outline = _outline(element)
            if outline is not None:
                self._take(outline, _transformed(attributes, matrix))

    def _take(self, outline: Any, matrix: Any) -> None:
        for segment in outline:
            for taken in _segments(segment, matrix):
                self.segments.append(taken)
                self._points += len(taken.points)
        if self._points > MOST_POINTS:
            raise DatasetError(f"has more than {MOST_POINTS} points")


@dataclass(frozen=True)
class _Paint:
    """What a shape is painted with, so far as it tells a background: white, without a line."""

    fill: str = "black"
    stroke: str = "none"

    def inherited(self, attributes: dict[str, str]) -> _Paint:
        """The paint of an element within."""
        given = {**attributes, **dict(_STYLE.findall(attributes.get("style", "")))}
        return _Paint(given.get("fill", self.fill), given.get("stroke", self.stroke))

    @property
    def is_white_only(self) -> bool:
        return self.stroke == "none" and self.fill.replace(" ", "").lower() in _WHITE


def _descendants(root: _Element) -> Iterator[_Element]:
    waiting = [root]
    while waiting:
        element = waiting.pop()
        yield element
        waiting.extend(reversed(element.children))


def _is_hidden(attributes: dict[str, str]) -> bool:
    return (
        attributes.get("display") == "none"
        or attributes.get("visibility") == "hidden"
        or bool(_HIDDEN.search(attributes.get("style", "")))
    )


# --------------------------------------------------------------------------------------------
# What svgelements reads: attributes


def _parsed(kind: str, text: object, parse: Any) -> Any:
    try:
        return parse()
    except Exception:  # what svgelements raises depends on the text
        raise DatasetError(f"has a {kind} that cannot be read: {str(text)[:60]!r}") from None


def _transformed(attributes: dict[str, str], matrix: Any) -> Any:
    from svgelements import Matrix

    text = attributes.get("transform")
    if not text:
        return matrix
    # In a product of svgelements' the left matrix acts first.
    return _parsed("transform", text, lambda: Matrix(text) * matrix)


def _moved(element: _Element, matrix: Any) -> Any:
    from svgelements import Matrix

    x, y = (_length(element, name) for name in ("x", "y"))
    return Matrix.translate(x, y) * matrix if x or y else matrix


def _length(element: _Element, name: str) -> float:
    from svgelements import Length

    text = element.attributes.get(name, "0")
    if not _LENGTH.match(text):
        raise DatasetError(
            f"has {name}={text[:20]!r}, which cannot be read: a length is a number, with px, pt, "
            "pc, cm, mm, in or nothing after it"
        )
    return float(_parsed(name, text, lambda: Length(text).value(ppi=96)))


def _outline(element: _Element) -> Any:
    """The segments of a shape, or None for an element that draws nothing here."""
    import svgelements

    attributes = element.attributes
    if element.tag == "path":
        data = attributes.get("d", "")
        return _parsed("path", data, lambda: svgelements.Path(data))
    if element.tag in ("polyline", "polygon"):
        points = attributes.get("points", "")
        of_lines = svgelements.Polyline if element.tag == "polyline" else svgelements.Polygon
        return _parsed("points", points, lambda: svgelements.Path(of_lines(points)))
    if element.tag in _SHAPES:
        numbers = {
            name: _length(element, name) for name in _SHAPES[element.tag] if name in attributes
        }
        if element.tag == "line":
            x1, y1, x2, y2 = (numbers.get(name, 0.0) for name in _SHAPES["line"])
            return svgelements.Path(
                svgelements.Move((x1, y1)), svgelements.Line((x1, y1), (x2, y2))
            )
        shape = getattr(svgelements, element.tag.capitalize())
        return _parsed(element.tag, attributes, lambda: svgelements.Path(shape(**numbers)))
    return None


# --------------------------------------------------------------------------------------------
# Geometry


@dataclass(frozen=True, eq=False)
class _Segment:
    """A move (one point), a line (2), or a Bézier curve of degree 2 or 3 (3 or 4), float64."""

    points: NDArray[np.float64]
    closes: bool = False


def _segments(segment: Any, matrix: Any) -> list[_Segment]:
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
        curves = _parsed("arc", segment, lambda: list(segment.as_cubic_curves()))
        return [taken for curve in curves for taken in _segments(curve, matrix)]
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
    return [_Segment(array, closes=kind == "Close")]


def _polylines(segments: list[_Segment]) -> list[NDArray[np.float64]]:
    """Join segments that follow each other; curves become points."""
    if not segments:
        return []
    corners = np.concatenate([segment.points for segment in segments])
    if not (np.abs(corners) <= MOST_COORDINATE).all():
        raise DatasetError(f"has coordinates outside of ±{MOST_COORDINATE:.0f}")
    step = float(np.ptp(corners, axis=0).max()) * _CURVE_STEP
    lines: list[list[NDArray[np.float64]]] = []
    dots = set()
    total = 0
    for segment in segments:
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
