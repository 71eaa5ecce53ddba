"""Decoders published for sketch-rnn-js and @magenta/sketch: `.gen.json` files.

Such a file is a JSON array of three: an object of information; the shapes of the arrays; and the
arrays as base64 of little-endian int16, row-major, of which q stands for the weight 10 q / 32767
(model_spec 8). A decoder-only file has five arrays: output_w [N, 123], output_b [123],
W_xh [5, 4N], W_hh [N, 4N] and bias [4N] of an LSTM with forget bias 1 and 20 Gaussians. Nothing in
a file is executed, and no array is made before its size and its text have been compared.

The readers in JavaScript start from (0, 0, 0, 0, 0); here the first input is the start token that
the models were trained with, (0, 0, 1, 0, 0).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.config import MOST_SIZE, ModelConfig
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop.magenta import load_variables
from sketchrnn_fast.nn import SketchRNN

MIXTURES = 20
MOST_WEIGHT, MOST_INTEGER = 10.0, 32767
DECODER_MODES = (2, "gen")
VARIABLES = (
    "vector_rnn/RNN/output_w",
    "vector_rnn/RNN/output_b",
    "vector_rnn/RNN/LSTMCell/W_xh",
    "vector_rnn/RNN/LSTMCell/W_hh",
    "vector_rnn/RNN/LSTMCell/bias",
)
_MOST_UNITS = 1 << 11  # the published have 512
# N units have 123 N + 123 + 20 N + 4 N² + 4 N weights, each 2 bytes, of which base64 makes 8/3; and
# 1 MiB for the rest.
_MOST_BYTES = 8 * (4 * _MOST_UNITS**2 + 147 * _MOST_UNITS + 123) // 3 + (1 << 20)
# Of values, each of which costs more memory than its text. A published file has about forty.
_MOST_SEPARATORS = 10_000
_SMALLEST_FACTOR = float(np.finfo(np.float32).tiny)
_LARGEST_FACTOR = float(np.finfo(np.float32).max)
_MOST_QUOTED = 100


class ModelFileError(UserError):
    """A file is not a decoder for sketch-rnn-js; the message says what was found."""


def read_decoder(path: str | os.PathLike[str]) -> SketchRNN:
    """Read a published decoder as an unconditional model, in evaluation mode.

    Args:
        path: a decoder-only `.gen.json`.

    Returns:
        A SketchRNN with an LSTM decoder, the file's max_seq_len and, as its scale factor, the
        file's: for the published models the factor that their data was divided by.

    Raises:
        ModelFileError: the file is missing, no JSON, cut short, of another kind (a VAE), or its
            parts do not fit together.
    """
    path = Path(path)
    try:
        return _decoder_of(_parse(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None


def _parse(path: Path) -> Any:
    if path.stat().st_size > _MOST_BYTES:
        raise ModelFileError(f"it has more than {_MOST_BYTES} bytes; no decoder is that large")
    content = path.read_bytes()
    if sum(map(content.count, (b"[", b"{", b","))) > _MOST_SEPARATORS:
        raise ModelFileError("it holds more values than a decoder has")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ModelFileError("it is no JSON, or it is cut short") from None


def _decoder_of(content: Any) -> SketchRNN:
    kinds = [type(part) for part in content] if isinstance(content, list) else []
    if kinds != [dict, list, list]:
        raise ModelFileError("it is not an array of an object, shapes and weights")
    info, shapes, texts = content
    max_seq_len, scale_factor = _checked_info(info)
    units = _checked_shapes(shapes)
    if len(texts) != len(VARIABLES):
        raise ModelFileError(f"it has {len(texts)} weights for {len(VARIABLES)} shapes")
    values = {
        name: _dequantised(text, shape, name.rsplit("/", 1)[1])
        for name, text, shape in zip(VARIABLES, texts, _expected_shapes(units), strict=True)
    }
    config = ModelConfig(
        conditional=False,
        dec_model="lstm",
        dec_rnn_size=units,
        num_mixture=MIXTURES,
        max_seq_len=max_seq_len,
    )
    model = SketchRNN(config)
    load_variables(model, values)
    model.scale_factor.fill_(scale_factor)
    return model.eval()


def _checked_info(info: dict[str, Any]) -> tuple[int, float]:
    """max_seq_len and scale_factor."""
    mode = info.get("mode")
    if type(mode) not in (int, str) or mode not in DECODER_MODES:
        raise ModelFileError(
            f"its mode is {_quoted(mode)}; a decoder has {DECODER_MODES[0]} or "
            f'"{DECODER_MODES[1]}", and models with an encoder are not read'
        )
    length: Any = info.get("max_seq_len")
    factor: Any = info.get("scale_factor")
    if type(length) is not int or not 1 <= length <= MOST_SIZE:
        raise ModelFileError(
            f"its max_seq_len is {_quoted(length)}; it must be a number of points, 1 to {MOST_SIZE}"
        )
    is_number = type(factor) in (int, float)
    if not is_number or not _SMALLEST_FACTOR <= factor <= _LARGEST_FACTOR:
        raise ModelFileError(
            f"its scale_factor is {_quoted(factor)}; it must be a number above 0, normal in float32"
        )
    return length, float(factor)


def _quoted(value: Any) -> str:
    """What a file says, for a message: as Python writes it, cut where it is long or deep."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxlong = _MOST_QUOTED
    text = writer.repr(value)
    return text if len(text) <= _MOST_QUOTED else text[: _MOST_QUOTED - 1] + "…"


def _expected_shapes(units: int) -> list[list[int]]:
    columns, gates = 6 * MIXTURES + 3, 4 * units
    return [[units, columns], [columns], [5, gates], [units, gates], [gates]]


def _checked_shapes(shapes: list[Any]) -> int:
    """The number of units N, of which all five shapes follow."""
    first = shapes[0] if shapes else None
    units: Any = first[0] if isinstance(first, list) and first else None
    is_count = type(units) is int and 1 <= units <= _MOST_UNITS
    if not is_count or shapes != _expected_shapes(units):
        raise ModelFileError(
            f"its shapes are {_quoted(shapes)}; a decoder of N units, at most {_MOST_UNITS}, has "
            "[[N, 123], [123], [5, 4N], [N, 4N], [4N]]"
        )
    return int(units)


def _dequantised(text: Any, shape: list[int], name: str) -> NDArray[np.float32]:
    """The array of a base64 string."""
    count = math.prod(shape)
    expected = 4 * math.ceil(2 * count / 3)
    if not isinstance(text, str) or len(text) != expected:
        found = f"{len(text)} characters" if isinstance(text, str) else f"a {type(text).__name__}"
        raise ModelFileError(
            f"{name} is {found}; with shape {shape} it takes a string of {expected} characters"
        )
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ModelFileError(f"{name} is no base64") from None
    if len(content) != 2 * count:
        raise ModelFileError(f"{name} holds {len(content)} bytes; {shape} takes {2 * count}")
    integers = np.frombuffer(content, "<i2").reshape(shape)
    return np.float32(MOST_WEIGHT) * integers.astype(np.float32) / np.float32(MOST_INTEGER)
