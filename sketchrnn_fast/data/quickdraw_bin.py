"""QuickDraw's `.bin` files: simplified drawings, back to back, little-endian, without padding.

    key_id          uint64
    country         2 characters
    recognized      int8
    timestamp       uint32
    lines           uint16
    then for each   points uint16, that many x uint8, that many y uint8

Where a record ends is known only by walking through it, line by line; that walk is the one loop
here. The points themselves are gathered for a whole chunk at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sketchrnn_fast.data.chunks import Chunk, Problem
from sketchrnn_fast.data.errors import DatasetError
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.strokes import positions_within

_HEADER = 17
_RECOGNIZED = 10
# No drawing is longer: the longest of the published ones has some thousands of bytes.
MOST_RECORD = 1 << 20


def ranges(path: Path, target: int) -> Iterator[tuple[int, int]]:
    """Cut a file into ranges (start, stop) of whole records, each of about `target` bytes.

    Raises:
        DatasetError: the file ends within a record, or a record claims more than a megabyte.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = 0
        while start < size:
            stream.seek(start)
            content = stream.read(target + MOST_RECORD)
            stop = _last_whole(content, target)
            if stop == 0:
                raise DatasetError(_broken(path, start, size - start))
            yield start, start + stop
            start += stop


def _last_whole(content: bytes, target: int) -> int:
    """Where the last whole record that begins before `target` ends."""
    end, size = 0, len(content)
    while end < target:
        if end + _HEADER > size:
            break
        position = end + _HEADER
        for _ in range(content[end + 15] | content[end + 16] << 8):
            if position + 2 > size:
                return end
            position += 2 + 2 * (content[position] | content[position + 1] << 8)
        if position > size:
            break
        end = position
    return end


def _broken(path: Path, start: int, left: int) -> str:
    if left > MOST_RECORD:
        return f"{path}: the drawing at byte {start} claims more than {MOST_RECORD} bytes"
    return f"{path} ends within the drawing at byte {start}; it is cut short, or no .bin file"


def read(path: Path, start: int, stop: int, name: str, only_recognized: bool) -> Chunk:
    """The drawings of one range.

    Args:
        path: the file.
        start, stop: one of its `ranges`.
        name: their class.
        only_recognized: leaves out those that the game did not recognize.

    Raises:
        DatasetError: the range is not of whole records.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(start)
        content = stream.read(stop - start)
    try:
        heads, counts, firsts, lengths = _walk(content)
    except IndexError:
        raise DatasetError(_broken(path, start, len(content))) from None
    places = np.arange(len(heads), dtype=np.int64)
    line_counts = np.array(counts, np.int64)
    line_firsts, line_lengths = np.array(firsts, np.int64), np.array(lengths, np.int64)
    of_bytes = np.frombuffer(content, np.uint8)
    # Lines without points are passed over; a drawing of none other has nothing to draw.
    has_points = line_lengths > 0
    drawing = np.repeat(places, line_counts)[has_points]
    line_firsts, line_lengths = line_firsts[has_points], line_lengths[has_points]
    line_counts = np.bincount(drawing, minlength=len(places)).astype(np.int64)
    is_drawn = line_counts > 0
    problems = [Problem(int(record), "has no points") for record in np.flatnonzero(~is_drawn)]
    first = np.repeat(line_firsts, line_lengths) + positions_within(line_lengths)
    second = first + np.repeat(line_lengths, line_lengths)
    points = np.stack([of_bytes[first], of_bytes[second]], axis=1)
    drawings, places = Lines(points, line_lengths, line_counts[is_drawn]), places[is_drawn]
    unrecognized = 0
    if only_recognized:
        recognized = of_bytes[np.array(heads, np.int64)[is_drawn] + _RECOGNIZED] == 1
        drawings, places = drawings.take(recognized), places[recognized]
        unrecognized = int((~recognized).sum())
    return Chunk(
        drawings,
        places,
        np.zeros(len(places), np.int32),
        (name,),
        np.zeros(len(places), np.bool_),
        len(heads),
        problems,
        unrecognized,
    )


_Offsets = list[int]


def _walk(content: bytes) -> tuple[_Offsets, _Offsets, _Offsets, _Offsets]:
    """Where drawings begin, their lines, where the points of lines begin, and their number.

    Raises:
        IndexError: the content ends within a record.
    """
    heads, counts, firsts, lengths = [], [], [], []
    position, size = 0, len(content)
    while position < size:
        heads.append(position)
        count = content[position + 15] | content[position + 16] << 8
        counts.append(count)
        position += _HEADER
        for _ in range(count):
            length = content[position] | content[position + 1] << 8
            firsts.append(position + 2)
            lengths.append(length)
            position += 2 + 2 * length
    if position > size:
        raise IndexError
    return heads, counts, firsts, lengths
