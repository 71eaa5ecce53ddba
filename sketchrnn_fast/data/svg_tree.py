"""The tree of an SVG document, read by expat with everything bounded: no entities, so many elements
and levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from sketchrnn_fast.data.errors import DatasetError

MOST_ELEMENTS = 50_000
MOST_LEVELS = 100


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
