"""The elements of an SVG document, and a walk through those that are displayed.

expat reads the tree, with everything bounded: no entities, so many bytes, elements and levels, and
so many elements again after `use` has copied them. svgelements reads what stands in attributes:
path data, transforms, lengths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.svg_outlines import MOST_POINTS, Segment, parsed, segments

MOST_ELEMENTS = 50_000
MOST_LEVELS = 100

_CONTAINERS = {"svg", "g", "a", "switch", "symbol"}
_SHAPES = {
    "line": ("x1", "y1", "x2", "y2"),
    "rect": ("x", "y", "width", "height", "rx", "ry"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NEXT_NUMBER = re.compile(rf"[\s,]*({_NUMBER})")
_LENGTH = re.compile(rf"\s*{_NUMBER}\s*(px|pt|pc|cm|mm|in)?\s*$")
_PERCENT = re.compile(rf"\s*({_NUMBER})%\s*$")
_TRANSFORMS = re.compile(
    r"\s*(?:(?:matrix|translate|scale|rotate|skewX|skewY)\s*\([-+\d.eE\s,]+\)[\s,]*)*"
)
_STYLE = re.compile(r"(?:^|;)\s*(fill|stroke)\s*:\s*([^;]{1,40})")
_WHITE = {"white", "#fff", "#ffffff", "rgb(255,255,255)"}
_CLEAR = {"none", "transparent"}
_HIDDEN = re.compile(r"(^|;)\s*(display\s*:\s*none|visibility\s*:\s*hidden)")

# --------------------------------------------------------------------------------------------
# The tree


@dataclass(eq=False)
class Element:
    """Names without namespaces."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)


class Tree:
    """The elements of a document, without text and comments.

    Attributes:
        root: the outermost element.

    Raises:
        DatasetError: it is no XML, declares entities, or has too many elements or levels.
    """

    def __init__(self, content: bytes) -> None:
        self.root: Element | None = None
        self._open: list[Element] = []
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
        element = Element(name.rpartition(":")[2], plain)
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


# --------------------------------------------------------------------------------------------
# The walk

_Size = tuple[float, float]


@dataclass(frozen=True)
class _Paint:
    """What a shape is painted with, so far as it tells what nobody sees.

    Attributes:
        fill, stroke: colours, as they are written.
        has_styles: classes may paint what attributes do not.
    """

    fill: str = "black"
    stroke: str = "none"
    has_styles: bool = False

    def inherited(self, attributes: dict[str, str]) -> _Paint:
        """The paint of an element within."""
        given = {**attributes, **dict(_STYLE.findall(attributes.get("style", "")))}
        return _Paint(
            given.get("fill", self.fill).strip(),
            given.get("stroke", self.stroke).strip(),
            self.has_styles or "class" in attributes,
        )

    @property
    def is_invisible(self) -> bool:
        """Without a line, and without fill, as bounding boxes are, or white, as backgrounds are."""
        if self.stroke not in _CLEAR:
            return False
        fill = self.fill.replace(" ", "").lower()
        return fill in _WHITE or (fill in _CLEAR and not self.has_styles)


class Walk:
    """The displayed shapes of a tree.

    Attributes:
        segments: theirs, transformed, in the order in which they are drawn.

    Raises:
        DatasetError: elements repeat or nest without end, or have numbers that are none.
    """

    def __init__(self, root: Element) -> None:
        from svgelements import Matrix

        self.segments: list[Segment] = []
        self._points = 0
        self._visited = 0
        self._by_id = {
            element.attributes["id"]: element
            for element in _descendants(root)
            if "id" in element.attributes
        }
        paint = _Paint(has_styles=any(element.tag == "style" for element in _descendants(root)))
        self._visit(root, Matrix(), paint, _size_of_root(root), 0)

    def _visit(
        self, element: Element, matrix: Any, paint: _Paint, size: _Size | None, level: int
    ) -> None:
        """Walk through an element.

        Args:
            element: with attributes that it has from `use` already.
            matrix: from the coordinates around it to those of the document.
            paint: of what is around it.
            size: of the nearest viewport around it, in its coordinates, where it is known.
            level: how deep it stands.
        """
        self._visited += 1
        if self._visited > MOST_ELEMENTS:
            raise DatasetError(f"becomes more than {MOST_ELEMENTS} elements by its use elements")
        if level > MOST_LEVELS:
            raise DatasetError("has a use element that uses itself, or nests too deeply")
        attributes = element.attributes
        if _is_hidden(attributes):
            return
        paint = paint.inherited(attributes)
        if element.tag in _CONTAINERS:
            inner = _transformed(attributes, matrix)
            if element.tag in ("svg", "symbol") and level > 0:
                inner, size = _viewport(element, inner, size)
            for child in element.children:
                if child.tag != "symbol":  # it is there to be used
                    self._visit(child, inner, paint, size, level + 1)
        elif element.tag == "use":
            target = self._by_id.get(attributes.get("href", "").removeprefix("#"))
            if target is not None:
                inner = _moved(element, _transformed(attributes, matrix), size)
                self._visit(_used(target, attributes), inner, paint, size, level + 1)
        elif not paint.is_invisible:
            outline = _outline(element, size)
            if outline is not None:
                self._take(outline, _transformed(attributes, matrix))

    def _take(self, outline: Any, matrix: Any) -> None:
        for segment in outline:
            for taken in segments(segment, matrix):
                self.segments.append(taken)
                self._points += len(taken.points)
        if self._points > MOST_POINTS:
            raise DatasetError(f"has more than {MOST_POINTS} points")


def _descendants(root: Element) -> Iterator[Element]:
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


def _used(target: Element, use: dict[str, str]) -> Element:
    """What a use element draws: its width and height are those of a viewport that it uses."""
    if target.tag not in ("svg", "symbol"):
        return target
    sides = {name: text for name, text in use.items() if name in ("width", "height")}
    return Element(target.tag, {**target.attributes, **sides}, target.children)


# --------------------------------------------------------------------------------------------
# Coordinates


def _transformed(attributes: dict[str, str], matrix: Any) -> Any:
    from svgelements import Matrix

    text = attributes.get("transform", "none").strip()
    if text in ("", "none"):
        return matrix
    if not _TRANSFORMS.fullmatch(text):
        raise DatasetError(f"has a transform that cannot be read: {text[:60]!r}")
    # In a product of svgelements' the left matrix acts first.
    return parsed("transform", text, lambda: Matrix(text) * matrix)


def _moved(element: Element, matrix: Any, size: _Size | None) -> Any:
    from svgelements import Matrix

    x, y = (_length(element, name, size) for name in ("x", "y"))
    return Matrix.translate(x, y) * matrix if x or y else matrix


def _size_of_root(root: Element) -> _Size | None:
    """The size of the document in its own coordinates, if it says so."""
    try:
        box = _view_box(root)
    except DatasetError:  # only what is placed by it would need it
        box = None
    if box is not None:
        return box[2:]
    texts = [root.attributes.get(side, "") for side in ("width", "height")]
    if not all(map(_LENGTH.match, texts)):
        return None
    return _length(root, "width"), _length(root, "height")


def _viewport(element: Element, matrix: Any, around: _Size | None) -> tuple[Any, _Size | None]:
    """Into a nested svg or a symbol: its matrix, and its size, in coordinates of its own.

    The view box is fitted into the viewport as preserveAspectRatio wants it, and not clipped.
    """
    from svgelements import Matrix, Viewbox

    box = _view_box(element)
    sides = []
    for name in ("width", "height"):
        text = element.attributes.get(name, "auto")
        is_part = text == "auto" or _PERCENT.match(text)
        # Parts of what is not known are not known, but where there is a view box.
        sides.append(None if is_part and around is None else _length(element, name, around, "100%"))
    width, height = sides
    if box is None:
        size = None if width is None or height is None else (width, height)
        return _moved(element, matrix, around), size
    x, y = (_length(element, name, around) for name in ("x", "y"))
    aspect = element.attributes.get("preserveAspectRatio")
    fitted = Viewbox.viewbox_transform(
        x, y, width or box[2], height or box[3], *box, aspect and " ".join(aspect.split())
    )
    return Matrix(fitted) * matrix, box[2:]


def _view_box(element: Element) -> tuple[float, float, float, float] | None:
    text = element.attributes.get("viewBox")
    if text is None:
        return None
    box = _numbers(text)
    if box is None or len(box) != 4 or not min(box[2:]) > 0:
        raise DatasetError(
            f"has the viewBox {text[:60]!r}; it is x, y, width and height, the last two above 0"
        )
    return box[0], box[1], box[2], box[3]


def _length(
    element: Element, name: str, around: _Size | None = None, otherwise: str = "0"
) -> float:
    """A length that an attribute gives; per cent are of the viewport around it, if that is known.

    Raises:
        DatasetError: it gives none.
    """
    from svgelements import Length

    text = element.attributes.get(name, "auto").strip()
    text = otherwise if text == "auto" else text
    percent = _PERCENT.match(text)
    if percent and around is not None:
        width, height = around
        is_wide = "x" in name or name == "width"
        whole = math.hypot(*around) / math.sqrt(2) if name == "r" else width if is_wide else height
        return whole * float(percent[1]) / 100
    if not _LENGTH.match(text):
        raise DatasetError(
            f"has {name}={text[:20]!r}, which cannot be read: a length is a number, with px, pt, "
            "pc, cm, mm, in, nothing, or where the drawing has a size, % after it"
        )
    return float(parsed(name, text, lambda: Length(text).value(ppi=96)))


def _numbers(text: str) -> list[float] | None:
    """Numbers between blanks and commas, or None if there is anything else."""
    found, end = [], 0
    while match := _NEXT_NUMBER.match(text, end):
        found.append(float(match[1]))
        end = match.end()
    return None if text[end:].strip() else found


# --------------------------------------------------------------------------------------------
# Shapes


def _outline(element: Element, around: _Size | None) -> Any:
    """The segments of a shape, or None for an element that draws nothing here."""
    import svgelements

    attributes = element.attributes
    if element.tag == "path":
        data = attributes.get("d", "")
        return parsed("path", data, lambda: svgelements.Path(data))
    if element.tag in ("polyline", "polygon"):
        numbers = _numbers(attributes.get("points", ""))
        if numbers is None or len(numbers) % 2:
            raise DatasetError(
                f"has a {element.tag} whose points are not pairs of numbers: "
                f"{attributes['points'][:60]!r}"
            )
        of_lines = svgelements.Polyline if element.tag == "polyline" else svgelements.Polygon
        return svgelements.Path(of_lines(*zip(numbers[::2], numbers[1::2], strict=True)))
    if element.tag in _SHAPES:
        lengths = {
            name: _length(element, name, around)
            for name in _SHAPES[element.tag]
            if name in attributes
        }
        if element.tag == "line":
            x1, y1, x2, y2 = (lengths.get(name, 0.0) for name in _SHAPES["line"])
            return svgelements.Path(
                svgelements.Move((x1, y1)), svgelements.Line((x1, y1), (x2, y2))
            )
        shape = getattr(svgelements, element.tag.capitalize())
        return parsed(element.tag, attributes, lambda: svgelements.Path(shape(**lengths)))
    return None
