"""Files in QuickDraw's formats, written for tests from drawings as lists of lines [x, y]."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Drawing = Sequence[tuple[Sequence[int], Sequence[int]]]


def bin_record(drawing: Drawing, recognized: bool = True, key: int = 0) -> bytes:
    """One drawing as a record of a .bin file."""
    parts = [struct.pack("<Q2sbIH", key, b"CH", recognized, 1_490_000_000, len(drawing))]
    for x, y in drawing:
        parts.append(struct.pack("<H", len(x)) + bytes(x) + bytes(y))
    return b"".join(parts)


def write_bin(path: Path, drawings: Sequence[Drawing]) -> Path:
    """A .bin file of these drawings."""
    path.write_bytes(b"".join(bin_record(drawing, key=k) for k, drawing in enumerate(drawings)))
    return path


def ndjson_line(drawing: Any, word: str = "cat", recognized: bool = True) -> str:
    """One drawing as a line of an .ndjson file."""
    record = {"word": word, "countrycode": "CH", "recognized": recognized, "key_id": "1"}
    return json.dumps({**record, "drawing": drawing}, separators=(",", ":"))


def write_ndjson(path: Path, drawings: Sequence[Any], word: str = "cat") -> Path:
    """An .ndjson file of these drawings."""
    lines = [ndjson_line([list(map(list, line)) for line in d], word) for d in drawings]
    path.write_text("\n".join(lines) + "\n")
    return path
