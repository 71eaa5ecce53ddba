"""Small decoders in the form in which Magenta published theirs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

UNITS = 3
SHAPES = [[UNITS, 123], [123], [5, 4 * UNITS], [UNITS, 4 * UNITS], [4 * UNITS]]
INTEGERS = [
    np.random.default_rng(place).integers(-9000, 9001, shape).astype("<i2")
    for place, shape in enumerate(SHAPES)
]


def content() -> list[Any]:
    """What a `.gen.json` holds: information, shapes, and weights in base64."""
    info = {"mode": 2, "version": 6, "name": "knot", "max_seq_len": 30, "scale_factor": 50.5}
    return [info, SHAPES, [base64.b64encode(array.tobytes()).decode() for array in INTEGERS]]


def write_decoder(path: Path) -> Path:
    path.write_text(json.dumps(content()), encoding="utf-8")
    return path
