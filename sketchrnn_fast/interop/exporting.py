"""Models of this project's into other forms."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import check_can_write
from sketchrnn_fast.interop import magenta_checkpoint, sketch_rnn_js
from sketchrnn_fast.interop.errors import ExportError
from sketchrnn_fast.interop.imported import Imported
from sketchrnn_fast.interop.sketch_rnn_js import Quantisation
from sketchrnn_fast.training import checkpoints
from sketchrnn_fast.training.metrics import FILE as METRICS
from sketchrnn_fast.training.optimiser import Optimiser


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        imported: the model, its training's hyper-parameters, step and moments.
        name: what it is called where a format has a place for that.
        figures: its losses by name, for a model card.
    """

    imported: Imported
    name: str
    figures: dict[str, float]


@dataclass(frozen=True)
class Report:
    """What an export did to the model.

    Attributes:
        quantisation: of each array, where weights were rounded to 16 bits.
        differences: of each part, between another runtime's results and PyTorch's.
    """

    quantisation: list[Quantisation]
    differences: dict[str, float]


def read_source(path: Path) -> Source:
    """A model from a checkpoint's folder, a run's log root, or a sketch-rnn-js file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if path.is_file() or path.suffix == ".json":
        imported = sketch_rnn_js.read_imported(path)
        return Source(imported, path.name.split(".")[0], {})
    folder = checkpoints.find(path)
    model = checkpoints.load_model(folder)
    _, train_config = checkpoints.read_config(folder)
    if not (folder / checkpoints.STATE).is_file():
        return Source(Imported(model, train_config), path.resolve().name, {})
    optimiser = Optimiser(model.parameters(), train_config.grad_clip)
    state = checkpoints.restore(folder, model, optimiser)
    moments = [optimiser.moments(parameter) for parameter in model.parameters()]
    imported = Imported(model.eval(), train_config, state.step, moments)
    return Source(imported, path.resolve().name, _figures(path, state.step))


def export_model(source: Source, form: str, out: Path, name: str | None = None) -> Report:
    """Write a model in another form.

    Args:
        form: one of `FORMS`.
        out: a file for the two JavaScript forms, a folder for the others.
        name: what the model is called there; the source's name if None.

    Raises:
        UserError: the form is unknown or cannot hold the model, a library is missing, or `out`
            cannot be written; told before any work where it can be known.
    """
    if form not in FORMS:
        raise UserError(f"format is {form!r}; it takes {', '.join(FORMS)}")
    write = FORMS[form]
    if form in _FILE_FORMS:
        check_can_write(out)
        return write(source, out, name or source.name)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is no empty folder; {form} writes a folder of its own")
    if not out.resolve().parent.is_dir():
        raise UserError(f"{out} cannot be written: there is no folder {out.parent}")
    partial = out.resolve().with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        report = write(source, partial, name or source.name)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return report


def _magenta_js(source: Source, out: Path, name: str) -> Report:
    model = source.imported.model
    return Report(sketch_rnn_js.write_model(model, out, name=name, decoder_only=True), {})


def _sketch_rnn_js(source: Source, out: Path, name: str) -> Report:
    return Report(sketch_rnn_js.write_model(source.imported.model, out, name=name), {})


def _tensorflow(source: Source, out: Path, name: str) -> Report:
    magenta_checkpoint.write_checkpoint(source.imported, out)
    return Report([], {})


def _onnx(source: Source, out: Path, name: str) -> Report:
    from sketchrnn_fast.interop.onnx_export import write_onnx

    return Report([], write_onnx(source.imported.model, out))


def _torch(source: Source, out: Path, name: str) -> Report:
    from sketchrnn_fast.interop.torch_export import write_programs

    write_programs(source.imported.model, out)
    return Report([], {})


def _hugging_face(source: Source, out: Path, name: str) -> Report:
    try:
        from sketchrnn_fast.interop.hub import HubSketchRNN
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed; Hugging Face folders need sketchrnn-fast[hub]"
        ) from None
    imported = source.imported
    HubSketchRNN.of(imported.model, imported.train_config, source.figures).save_pretrained(out)
    return Report([], {})


FORMS: dict[str, Callable[[Source, Path, str], Report]] = {
    "magenta-js": _magenta_js,
    "sketch-rnn-js": _sketch_rnn_js,
    "tensorflow": _tensorflow,
    "onnx": _onnx,
    "torch": _torch,
    "huggingface": _hugging_face,
}
_FILE_FORMS = ("magenta-js", "sketch-rnn-js")


def _figures(log_root: Path, step: int) -> dict[str, float]:
    """The losses of a checkpoint's step that the run has recorded, by split and name."""
    file = log_root / METRICS
    if not file.is_file():
        return {}
    figures: dict[str, float] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict) or record.get("step") != step:
            continue
        if record.get("split") in ("valid", "test"):
            for loss in ("cost", "reconstruction", "kl"):
                if isinstance(record.get(loss), float):
                    figures[f"{record['split']} {loss}"] = record[loss]
    return figures
