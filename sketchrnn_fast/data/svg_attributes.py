"""What stands in the attributes of SVG elements: styles, transforms, lengths, view boxes, shapes.

svgelements reads path data, transforms and lengths; what it would take silently is refused here.
"""

from __future__ import annotations

import math
import re
from typing import Any

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.svg_outlines import parsed
from sketchrnn_fast.data.svg_tree import Element

# Of the attributes that are read anew wherever `use` puts them.
MOST_TEXT = 4096

SHAPES = {"line", "rect", "circle", "ellipse", "path", "polyline", "polygon"}
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

Size = tuple[float, float]


def properties(attributes: dict[str, str]) -> dict[str, str]:
    """The attributes of an element, and before them what its style says."""
    style = limited(attributes, "style", "")
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


def limited(attributes: dict[str, str], name: str, otherwise: str) -> str:
    """An attribute of at most `MOST_TEXT` characters."""
    text = attributes.get(name, otherwise).strip()
    if len(text) > MOST_TEXT:
        raise DatasetError(f"has a {name} of {len(text)} characters; at most {MOST_TEXT} are read")
    return text


# --------------------------------------------------------------------------------------------
# Coordinates


def transformed(attributes: dict[str, str], matrix: Any) -> Any:
    """The matrix after the element's transform."""
    from svgelements import Matrix

    text = limited(attributes, "transform", "none")
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


def moved(element: Element, matrix: Any, size: Size | None) -> Any:
    """The matrix after the element's x and y."""
    from svgelements import Matrix

    x, y = (_length(element, name, size) for name in ("x", "y"))
    return Matrix.translate(x, y) * matrix if x or y else matrix


def size_of_root(root: Element) -> Size | None:
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


def viewport(element: Element, matrix: Any, around: Size | None) -> tuple[Any, Size | None] | None:
    """Into a nested svg or a symbol: its matrix, and its size, in coordinates of its own.

    The view box is fitted into the viewport as preserveAspectRatio wants it, and not clipped.

    Returns:
        None if there is nothing to see, since a side is 0.
    """
    from svgelements import Matrix, Viewbox

    box = _view_box(element)
    sides = []
    for name in ("width", "height"):
        text = limited(element.attributes, name, "auto")
        is_part = text == "auto" or _PERCENT.fullmatch(text)
        # Parts of what is not known are not known, but where there is a view box.
        sides.append(None if is_part and around is None else _length(element, name, around, "100%"))
    width, height = sides
    if any(side is not None and side <= 0 for side in sides):
        return None
    if box is None:
        size = None if width is None or height is None else (width, height)
        return moved(element, matrix, around), size
    x, y = (_length(element, name, around) for name in ("x", "y"))
    aspect = _ASPECT.fullmatch(
        limited(element.attributes, "preserveAspectRatio", "").removeprefix("defer").strip()
    )
    fitted = Viewbox.viewbox_transform(
        x, y, width or box[2], height or box[3], *box, aspect and " ".join(aspect[0].split())
    )
    return Matrix(fitted) * matrix, box[2:]


def _view_box(element: Element) -> tuple[float, float, float, float] | None:
    text = limited(element.attributes, "viewBox", "")
    if not text:
        return None
    box = _numbers(text)
    if not box or len(box) != 4 or not min(box[2:]) > 0 or not all(map(math.isfinite, box)):
        raise DatasetError(
            f"has the viewBox {text[:60]!r}; it is x, y, width and height, the last two above 0"
        )
    return box[0], box[1], box[2], box[3]


def _length(element: Element, name: str, around: Size | None = None, otherwise: str = "0") -> float:
    """A length that an attribute gives; per cent are of the viewport around it, if that is known.

    Raises:
        DatasetError: it gives none.
    """
    from svgelements import Length

    text = limited(element.attributes, name, "auto")
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


def outline_of(element: Element, around: Size | None) -> Any:
    """The segments of a shape, as svgelements has them."""
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


def _shape(element: Element, around: Size | None) -> Any:
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
