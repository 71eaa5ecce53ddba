"""Models for sketch-rnn-js and @magenta/sketch: `.gen.json`, `.vae.json`, `.gen.js`, read, written.

Such a file is a JSON array of three: an object of information; the shapes of the arrays; and the
arrays as base64 of little-endian int16, row-major, of which q stands for the weight 10 q / 32767
(model_spec 8). The arrays are the original's trainable variables in its order: five of a decoder,
seventeen of a model with encoder. Cells are LSTMs with forget bias 1, with 20 Gaussians. A
`.gen.js` file is the same text in one statement, `var model_raw_data='…';`. Nothing in a file is
executed, and no array is made before its size and its text have been compared.

The readers in JavaScript start from (0, 0, 0, 0, 0) (sketch-rnn-js) or from the start token that
the models were trained with, (0, 0, 1, 0, 0) (@magenta/sketch, and here).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.config import MOST_SIZE, ModelConfig, TrainConfig
from sketchrnn_fast.files import check_can_write, write_atomically
from sketchrnn_fast.interop.errors import ExportError, ModelFileError, check_classless, quoted
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.interop.magenta import empty_model, load_variables, variable_table, variables
from sketchrnn_fast.nn import SketchRNN

MIXTURES = 20
MOST_WEIGHT, MOST_INTEGER = 10.0, 32767
DECODER_MODES = (2, "gen")
VERSION = 6  # what readers take the file for; older VAEs pass z through tanh at one place
DECODER_SHAPES = "[[N, 123], [123], [5, 4N], [N, 4N], [4N]]"
_DECODER_ARRAYS, _VAE_ARRAYS = 5, 17
_MOST_UNITS = 1 << 11  # the published have 512, and encoders 256
_MOST_INFO_BYTES = 1 << 20
# Of values, each of which costs more memory than its text. A published file has about forty.
_MOST_SEPARATORS = 10_000
_SMALLEST_FACTOR = float(np.finfo(np.float32).tiny)
_LARGEST_FACTOR = float(np.finfo(np.float32).max)
_STATEMENT = re.compile(rb"\s*var\s+model_raw_data\s*=\s*'([^'\\]*)'\s*;?\s*")
_NAME = re.compile(r"[\w -]{1,100}", re.ASCII)


@dataclass(frozen=True)
class Quantisation:
    """What rounding did to one array of weights.

    Attributes:
        name: of the variable.
        largest_error: the largest difference between a weight and what readers make of it.
        mean_square_error: the root of the mean square of the differences.
        saturated: how many weights lie beyond ±10 and were cut.
    """

    name: str
    largest_error: float
    mean_square_error: float
    saturated: int


# --------------------------------------------------------------------------------------------
# Reading


def read_model(path: str | os.PathLike[str]) -> SketchRNN:
    """Read a model for sketch-rnn-js, in evaluation mode.

    Args:
        path: a `.gen.json`, `.vae.json` or `.gen.js`.

    Returns:
        A SketchRNN with LSTMs, unconditional for a decoder, the file's max_seq_len and, as its
        scale factor, the file's: for the published models the one that their data was divided by.

    Raises:
        ModelFileError: the file is missing, no JSON, cut short, or its parts do not fit together.
    """
    return read_imported(path).model


def read_imported(path: str | os.PathLike[str]) -> Imported:
    """`read_model`, with what the file says besides.

    Its name stands for the dataset that the model was trained on, which the file does not say.
    """
    path = Path(path)
    try:
        info, model = _model_of(_parse(path))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    name = info.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        name = path.name.split(".")[0] or "drawings"
    notes = [
        f"what it was trained on is not said: data_set is {name}.npz, by its name",
        "the training's hyper-parameters are not said: they are the defaults",
    ]
    return Imported(model, TrainConfig(data_set=(f"{name}.npz",)), notes=notes)


def _parse(path: Path) -> Any:
    most = most_bytes()
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ModelFileError("it is no file, but a device or a pipe")
    if path.stat().st_size > most:
        raise ModelFileError(f"it has more than {most} bytes; no model is that large")
    content = path.read_bytes()
    if sum(map(content.count, (b"[", b"{", b","))) > _MOST_SEPARATORS:
        raise ModelFileError("it holds more values than a model has")
    statement = _STATEMENT.fullmatch(content)
    try:
        return json.loads(content if statement is None else statement[1])
    except (ValueError, RecursionError):
        raise ModelFileError("it is no JSON, or it is cut short") from None


def _model_of(content: Any) -> tuple[dict[str, Any], SketchRNN]:
    kinds = [type(part) for part in content] if isinstance(content, list) else []
    if kinds != [dict, list, list]:
        raise ModelFileError("it is not an array of an object, shapes and weights")
    info, shapes, texts = content
    is_decoder = _is_decoder(info)
    max_seq_len, scale_factor = _checked_info(info)
    config = _checked_shapes(shapes, is_decoder, max_seq_len)
    if len(texts) != len(shapes):
        raise ModelFileError(f"it has {len(texts)} weights for {len(shapes)} shapes")
    model = SketchRNN(config, device="meta")
    values = {
        name: _dequantised(text, list(tensor.shape), _short(name))
        for (name, tensor), text in zip(variable_table(model), texts, strict=True)
    }
    model = empty_model(config)
    load_variables(model, values)
    model.scale_factor.fill_(scale_factor)
    return info, model.eval()


def _is_decoder(info: dict[str, Any]) -> bool:
    """Whether the file says that it is a decoder; any other number or word is a model's."""
    mode = info.get("mode")
    if type(mode) not in (int, str):
        raise ModelFileError(
            f"its mode is {quoted(mode)}; a decoder has {DECODER_MODES[0]} or "
            f'"{DECODER_MODES[1]}", a model with encoder another number or word'
        )
    return mode in DECODER_MODES


def _checked_info(info: dict[str, Any]) -> tuple[int, float]:
    """max_seq_len and scale_factor."""
    length: Any = info.get("max_seq_len")
    factor: Any = info.get("scale_factor")
    if type(length) is not int or not 1 <= length <= MOST_SIZE:
        raise ModelFileError(
            f"its max_seq_len is {quoted(length)}; it must be a number of points, 1 to {MOST_SIZE}"
        )
    is_number = type(factor) in (int, float)
    if not is_number or not _SMALLEST_FACTOR <= factor <= _LARGEST_FACTOR:
        raise ModelFileError(
            f"its scale_factor is {quoted(factor)}; it must be a number above 0, normal in float32"
        )
    return length, float(factor)


def _checked_shapes(shapes: list[Any], is_decoder: bool, max_seq_len: int) -> ModelConfig:
    """The configuration that all shapes follow from."""
    sizes = _sizes(shapes, is_decoder)
    if all(type(size) is int and 1 <= size <= _MOST_UNITS for size in sizes.values()):
        config = js_config(**sizes, max_seq_len=max_seq_len)
        if shapes == _expected_shapes(config):
            return config
    accepted = (
        f"a decoder of N units, at most {_MOST_UNITS}, has {DECODER_SHAPES}"
        if is_decoder
        else f"a model with encoder has {_VAE_ARRAYS}, of at most {_MOST_UNITS} units and z"
    )
    raise ModelFileError(f"its shapes are {quoted(shapes)}; {accepted}")


def _sizes(shapes: list[Any], is_decoder: bool) -> dict[str, Any]:
    """What the shapes say of the sizes: whatever stands where a size should."""

    def first(place: int) -> Any:
        shape = shapes[place] if place < len(shapes) else None
        return shape[0] if isinstance(shape, list) and shape else None

    if is_decoder:
        return {"dec_rnn_size": first(0)}
    return {"dec_rnn_size": first(12), "enc_rnn_size": first(1), "z_size": first(10)}


def js_config(**sizes: Any) -> ModelConfig:
    """The configuration of a model that the format can hold; with a z_size it has an encoder."""
    return ModelConfig(conditional="z_size" in sizes, num_mixture=MIXTURES, **sizes)


def _expected_shapes(config: ModelConfig) -> list[list[int]]:
    return [list(tensor.shape) for _, tensor in variable_table(SketchRNN(config, device="meta"))]


@functools.cache
def most_bytes() -> int:
    """The size of the largest file that is taken: base64 makes 8/3 bytes of a weight."""
    largest = js_config(dec_rnn_size=_MOST_UNITS, enc_rnn_size=_MOST_UNITS, z_size=_MOST_UNITS)
    return 8 * sum(map(math.prod, _expected_shapes(largest))) // 3 + _MOST_INFO_BYTES


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
    return _weights(np.frombuffer(content, "<i2").reshape(shape))


def _weights(integers: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """What the readers make of the integers, in float32 as they do."""
    return np.float32(MOST_WEIGHT) * integers.astype(np.float32) / np.float32(MOST_INTEGER)


def _short(name: str) -> str:
    """A variable's name for a message: without what all names begin with."""
    return name.removeprefix("vector_rnn/").removeprefix("RNN/").removeprefix("LSTMCell/")


# --------------------------------------------------------------------------------------------
# Writing


def write_model(
    model: SketchRNN, path: str | os.PathLike[str], *, name: str, decoder_only: bool = False
) -> list[Quantisation]:
    """Write a model as sketch-rnn-js reads it, or @magenta/sketch if it is a decoder.

    Args:
        path: the file; `.js` makes a statement of it, anything else JSON.
        name: what the file calls the model.
        decoder_only: refuse a model with encoder, which @magenta/sketch does not read.

    Returns:
        What the rounding to 16 bits did to each array.

    Raises:
        ExportError: the format cannot hold the model; nothing is written.
        UserError, OSError: the file cannot be written.
    """
    path = Path(path)
    check_can_write(path)
    check_exportable(model, decoder_only=decoder_only)
    shapes, texts, report = [], [], []
    for variable, values in variables(model).items():
        integers = _quantised(values)
        shapes.append(list(values.shape))
        texts.append(base64.b64encode(integers.tobytes()).decode())
        report.append(_quantisation(variable, values, integers))
    config = model.config
    info = {
        "mode": 1 if config.conditional else DECODER_MODES[0],
        "version": VERSION,
        "max_seq_len": config.max_seq_len,
        "name": name,
        # The shortest text that float32 reads back.
        "scale_factor": float(str(np.float32(float(model.scale_factor)))),
    }
    text = json.dumps([info, shapes, texts], separators=(",", ":"))
    if path.suffix == ".js":
        if "'" in text or "\\" in text:
            raise ExportError(
                f"the name {quoted(name)} cannot stand in a .js file; use plain letters"
            )
        text = f"var model_raw_data='{text}';"
    write_atomically(path, text.encode())
    return report


def check_exportable(model: SketchRNN, *, decoder_only: bool = False) -> None:
    """Refuse a model that the readers in JavaScript cannot run.

    Raises:
        ExportError: it has other cells than LSTMs, other than 20 Gaussians, more units than fit,
            another forget bias, classes, an encoder where only a decoder is read, or weights not
            finite.
    """
    config = model.config
    check_classless(config, "the readers in JavaScript know")
    cells = {config.dec_model} | ({config.enc_model} if config.conditional else set())
    if cells != {"lstm"}:
        raise ExportError(
            f"this model's cells are {' and '.join(sorted(cells))}; the readers in JavaScript run "
            "LSTMs only"
        )
    if config.num_mixture != MIXTURES:
        raise ExportError(
            f"this model has num_mixture {config.num_mixture}; the readers in JavaScript take "
            f"{MIXTURES} Gaussians only"
        )
    if decoder_only and config.conditional:
        raise ExportError(
            "this model has an encoder, and @magenta/sketch reads decoders only; the format "
            "sketch-rnn-js takes it"
        )
    if model.decoder_cell.forget_bias != 1.0:
        raise ExportError("this model's forget bias is not 1, which the readers in JavaScript add")
    for name, tensor in variable_table(model):
        if not bool(tensor.isfinite().all()):
            raise ExportError(f"{name} is not all finite")


def _quantised(values: NDArray[Any]) -> NDArray[np.int16]:
    """As the original's notebook: clipped at ±10, rounded half to even."""
    share = np.clip(values.astype(np.float64) / MOST_WEIGHT, -1.0, 1.0)
    return np.round(share * MOST_INTEGER).astype("<i2")


def _quantisation(name: str, values: NDArray[Any], integers: NDArray[np.int16]) -> Quantisation:
    errors = _weights(integers).astype(np.float64) - values
    return Quantisation(
        name,
        float(np.abs(errors).max(initial=0.0)),
        float(np.sqrt(np.mean(errors**2))),
        int((np.abs(values) > MOST_WEIGHT).sum()),
    )
