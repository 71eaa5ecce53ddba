"""The elements of an SVG document, and a walk through those that are displayed.

expat reads the tree, with everything bounded: no entities, so many bytes, elements and levels, and
so many elements again after `use` has copied them. svgelements reads what stands in attributes:
path data, transforms, lengths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from xml.parsers import expat

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.svg_outlines import MOST_POINTS, Segment, parsed, segments

MOST_ELEMENTS = 50_000
MOST_LEVELS = 100

# Of the attributes that are read anew wherever `use` puts them.
MOST_TEXT = 4096

_CONTAINERS = {"svg", "g", "a", "switch", "symbol"}
_SHAPES = {"line", "rect", "circle", "ellipse", "path", "polyline", "polygon"}
_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NEXT_NUMBER = re.compile(rf"[\s,]*({_NUMBER})")
_LENGTH = re.compile(rf"{_NUMBER}\s*(px|pt|pc|cm|mm|in)?")
_PERCENT = re.compile(rf"({_NUMBER})%")
_TRANSFORM = re.compile(r"[\s,]*([a-zA-Z]+)\s*\(([^()]*)\)")
_NUMBERS_OF_TRANSFORMS = {
    "matrix": {6},
    "translate": {1, 2},
    "scale": {1, 2},
    "rotate": {1, 3},
    "skewX": {1},
    "skewY": {1},
}
_ASPECT = re.compile(r"(none|x(Min|Mid|Max)Y(Min|Mid|Max))(\s+(meet|slice))?")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
# svgelements looks for the begin of a subpath backwards through all that have no move of their own.
_CLOSES = re.compile(r"[zZ](?:[\s,]*[zZ])+")
_CLOSE_WITHOUT_MOVE = re.compile(r"[zZ](?=[\s,]*[LlHhVvCcSsQqTtAa])")
_WHITE = {"white", "#fff", "#ffffff", "rgb(255,255,255)"}
_CLEAR = {"none", "transparent", ""}

# --------------------------------------------------------------------------------------------
# The tree


@dataclass(eq=False)
class Element:
    """A tag without its namespace, and the attributes of SVG."""

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
        plain = {key: value for key, value in attributes.items() if ":" not in key}
        if "xlink:href" in attributes:
            plain.setdefault("href", attributes["xlink:href"])
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
    """How a shape is painted, so far as it tells what nobody sees.

    Attributes:
        fill, stroke, visibility: as they are written, in small letters.
        has_styles: classes may paint what attributes do not.
    """

    fill: str = "black"
    stroke: str = "none"
    visibility: str = "visible"
    has_styles: bool = False

    def inherited(self, given: dict[str, str]) -> _Paint:
        """The paint of an element within, which has these properties."""
        own = {
            name: given[name].strip().lower()
            for name in ("fill", "stroke", "visibility")
            if name in given
        }
        own = {name: value for name, value in own.items() if value != "inherit"}
        return replace(self, **own, has_styles=self.has_styles or "class" in given)

    @property
    def is_invisible(self) -> bool:
        """Without a line, and without fill, as bounding boxes are, or white, as backgrounds are."""
        if self.visibility in ("hidden", "collapse"):
            return True
        if self.stroke not in _CLEAR:
            return False
        fill = self.fill.replace(" ", "")
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
        self._outlines: dict[tuple[Element, _Size | None], Any] = {}
        self._by_id: dict[str, Element] = {}
        for element in _descendants(root):
            if "id" in element.attributes:
                self._by_id.setdefault(element.attributes["id"], element)
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
        given = _properties(element.attributes)
        if given.get("display", "").strip().lower() == "none":
            return
        paint = paint.inherited(given)
        if element.tag in _CONTAINERS:
            self._visit_within(element, _transformed(given, matrix), paint, size, level)
        elif element.tag == "use":
            reference = element.attributes.get("href", "")
            target = self._by_id.get(reference[1:]) if reference.startswith("#") else None
            if target is not None:
                inner = _moved(element, _transformed(given, matrix), size)
                self._visit(_used(target, element.attributes), inner, paint, size, level + 1)
        elif element.tag in _SHAPES and not paint.is_invisible:
            if (element, size) not in self._outlines:
                self._outlines[element, size] = _outline(element, size)
            self._take(self._outlines[element, size], _transformed(given, matrix))

    def _visit_within(
        self, element: Element, matrix: Any, paint: _Paint, size: _Size | None, level: int
    ) -> None:
        if element.tag in ("svg", "symbol") and level > 0:
            fitted = _viewport(element, matrix, size)
            if fitted is None:
                return
            matrix, size = fitted
        children = element.children
        if element.tag == "switch":
            children = [child for child in children if _applies(child)][:1]
        for child in children:
            if child.tag != "symbol":  # it is there to be used
                self._visit(child, matrix, paint, size, level + 1)

    def _take(self, outline: Any, matrix: Any) -> None:
        for segment in outline:
            self._points += 1
            for taken in segments(segment, matrix):
                self.segments.append(taken)
                self._points += len(taken.points) - 1
            if self._points > MOST_POINTS:
                raise DatasetError(f"has more than {MOST_POINTS} points")


def _descendants(root: Element) -> Iterator[Element]:
    waiting = [root]
    while waiting:
        element = waiting.pop()
        yield element
        waiting.extend(reversed(element.children))


def _properties(attributes: dict[str, str]) -> dict[str, str]:
    """The attributes of an element, and before them what its style says."""
    style = _limited(attributes, "style", "")
    if not style:
        return attributes
    given = dict(attributes)
    for declaration in _COMMENT.sub("", style).split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip().lower(), value.replace("!important", "").strip()
        if name == "transform" and value not in ("", "none"):
            raise DatasetError(f"has a transform in a style, which is not read: {value[:60]!r}")
        if name in ("display", "visibility", "fill", "stroke"):
            given[name] = value
    return given


def _limited(attributes: dict[str, str], name: str, otherwise: str) -> str:
    text = attributes.get(name, otherwise).strip()
    if len(text) > MOST_TEXT:
        raise DatasetError(f"has a {name} of {len(text)} characters; at most {MOST_TEXT} are read")
    return text


def _applies(child: Element) -> bool:
    """Whether a switch may choose it."""
    return child.tag != "foreignObject" and not (
        {"requiredExtensions", "systemLanguage"} & child.attributes.keys()
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

    text = _limited(attributes, "transform", "none")
    if text in ("", "none"):
        return matrix
    end = 0
    while match := _TRANSFORM.match(text, end):
        numbers = _numbers(match[2])
        if numbers is None or len(numbers) not in _NUMBERS_OF_TRANSFORMS.get(match[1], ()):
            break
        end = match.end()
    if text[end:].strip(" \t\r\n,"):
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
    texts = [root.attributes.get(side, "").strip() for side in ("width", "height")]
    if not all(len(text) <= MOST_TEXT and _LENGTH.fullmatch(text) for text in texts):
        return None
    return _length(root, "width"), _length(root, "height")


def _viewport(
    element: Element, matrix: Any, around: _Size | None
) -> tuple[Any, _Size | None] | None:
    """Into a nested svg or a symbol: its matrix, and its size, in coordinates of its own.

    The view box is fitted into the viewport as preserveAspectRatio wants it, and not clipped.

    Returns:
        None if there is nothing to see, since a side is 0.
    """
    from svgelements import Matrix, Viewbox

    box = _view_box(element)
    sides = []
    for name in ("width", "height"):
        text = _limited(element.attributes, name, "auto")
        is_part = text == "auto" or _PERCENT.fullmatch(text)
        # Parts of what is not known are not known, but where there is a view box.
        sides.append(None if is_part and around is None else _length(element, name, around, "100%"))
    width, height = sides
    if any(side is not None and side <= 0 for side in sides):
        return None
    if box is None:
        size = None if width is None or height is None else (width, height)
        return _moved(element, matrix, around), size
    x, y = (_length(element, name, around) for name in ("x", "y"))
    aspect = _ASPECT.fullmatch(
        _limited(element.attributes, "preserveAspectRatio", "").removeprefix("defer").strip()
    )
    fitted = Viewbox.viewbox_transform(
        x, y, width or box[2], height or box[3], *box, aspect and " ".join(aspect[0].split())
    )
    return Matrix(fitted) * matrix, box[2:]


def _view_box(element: Element) -> tuple[float, float, float, float] | None:
    text = _limited(element.attributes, "viewBox", "")
    if not text:
        return None
    box = _numbers(text)
    if not box or len(box) != 4 or not min(box[2:]) > 0 or not all(map(math.isfinite, box)):
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

    text = _limited(element.attributes, name, "auto")
    text = otherwise if text == "auto" else text
    percent = _PERCENT.fullmatch(text)
    if percent and around is not None:
        width, height = around
        is_wide = "x" in name or name == "width"
        whole = math.hypot(*around) / math.sqrt(2) if name == "r" else width if is_wide else height
        return whole * float(percent[1]) / 100
    if not _LENGTH.fullmatch(text):
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
    """The segments of a shape."""
    import svgelements

    attributes = element.attributes
    if element.tag == "path":
        data = _CLOSE_WITHOUT_MOVE.sub("zm0 0", _CLOSES.sub("z", attributes.get("d", "")))
        return parsed("path", data, lambda: list(svgelements.Path(data)))
    if element.tag in ("polyline", "polygon"):
        numbers = _numbers(attributes.get("points", ""))
        if numbers is None or len(numbers) % 2:
            raise DatasetError(
                f"has a {element.tag} whose points are not pairs of numbers: "
                f"{attributes['points'][:60]!r}"
            )
        of_lines = svgelements.Polyline if element.tag == "polyline" else svgelements.Polygon
        points = zip(numbers[::2], numbers[1::2], strict=True)
        return list(svgelements.Path(of_lines(*points)))
    shape = _shape(element, around)
    if shape is None:
        return []
    return parsed(element.tag, attributes, lambda: list(svgelements.Path(shape)))


def _shape(element: Element, around: _Size | None) -> Any:
    """A line, rect, circle or ellipse, or None where a size is missing or not above 0."""
    import svgelements

    def of(*names: str) -> list[float]:
        return [_length(element, name, around) for name in names]

    def radii() -> list[float]:
        # One that is not given is as the other.
        given = [
            name for name in ("rx", "ry") if element.attributes.get(name, "auto").strip() != "auto"
        ]
        found = of(*given) or [0.0]
        return [found[0], found[-1]]

    if element.tag == "line":
        x1, y1, x2, y2 = of("x1", "y1", "x2", "y2")
        return [svgelements.Move((x1, y1)), svgelements.Line((x1, y1), (x2, y2))]
    if element.tag == "rect":
        width, height = of("width", "height")
        is_seen = width > 0 and height > 0
        return svgelements.Rect(*of("x", "y"), width, height, *radii()) if is_seen else None
    rx, ry = of("r", "r") if element.tag == "circle" else radii()
    return svgelements.Ellipse(*of("cx", "cy"), rx, ry) if rx > 0 and ry > 0 else None
