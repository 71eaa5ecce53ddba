"""Drawings as JSON, one a line: QuickDraw's `.ndjson`, raw and simplified, and plain forms.

A line is one of

    {"word": "cat", "recognized": true, "drawing": [[[x, …], [y, …]], …]}   QuickDraw, simplified
    {"word": "cat", "recognized": true, "drawing": [[[x, …], [y, …], [t, …]], …]}            raw
    {"word": "cat", "lines": [[[x, y], …], …]}                              absolute polylines
    {"word": "cat", "strokes": [[dx, dy, pen], …]}                          stroke-3, or stroke-5
    [[dx, dy, pen], …]                                                      the same, without a word

where all but the drawing may be missing. The form of the first drawing of a chunk decides whether
the chunk is one of lines or of strokes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from sketchrnn_fast.data.chunks import MOST_COORDINATE, Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines, Sketches

# The longest raw recordings of QuickDraw take some hundred kilobytes.
MOST_LINE = 1 << 24
_FORMS = "drawing, lines or strokes"


def ranges(path: Path, target: int) -> Iterator[tuple[int, int]]:
    """Cut a file into ranges (start, stop) of whole lines, each of about `target` bytes.

    Raises:
        DatasetError: a line is longer than 16 MiB.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = 0
        while start < size:
            stop = min(start + target, size)
            stream.seek(stop - 1)
            rest = stream.readline(MOST_LINE + 1)
            stop = stop - 1 + len(rest)
            if len(rest) > MOST_LINE:
                raise DatasetError(
                    f"{path}: the line around byte {start + target} is longer than {MOST_LINE} "
                    "bytes; a line is one drawing"
                )
            yield start, stop
            start = stop


def read(path: Path, start: int, stop: int, name: str, only_recognized: bool) -> Chunk:
    """The drawings of one range.

    Args:
        path: the file.
        start, stop: one of its `ranges`.
        name: the class of drawings that name none.
        only_recognized: leaves out those that the game did not recognize.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(start)
        content = stream.read(stop - start)
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    with _without_collection():
        return _Reader(name, only_recognized).read(lines)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the search for cycles, of which JSON has none, while its many lists are made.

    The search looks at all lists again and again: it takes longer than parsing does.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Reader:
    """Sorts the lines of a chunk into drawings and problems."""

    def __init__(self, name: str, only_recognized: bool) -> None:
        self.name = name
        self.only_recognized = only_recognized
        self.names: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.unrecognized = 0
        self.places: list[int] = []
        self.codes: list[int] = []
        self.values: list[Any] = []

    def read(self, lines: list[bytes]) -> Chunk:
        kinds = set()
        for place, line in enumerate(lines):
            if line.strip():
                kinds.add(self._take(place, line))
        kinds -= {None}
        if len(kinds) > 1:
            kinds = {self._keep_one_form(kinds)}
        read = _strokes if kinds == {"strokes"} else _polylines if kinds == {"lines"} else _drawings
        drawings, is_raw, wrong = read(self.values)
        good = np.ones(len(self.values), np.bool_)
        for index, what in wrong:
            good[index] = False
            self.problems.append(Problem(self.places[index], what))
        return Chunk(
            drawings,
            np.array(self.places, np.int64)[good],
            np.array(self.codes, np.int32)[good],
            tuple(self.names),
            is_raw,
            len(lines),
            sorted(self.problems),
            self.unrecognized,
        )

    def _take(self, place: int, line: bytes) -> str | None:
        """Parse one line; the form of its drawing, or None if there is none to take."""
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self.problems.append(Problem(place, f"is not JSON: {error}"))
            return None
        word: Any = self.name
        value: Any = None
        if isinstance(record, list):
            form, value = "strokes", record
        elif isinstance(record, dict):
            word = record.get("word", self.name)
            form = next((key for key in ("drawing", "lines", "strokes") if key in record), "")
            value = record.get(form)
            if self.only_recognized and record.get("recognized") is False:
                self.unrecognized += 1
                return None
        else:
            form = ""
        is_word = isinstance(word, str) and "\n" not in word
        if not form or not isinstance(value, list) or not is_word:
            what = (
                f"has the word {_short(word)}; it must be text of one line"
                if form and isinstance(value, list)
                else f"has no list {_FORMS}"
            )
            self.problems.append(Problem(place, what))
            return None
        self.places.append(place)
        self.codes.append(self.names.setdefault(word, len(self.names)))
        self.values.append((form, value))
        return form

    def _keep_one_form(self, kinds: set[Any]) -> str:
        first: str = self.values[0][0]
        for place, (form, _) in zip(self.places, self.values, strict=True):
            if form != first:
                self.problems.append(
                    Problem(place, f"has {form}, those before it have {first}; one form a file")
                )
        same = [index for index, (form, _) in enumerate(self.values) if form == first]
        for column in ("places", "codes", "values"):
            setattr(self, column, [getattr(self, column)[index] for index in same])
        return first


_Read = tuple[Any, NDArray[np.bool_], list[tuple[int, str]]]


# --------------------------------------------------------------------------------------------
# The forms. Each takes (form, value) of the drawings of a chunk; the fast way first, for chunks
# without any mistake, then one drawing after another, to tell which is wrong.


def _drawings(values: list[tuple[str, Any]]) -> _Read:
    try:
        return *_parse_drawings(values), []
    except (TypeError, ValueError, IndexError, KeyError, OverflowError):
        pass
    wrong = []
    good = []
    for index, value in enumerate(values):
        try:
            _check_drawing(value[1])
            _parse_drawings([value])
        except DatasetError as error:
            wrong.append((index, str(error)))
        else:
            good.append(value)
    return *_parse_drawings(good), wrong


def _parse_drawings(values: list[tuple[str, Any]]) -> tuple[Lines, NDArray[np.bool_]]:
    xs: list[Any] = []
    ys: list[Any] = []
    lengths: list[int] = []
    counts: list[int] = []
    is_raw: list[bool] = []
    for _, drawing in values:
        before = len(lengths)
        has_times = False
        for line in drawing:
            x, y = line[0], line[1]
            has_times |= len(line) > 2
            if len(x) != len(y):
                raise ValueError
            if x:
                xs += x
                ys += y
                lengths.append(len(x))
        if len(lengths) == before:
            raise ValueError
        counts.append(len(lengths) - before)
        is_raw.append(has_times)
    points = np.stack([_numbers(xs), _numbers(ys)], axis=1)
    lines = Lines(points, np.array(lengths, np.int64), np.array(counts, np.int64))
    return lines, np.array(is_raw, np.bool_)


def _numbers(values: list[Any]) -> NDArray[Any]:
    array = np.array(values) if values else np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise ValueError
    if array.dtype.kind == "b":  # to Python, and among other numbers to NumPy, they are 0 and 1
        array = array.astype(np.int64)
    if not _are_within(array):
        raise ValueError
    return array


def _are_within(array: NDArray[Any]) -> bool:
    # Not by np.abs, which leaves the least integer negative.
    return bool(((array >= -MOST_COORDINATE) & (array <= MOST_COORDINATE)).all())


def _check_drawing(drawing: list[Any]) -> None:
    """Raise what is wrong with a drawing, if anything is."""
    some = False
    for index, line in enumerate(drawing):
        if not isinstance(line, list) or len(line) < 2:
            raise DatasetError(f"has a line {index} that is not [[x, …], [y, …]]")
        x, y = line[:2]
        if not isinstance(x, list) or not isinstance(y, list):
            raise DatasetError(f"has a line {index} that is not [[x, …], [y, …]]")
        if len(x) != len(y):
            raise DatasetError(f"has a line {index} of {len(x)} x and {len(y)} y")
        _check_numbers(x, index)
        _check_numbers(y, index)
        some = some or bool(x)
    if not some:
        raise DatasetError("has no points")


def _check_numbers(values: list[Any], index: int) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise DatasetError(f"has a line {index} with {_short(value)}, which is no number")
        if not abs(value) <= MOST_COORDINATE:
            raise DatasetError(
                f"has a line {index} with {value}; coordinates are within ±{MOST_COORDINATE:.0f}"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _polylines(values: list[tuple[str, Any]]) -> _Read:
    """[[[x, y], …], …]"""
    arrays, counts, wrong = [], [], []
    for index, (_, lines) in enumerate(values):
        try:
            found = [_rows(line, f"a line {k}", (2,)) for k, line in enumerate(lines)]
            found = [line for line in found if len(line)]
            if not found:
                raise DatasetError("has no points")
        except DatasetError as error:
            wrong.append((index, str(error)))
            continue
        arrays += found
        counts.append(len(found))
    points = np.concatenate(arrays) if arrays else np.zeros((0, 2))
    lengths = np.array([len(array) for array in arrays], np.int64)
    drawings = Lines(points, lengths, np.array(counts, np.int64))
    return drawings, np.ones(len(counts), np.bool_), wrong


def _strokes(values: list[tuple[str, Any]]) -> _Read:
    """[[dx, dy, pen], …], or stroke-5"""
    arrays, wrong = [], []
    for index, (_, strokes) in enumerate(values):
        try:
            rows = _rows(strokes, "strokes", (3, 5))
            arrays.append(stroke3(rows))
        except DatasetError as error:
            wrong.append((index, str(error)))
    points = np.concatenate(arrays) if arrays else np.zeros((0, 3))
    lengths = np.array([len(array) for array in arrays], np.int64)
    return Sketches(points, lengths), np.zeros(len(lengths), np.bool_), wrong


def _rows(value: Any, what: str, columns: tuple[int, ...]) -> NDArray[Any]:
    wanted = " or ".join(map(str, columns))
    try:
        array = np.array(value) if value else np.zeros((0, columns[0]), np.int64)
    except (ValueError, OverflowError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] not in columns or array.dtype.kind not in "iuf":
        raise DatasetError(f"has {what} that is no list of rows of {wanted} numbers")
    if not _are_within(array):
        raise DatasetError(f"has {what} with numbers outside of ±{MOST_COORDINATE:.0f}")
    return array


def stroke3(rows: NDArray[Any]) -> NDArray[Any]:
    """A sketch of 3 or 5 columns as stroke-3, cut at its end.

    Raises:
        DatasetError: it has no points, or pens that are none.
    """
    if rows.shape[1] == 5:
        pens = rows[:, 2:]
        if not (((pens == 0) | (pens == 1)).all() and (pens.sum(axis=1) == 1).all()):
            raise DatasetError("has pens that are not one-hot, as stroke-5 has them")
        ends = np.flatnonzero(rows[:, 4] == 1)
        rows = rows[: ends[0] if len(ends) else len(rows), [0, 1, 3]]
    if not len(rows):
        raise DatasetError("has no points")
    bad = ~((rows[:, 2] == 0) | (rows[:, 2] == 1))
    if bad.any():
        point = int(bad.argmax())
        raise DatasetError(f"has the pen {rows[point, 2]} at point {point}; it must be 0 or 1")
    return rows
