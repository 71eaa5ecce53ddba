"""Which files drawings are read from, cut into pieces that are read independently of each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sketchrnn_fast.data import arrays, quickdraw_bin, store
from sketchrnn_fast.data.chunks import Chunk
from sketchrnn_fast.data.errors import DatasetError

# A piece: as many bytes of a file, as many SVG files, as many sketches of a store. Memory goes
# with it, and what a killed conversion has to do again.
BIN_BYTES = 1 << 22
JSON_BYTES = 1 << 23
SVG_FILES = 256
STORE_SKETCHES = 1 << 15

SUFFIXES = {
    ".ndjson": "json",
    ".jsonl": "json",
    ".bin": "bin",
    ".svg": "svg",
    ".npz": "array",
    ".npy": "array",
}


@dataclass(frozen=True)
class Piece:
    """A part of an input, and how to read it.

    Attributes:
        kind: json, bin, svg, array or store.
        paths: the file, or several (svg).
        start, stop: bytes of the file, or sketches of a store.
        labels: the class of each path, where the drawings do not say.
        split: the split that the sketches are in, for a dataset.
        record: the number of the first record in its file or split.
    """

    kind: str
    paths: tuple[Path, ...]
    start: int = 0
    stop: int = 0
    labels: tuple[str, ...] = ("",)
    split: str | None = None

    @property
    def size(self) -> int:
        """Bytes to read, for progress."""
        if self.kind in ("json", "bin"):
            return self.stop - self.start
        if self.kind == "store":
            return (self.stop - self.start) * 256
        return sum(path.stat().st_size for path in self.paths)

    def read(self, only_recognized: bool = False) -> Chunk:
        """Read it.

        Raises:
            DatasetError: the file as a whole is not what it must be.
            OSError: it cannot be read.
        """
        path, label = self.paths[0], self.labels[0]
        if self.kind == "bin":
            return quickdraw_bin.read(path, self.start, self.stop, label, only_recognized)
        if self.kind == "json":
            from sketchrnn_fast.data import json_lines

            return json_lines.read(path, self.start, self.stop, label, only_recognized)
        if self.kind == "svg":
            from sketchrnn_fast.data import svg

            return svg.read(list(self.paths), list(self.labels))
        if self.kind == "store":
            assert self.split is not None
            return store.read_chunk(path, self.split, self.start, self.stop)
        return arrays.read(path, self.split, label)

    def name_of(self, record: int, before: int) -> str:
        """What an error calls a record, `before` of its file or split being in earlier pieces."""
        if self.kind == "svg":
            return str(self.paths[record])
        if self.kind == "json":
            return f"{self.paths[0]}, line {before + record + 1},"
        if self.split is not None:
            return f"{self.paths[0]}, split {self.split}, sketch {before + record}"
        return f"{self.paths[0]}, drawing {before + record}"

    @property
    def group(self) -> tuple[Path, str | None]:
        """Pieces that are numbered on are of one group."""
        return self.paths[0], self.split


def find(inputs: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The files and stores that the inputs name, folders searched through, in a fixed order.

    Raises:
        DatasetError: an input does not exist, is of no known form, or holds nothing of any.
    """
    found: list[Path] = []
    for path in map(Path, inputs):
        if not path.exists():
            raise DatasetError(f"{path} does not exist")
        if store.is_store(path):
            found.append(path)
        elif path.is_dir():
            inside = _inside(path)
            if not inside:
                raise DatasetError(f"{path} holds no file ending in {', '.join(SUFFIXES)}")
            found += inside
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            raise DatasetError(
                f"{path} ends in {path.suffix or 'no suffix'}; drawings are read from "
                f"{', '.join(SUFFIXES)}, from folders of these, and from stores"
            )
    return found


def _inside(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """The files of drawings and the stores below a folder; the arrays of a store are no files.

    A link to a folder is followed, but not to one that it lies in.
    """
    above = (*above, folder.resolve())
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if store.is_store(path):
            found.append(path)
        elif path.is_dir():
            if path.resolve() not in above:
                found += _inside(path, above)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
    return found


def pieces(files: Sequence[Path]) -> Iterator[Piece]:
    """Cut the files into pieces, as they are needed.

    Args:
        files: the result of `find`.

    Raises:
        DatasetError: a file is found to be cut short, or not what its name says.
    """
    svgs: list[Path] = []
    for path in files:
        kind = "store" if path.is_dir() else SUFFIXES[path.suffix.lower()]
        if kind == "svg":
            svgs.append(path)
            if len(svgs) == SVG_FILES:
                yield _svg_piece(svgs)
                svgs = []
            continue
        if svgs:
            yield _svg_piece(svgs)
            svgs = []
        labels = (_label(path.stem),)
        if kind == "json":
            from sketchrnn_fast.data import json_lines

            for start, stop in json_lines.ranges(path, JSON_BYTES):
                yield Piece(kind, (path,), start, stop, labels)
        elif kind == "bin":
            for start, stop in quickdraw_bin.ranges(path, BIN_BYTES):
                yield Piece(kind, (path,), start, stop, labels)
        elif kind == "store":
            for split, count in store.counts(path).items():
                for start in range(0, count, STORE_SKETCHES):
                    stop = min(start + STORE_SKETCHES, count)
                    yield Piece(kind, (path,), start, stop, split=split)
        else:
            of_file: tuple[str | None, ...] = arrays.split_names(path) or (None,)
            for part in of_file:
                yield Piece(kind, (path,), labels=labels, split=part)
    if svgs:
        yield _svg_piece(svgs)


def _svg_piece(paths: list[Path]) -> Piece:
    # A folder holds the drawings of a class.
    return Piece(
        "svg", tuple(paths), labels=tuple(_label(path.resolve().parent.name) for path in paths)
    )


def _label(name: str) -> str:
    """A class named after a file, whose name may hold bytes that are no text, and lines' ends."""
    return name.encode(errors="replace").decode().replace("\n", " ")
