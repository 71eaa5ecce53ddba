"""Magenta's training folders: a TensorFlow V2 checkpoint and its `model_config.json`.

    checkpoint                          text: which checkpoint is the newest
    vector-500.index, vector-500.data…  the variables (`bundle.py`); published ones are `vector.…`
    model_config.json                   the hyper-parameters

Of `model_config.json` three forms exist: an object whose booleans are true and false; one whose
booleans are 1 and 0 (the published ones); and, since 2020, a list of the names alone, a defect.
The cells and sizes are therefore read off the variables' shapes, and what the file says must agree
with them; the rest of the list form is the defaults.

The scale factor of the data is in none of these files: the original computes it from the data.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketchrnn_fast.config import (
    IGNORED_HPARAMS,
    ConfigError,
    ModelConfig,
    field_types,
    split_hparams,
    to_json,
)
from sketchrnn_fast.files import write_atomically
from sketchrnn_fast.interop import magenta
from sketchrnn_fast.interop.bundle import Bundle, index_file, write_bundle
from sketchrnn_fast.interop.errors import ModelFileError, check_classless, quoted
from sketchrnn_fast.interop.imported import Imported, Moments
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training.optimiser import BETAS

CONFIG, CHECKPOINT = "model_config.json", "checkpoint"
CELLS = {"LSTMCell": "lstm", "LayerNormLSTMCell": "layer_norm", "HyperLSTMCell": "hyper"}
# Standard deviations of the offsets in the training splits (model_spec 10), which the original
# divides them by.
SCALE_FACTORS = {
    "aaron_sheep.npz": 18.519829,
    "kanji.rdp100.npz": 20.083822,
    "kanji.rdp200.npz": 22.730356,
    "short_kanji.npz": 99.71245,
    "omniglot.npz": 53.43705,
}
_ROOT = "vector_rnn"
_MOST_CONFIG_BYTES = 1 << 20
_BUNDLE_FILE = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})")
_NEWEST = re.compile(r'^model_checkpoint_path:\s*"([^"\\]*)"', re.MULTILINE)


def read_checkpoint(
    source: str | os.PathLike[str], changes: Mapping[str, Any] | None = None
) -> Imported:
    """Read one of Magenta's checkpoints: weights, hyper-parameters, Adam's moments.

    Args:
        source: a training folder, a checkpoint's prefix, or one of its files.
        changes: hyper-parameters by name that replace those of `model_config.json`.

    Raises:
        ModelFileError: a file is missing or damaged, a variable is missing or of another shape,
            or the configuration says something else than the variables.
    """
    prefix = find_prefix(Path(source))
    variables = Bundle(prefix)
    index = index_file(prefix)
    notes: list[str] = []
    try:
        found = sizes_of(variables.shapes)
    except ModelFileError as error:
        raise ModelFileError(f"{index}: {error}") from None
    file = prefix.with_name(CONFIG)
    values = _read_config(file, notes)
    if "max_seq_len" not in {**values, **(changes or {})}:
        notes.append(
            f"the longest sketch is not known: max_seq_len is {ModelConfig().max_seq_len}, the "
            "default"
        )
    values.update(changes or {})
    for name, value in found.items():
        if values.setdefault(name, value) != value:
            raise ModelFileError(
                f"{file}: {name} is {quoted(values[name])}, but {index} has {value!r}"
            )
    try:
        model_config, train_config = split_hparams(values)
    except ConfigError as error:
        raise ModelFileError(f"{file}: {error}") from None
    try:
        model = magenta.empty_model(model_config)
        magenta.check_shapes(model, variables.shapes)
        magenta.load_variables(model, variables)
        step, moments = _read_progress(model, variables, notes)
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"{index}: {error}") from None
    data_set = train_config.data_set if "data_set" in values else ()
    factor = SCALE_FACTORS.get(data_set[0]) if len(data_set) == 1 else None
    model.scale_factor.fill_(1.0 if factor is None else factor)
    if factor is None:
        notes.append(scale_factor_note(data_set))
    return Imported(model.eval(), train_config, step, moments, notes, bool(data_set))


def find_prefix(source: Path) -> Path:
    """The checkpoint that a path means: that prefix, or the newest of a folder.

    Raises:
        ModelFileError: there is none.
    """
    if source.is_dir():
        return _newest(source)
    match = _BUNDLE_FILE.fullmatch(source.name)
    prefix = source if match is None else source.with_name(match["prefix"])
    if not index_file(prefix).is_file():
        raise ModelFileError(
            f"{source} is no checkpoint: there is no file {index_file(prefix).name} beside it"
        )
    return prefix


def is_checkpoint(source: Path) -> bool:
    """Whether a path looks like one of Magenta's checkpoints, to choose its reader by."""
    if source.is_dir():
        return (source / CHECKPOINT).is_file() or any(source.glob("*.index"))
    return bool(_BUNDLE_FILE.fullmatch(source.name)) or index_file(source).is_file()


def sizes_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The cells and sizes that a checkpoint's variables have, by hyper-parameter.

    Raises:
        ModelFileError: a variable that says so is missing or has an impossible shape.
    """

    def size(name: str, rank: int = 2) -> int:
        shape = shapes.get(f"{_ROOT}/{name}")
        if shape is None or len(shape) != rank or shape[0] < 1:
            found = "missing" if shape is None else f"of shape {list(shape)}"
            raise ModelFileError(f"it is no Sketch-RNN: the variable {_ROOT}/{name} is {found}")
        return shape[0]

    def cell(scope: str) -> str:
        for name in CELLS:
            if f"{_ROOT}/{scope}/{name}/W_hh" in shapes:
                return name
        raise ModelFileError(
            f"it is no Sketch-RNN: {_ROOT}/{scope} has no cell that is {' or '.join(CELLS)}"
        )

    decoder = cell("RNN")
    columns = size("RNN/output_b", 1)
    if columns < 9 or columns % 6 != 3:
        raise ModelFileError(f"{_ROOT}/RNN/output_b has {columns} columns; K Gaussians take 6K + 3")
    sizes: dict[str, Any] = {
        "conditional": any(name.startswith(f"{_ROOT}/ENC_RNN/") for name in shapes),
        "dec_model": CELLS[decoder],
        "dec_rnn_size": size(f"RNN/{decoder}/W_hh"),
        "num_mixture": (columns - 3) // 6,
    }
    scopes = [f"RNN/{decoder}"]
    if sizes["conditional"]:
        encoder = cell("ENC_RNN/fw")
        sizes["enc_model"] = CELLS[encoder]
        sizes["enc_rnn_size"] = size(f"ENC_RNN/fw/{encoder}/W_hh")
        sizes["z_size"] = size("linear/super_linear_w")
        scopes.append(f"ENC_RNN/fw/{encoder}")
    for scope in scopes:
        if scope.endswith("HyperLSTMCell"):
            sizes["hyper_num_units"] = size(f"{scope}/LayerNormLSTMCell/W_hh")
            sizes["hyper_embedding_size"] = size(f"{scope}/hyper_ix/zw/super_linear_b", 1)
    return sizes


def write_checkpoint(imported: Imported, folder: str | os.PathLike[str]) -> Path:
    """Write a folder as Magenta's trainer leaves one; gives the checkpoint's prefix.

    Weights, Adam's moments (zeros where there are none) and step; the scale factor is not part of
    that format. TensorFlow and the original read it, and the original's trainer goes on from it.

    Raises:
        ExportError: the model has classes, of which the original knows nothing.
        OSError: it cannot be written.
    """
    check_classless(imported.model.config, "Magenta's models have")
    folder = Path(folder)
    model, step, train = imported.model, imported.step, imported.train_config
    arrays: dict[str, NDArray[Any]] = dict(magenta.variables(model))
    arrays.update(magenta.moment_variables(model, imported.moments))
    # The original's training graph, and its evaluation graph, whose numbers never move.
    for root, updates in ((_ROOT, step), (f"{_ROOT}_1", 0)):
        arrays[f"{root}/global_step"] = np.array(updates, np.int32)
        arrays[f"{root}/Variable"] = np.array(train.learning_rate, np.float32)
        arrays[f"{root}/Variable_1"] = np.array(train.kl_weight_start, np.float32)
        for number, beta in enumerate(BETAS, start=1):
            power = np.array(beta ** (updates + 1), np.float32)
            arrays[f"{root}/beta{number}_power"] = power
    prefix = folder / f"vector-{step}"
    hyper_parameters = {**to_json(train), **to_json(model.config), "is_training": True}
    kept = {name: hyper_parameters[name] for name in hyper_parameters if name in _MAGENTAS}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CONFIG, json.dumps(kept, indent=1).encode() + b"\n")
    write_bundle(prefix, arrays)
    newest = "".join(
        f'{name}: "{prefix.name}"\n'
        for name in ("model_checkpoint_path", "all_model_checkpoint_paths")
    )
    write_atomically(folder / CHECKPOINT, newest.encode())
    return prefix


# The original's hyper-parameters; its reader refuses a file with any other.
_MAGENTAS = (
    *("data_set", "num_steps", "save_every", "max_seq_len", "dec_rnn_size", "dec_model"),
    *("enc_rnn_size", "enc_model", "z_size", "kl_weight", "kl_weight_start", "kl_tolerance"),
    *("batch_size", "grad_clip", "num_mixture", "learning_rate", "decay_rate", "kl_decay_rate"),
    *("min_learning_rate", "use_recurrent_dropout", "recurrent_dropout_prob", "use_input_dropout"),
    *("input_dropout_prob", "use_output_dropout", "output_dropout_prob", "random_scale_factor"),
    *("augment_stroke_prob", "conditional", "is_training"),
)


def _newest(folder: Path) -> Path:
    pointer = folder / CHECKPOINT
    if pointer.is_file():
        match = _NEWEST.search(pointer.read_bytes()[:65536].decode("utf-8", "replace"))
        # The path may be absolute, from before the folder was moved: its last part counts.
        name = re.split(r"[/\\]", match[1])[-1] if match else ""
        if name and index_file(folder / name).is_file():
            return folder / name
        if match is None or name:
            what = "names no checkpoint" if match is None else f"names {quoted(name)}, not there"
            raise ModelFileError(f"{pointer} {what}")
    prefixes = sorted(file.with_suffix("") for file in folder.glob("*.index"))
    if len(prefixes) != 1:
        names = ", ".join(prefix.name for prefix in prefixes) or "none"
        raise ModelFileError(
            f"{folder} holds no file {CHECKPOINT}, and of checkpoints {names}; name one"
        )
    return prefixes[0]


def _read_config(file: Path, notes: list[str]) -> dict[str, Any]:
    """The hyper-parameters of a `model_config.json`, in whichever of its forms it is."""
    if not file.is_file():
        notes.append(f"there is no {CONFIG}: cells and sizes are the variables', the rest defaults")
        return {}
    with file.open("rb") as stream:
        content = stream.read(_MOST_CONFIG_BYTES + 1)
    if len(content) > _MOST_CONFIG_BYTES:
        raise ModelFileError(f"{file} has more than {_MOST_CONFIG_BYTES} bytes")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise ModelFileError(f"{file} is no JSON, or it is cut short") from None
    if isinstance(values, list):
        notes.append(
            f"{CONFIG} holds only names, as the original's later versions write it: cells and "
            "sizes are the variables', the rest defaults"
        )
        return {}
    if not isinstance(values, dict):
        raise ModelFileError(f"{file} is {quoted(values)}; it takes an object or a list of names")
    return _typed(values, notes)


def _typed(values: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    types = field_types()
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name in IGNORED_HPARAMS:
            continue
        if name not in types:
            notes.append(f"{CONFIG} has {quoted(name)}, which is not known: left aside")
        elif types[name] is bool and type(value) is int and value in (0, 1):
            typed[name] = bool(value)
        elif name == "data_set" and isinstance(value, str):
            typed[name] = (value,)
        elif isinstance(value, list):
            typed[name] = tuple(value)
        else:
            typed[name] = value
    return typed


def _read_progress(
    model: SketchRNN, variables: Bundle, notes: list[str]
) -> tuple[int, Moments | None]:
    name = f"{_ROOT}/global_step"
    if name not in variables:
        notes.append("there is no global_step: it counts as untrained, without Adam's moments")
        return 0, None
    value = variables[name]
    if value.shape != () or value.dtype.kind != "i" or not 0 <= int(value) < 2**53:
        raise ValueError(f"{name} is {quoted(value.tolist())}; it takes a number of steps")
    moments = magenta.load_moments(model, variables)
    if moments is None:
        notes.append("there are no moments of Adam's: training goes on with zeros")
    return int(value), moments


def scale_factor_note(data_set: tuple[str, ...]) -> str:
    """What an import says where the scale factor is not known; without a data_set, nor is that."""
    whose = ", ".join(data_set) or "what it was trained on"
    return (
        f"the scale factor of {whose} is not known: it is 1, so that sketches come in the model's "
        "own units"
    )
