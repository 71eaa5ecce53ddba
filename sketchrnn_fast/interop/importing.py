"""Models from elsewhere into this project's folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sketchrnn_fast import data
from sketchrnn_fast.config import ConfigError
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.interop import magenta, magenta_checkpoint, published, sketch_rnn_js
from sketchrnn_fast.interop.errors import ModelFileError
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.training import checkpoints
from sketchrnn_fast.training.checkpoints import TrainingState
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.setup import check_log_root

JS_SUFFIXES = (".json", ".js")


def import_model(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    changes: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    scale_factor: float | None = None,
) -> Imported:
    """Read a model from elsewhere and write it as the log root of a run that stands there.

    Args:
        source: a path (a checkpoint's prefix, one of its files, a folder, a sketch-rnn-js file), or
            the name of a published model (`published.py`), which is downloaded.
        out: the log root; it must not hold a run yet.
        changes: hyper-parameters by name that replace the source's.
        data_dir: where the files of its data_set are, of which max_seq_len and the scale factor are
            then taken, as the original takes them whenever it loads a model to train on.
        scale_factor: data units per model unit, if no data_dir is given.

    Raises:
        UserError: there is no such source, it is damaged, or something does not fit; nothing is
            written.
    """
    out = Path(out)
    check_log_root(out, resume=False)
    if scale_factor is not None and not 0.0 < scale_factor < float("inf"):
        raise UserError(f"scale_factor is {scale_factor}; it must be a number above 0")
    if scale_factor is not None and data_dir is not None:
        raise UserError("data_dir and scale_factor are both given; the data has a scale factor")
    imported = read(source, changes)
    data_set = imported.train_config.data_set
    if data_dir is not None and not imported.data_set_named:
        raise UserError(
            f"{source} does not say what it was trained on; with a data_dir, name its files "
            'by the hyper-parameter data_set, for instance --hparams "data_set=[cat.npz]"'
        )
    is_built_in = imported.data_set_named and data_set == (data.hershey.NAME,)
    if data_dir is not None or (is_built_in and scale_factor is None):
        imported = _with_data(imported, data_dir, (changes or {}).get("max_seq_len"))
    elif scale_factor is not None:
        imported.model.scale_factor.fill_(scale_factor)
        unknown = magenta_checkpoint.scale_factor_note(data_set if imported.data_set_named else ())
        notes = [note for note in imported.notes if note != unknown]
        imported = replace(imported, notes=notes)
    write(imported, out)
    return imported


def read(source: str | os.PathLike[str], changes: Mapping[str, Any] | None = None) -> Imported:
    """A model from elsewhere, in memory.

    Raises:
        UserError: there is no such source, or it is damaged.
    """
    if isinstance(source, str) and published.is_name(source):
        with published.fetched(source) as path:
            return _read_path(path, changes)
    return _read_path(Path(source), changes)


def write(imported: Imported, log_root: Path) -> Path:
    """Write a model as a run's last checkpoint; gives the checkpoint's folder.

    Raises:
        OSError: it cannot be written.
    """
    model = imported.model
    optimiser = Optimiser(model.parameters(), imported.train_config.grad_clip)
    if imported.moments is not None:
        optimiser.restore(imported.step, imported.moments)
    state = TrainingState(imported.step)
    return checkpoints.save(log_root, model, imported.train_config, optimiser, state)


def _read_path(path: Path, changes: Mapping[str, Any] | None) -> Imported:
    if path.suffix in JS_SUFFIXES and not path.is_dir():
        return _changed(sketch_rnn_js.read_imported(path), changes or {})
    if magenta_checkpoint.is_checkpoint(path):
        return magenta_checkpoint.read_checkpoint(path, changes)
    if not path.exists():
        raise ModelFileError(
            f"{path} does not exist; a source is a path, or the name of a published model: "
            f"{published.FORMS}"
        )
    raise ModelFileError(
        f"{path} holds no model from elsewhere; read are Magenta's checkpoints (a folder or a "
        "prefix) and the .json and .js files of sketch-rnn-js"
    )


def _changed(imported: Imported, changes: Mapping[str, Any]) -> Imported:
    """The model of a sketch-rnn-js file with other hyper-parameters, but for its sizes."""
    model, train = imported.model.config, imported.train_config
    own = {name: value for name, value in changes.items() if hasattr(model, name)}
    for name in ("conditional", "num_classes", *_SIZES):
        if own.get(name, getattr(model, name)) != getattr(model, name):
            raise ConfigError(
                f"{name} is {own[name]!r}, but the file's is {getattr(model, name)!r}"
            )
    others = {name: value for name, value in changes.items() if hasattr(train, name)}
    changed = magenta.empty_model(replace(model, **own))
    changed.load_state_dict(imported.model.state_dict())
    return replace(imported, model=changed.eval(), train_config=replace(train, **others))


_SIZES = ("enc_model", "enc_rnn_size", "dec_model", "dec_rnn_size", "z_size", "num_mixture")


def _with_data(imported: Imported, data_dir: Path | None, max_seq_len: int | None) -> Imported:
    """The model with the scale factor and the longest sketch of its data."""
    names = imported.train_config.data_set
    splits = data.load(names, data_dir, max_seq_len)
    imported.model.config = replace(imported.model.config, max_seq_len=splits.max_seq_len)
    imported.model.scale_factor.fill_(splits.scale_factor)
    note = (
        f"max_seq_len {splits.max_seq_len} and the scale factor {splits.scale_factor:g} are those "
        f"of {', '.join(names)}"
    )
    return replace(imported, notes=[*imported.notes, note])
