"""A walk through the elements of an SVG document that are displayed, as often as `use` says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.svg_attributes import (
    SHAPES,
    Size,
    moved,
    outline_of,
    properties,
    size_of_root,
    transformed,
    viewport,
)
from sketchrnn_fast.data.svg_outlines import MOST_POINTS, Segment, segments
from sketchrnn_fast.data.svg_tree import MOST_ELEMENTS, MOST_LEVELS, Element

_CONTAINERS = {"svg", "g", "a", "switch", "symbol"}
_WHITE = {"white", "#fff", "#ffffff", "rgb(255,255,255)"}
_CLEAR = {"none", "transparent", ""}


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
        self._outlines: dict[tuple[Element, Size | None], Any] = {}
        self._by_id: dict[str, Element] = {}
        for element in _descendants(root):
            if "id" in element.attributes:
                self._by_id.setdefault(element.attributes["id"], element)
        paint = _Paint(has_styles=any(element.tag == "style" for element in _descendants(root)))
        self._visit(root, Matrix(), paint, size_of_root(root), 0)

    def _visit(
        self, element: Element, matrix: Any, paint: _Paint, size: Size | None, level: int
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
        given = properties(element.attributes)
        if given.get("display", "").strip().lower() == "none":
            return
        paint = paint.inherited(given)
        if element.tag in _CONTAINERS:
            self._visit_within(element, transformed(given, matrix), paint, size, level)
        elif element.tag == "use":
            reference = element.attributes.get("href", "")
            target = self._by_id.get(reference[1:]) if reference.startswith("#") else None
            if target is not None:
                inner = moved(element, transformed(given, matrix), size)
                self._visit(_used(target, element.attributes), inner, paint, size, level + 1)
        elif element.tag in SHAPES and not paint.is_invisible:
            if (element, size) not in self._outlines:
                self._outlines[element, size] = outline_of(element, size)
            self._take(self._outlines[element, size], transformed(given, matrix))

    def _visit_within(
        self, element: Element, matrix: Any, paint: _Paint, size: Size | None, level: int
    ) -> None:
        if element.tag in ("svg", "symbol") and level > 0:
            fitted = viewport(element, matrix, size)
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
            taken = segments(segment, matrix)
            self.segments += taken
            # One that draws nothing counts too: `use` may repeat it for ever.
            self._points += max(1, sum(len(piece.points) for piece in taken))
            if self._points > MOST_POINTS:
                raise DatasetError(f"has more than {MOST_POINTS} points")


def _descendants(root: Element) -> Iterator[Element]:
    waiting = [root]
    while waiting:
        element = waiting.pop()
        yield element
        waiting.extend(reversed(element.children))


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
