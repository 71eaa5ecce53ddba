"""Checkpoints: folders of safetensors and JSON, written whole or not at all.

    LOG_ROOT/checkpoints/
        step-500/
            model.safetensors        weights, and the data's scale factor
            config.json              {"model": …, "train": …}
            average.safetensors      the same with the averaged weights, if the run has them
            optimizer.safetensors    Adam's moments, for resuming
            training_state.json      the fields of TrainingState
        best, last                   the name of a folder beside them

A folder is written under a temporary name, synced, and renamed; `best` and `last` are replaced
atomically. A kill at any moment leaves something whole. Nothing here is a pickle.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from sketchrnn_fast.config import ConfigError, ModelConfig, TrainConfig, from_json, to_json
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import sweep, sync, write_atomically
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.optimiser import Optimiser

FOLDER = "checkpoints"
MODEL, CONFIG = "model.safetensors", "config.json"
AVERAGE = "average.safetensors"
OPTIMISER, STATE = "optimizer.safetensors", "training_state.json"

# What is not yet, or no longer, a checkpoint.
_PARTIAL, _REPLACED = ".partial-", ".replaced-"
_NAME = re.compile(r"step-(\d+)")


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands.

    Attributes:
        step: steps done, those whose update was skipped included.
        best_cost, best_step: the best validation cost so far and when; None before the first.
        evaluated_step: the step of the last evaluation; None before the first.
        stale_evaluations: how many evaluations there were since the best.
        skipped: steps without an update, because a loss or a gradient was not finite.
    """

    step: int = 0
    best_cost: float | None = None
    best_step: int | None = None
    evaluated_step: int | None = None
    stale_evaluations: int = 0
    skipped: int = 0


_DEFAULTS = asdict(TrainingState())


def save(
    log_root: Path,
    model: SketchRNN,
    train_config: TrainConfig,
    optimiser: Optimiser,
    state: TrainingState,
    average: Average | None = None,
) -> Path:
    """Write the checkpoint of this step, point `last` (and `best`, if it is) to it, and prune.

    Raises:
        OSError: the disk is full or may not be written; what was there before is untouched.
    """
    folder = log_root / FOLDER
    if not folder.exists():
        folder.mkdir(parents=True)
        sync(log_root)
    mend(folder)
    final = folder / f"step-{state.step}"
    partial = folder / f"{_PARTIAL}{final.name}"
    try:
        partial.mkdir()
        (partial / MODEL).write_bytes(serialise(_contiguous(model.state_dict())))
        if average is not None:
            with average.in_place():
                (partial / AVERAGE).write_bytes(serialise(_contiguous(model.state_dict())))
        (partial / OPTIMISER).write_bytes(serialise(_contiguous(_moments(model, optimiser))))
        config = {"model": to_json(model.config), "train": to_json(train_config)}
        _write_json(partial / CONFIG, config)
        _write_json(partial / STATE, asdict(state))
        for file in partial.iterdir():
            sync(file)
        sync(partial)
        if final.exists():
            # The weights are the same, and nobody may see this state without its best.
            if state.best_step == state.step:
                _point(folder / "best", final.name)
            final.rename(folder / f"{_REPLACED}{final.name}")
        partial.rename(final)
        sync(folder)
    except BaseException:
        mend(folder)
        raise
    # `best` first: killed between the two, a run resumes from the old `last` and comes here again.
    if state.best_step is not None:
        _point(folder / "best", f"step-{state.best_step}")
    _point(folder / "last", final.name)
    _prune(folder, state.step, train_config.keep)
    return final


def mend(folder: Path) -> None:
    """Clear away what a kill left half done among the checkpoints of a run.

    Only for who holds the run's lock. A folder that was set aside for a new one of the same step
    gets its name back if the new one is not there.
    """
    for aside in folder.glob(f"{_REPLACED}*"):
        original = folder / aside.name.removeprefix(_REPLACED)
        if not original.exists():
            aside.rename(original)
    sweep(folder)
    for left_behind in (*folder.glob(f"{_REPLACED}*"), *folder.glob(f"{_PARTIAL}*")):
        shutil.rmtree(left_behind)


def load_model(path: str | os.PathLike[str], *, average: bool = False) -> SketchRNN:
    """Load a model, in evaluation mode.

    Args:
        path: a checkpoint's folder, or the log root of a run, whose best checkpoint is taken (the
            last, if there is no best yet).
        average: take the averaged weights, of a run with `ema_decay`.

    Raises:
        CheckpointError: there is no model, or it is damaged; the message says what was found.
    """
    folder = find(path)
    # Without memory of its own, so that sizes are compared before any is set aside.
    model = SketchRNN(read_config(folder)[0], device="meta")
    if average and not (folder / AVERAGE).is_file():
        raise CheckpointError(f"{folder} has no averaged weights; a run with ema_decay has them")
    _load_weights(model, folder / (AVERAGE if average else MODEL))
    return model.eval()


def resume(
    log_root: Path, model: SketchRNN, optimiser: Optimiser, average: Average | None = None
) -> TrainingState:
    """Set all to the last checkpoint of a run; gives where the run stands.

    Raises:
        CheckpointError: there is none, or it is damaged or of another model.
    """
    return restore(find(log_root, "last"), model, optimiser, average)


def restore(
    folder: Path, model: SketchRNN, optimiser: Optimiser, average: Average | None = None
) -> TrainingState:
    """Set all to a checkpoint; gives where its run stood.

    Raises:
        CheckpointError: it is damaged or of another model.
    """
    state = read_state(folder)
    _load_weights(model, folder / MODEL)
    if average is not None:
        with average.in_place():
            _load_weights(model, folder / AVERAGE)
    moments = _read_tensors(folder / OPTIMISER)
    expected = _moments(model, optimiser)
    _check_tensors(folder / OPTIMISER, moments, expected)
    names = [name for name, _ in model.named_parameters()]
    pairs = [(moments[f"{name}.mean"], moments[f"{name}.mean_square"]) for name in names]
    optimiser.restore(state.step - state.skipped, pairs)
    return state


def others(log_root: Path) -> list[str]:
    """The names of a run's checkpoints but for the last, in the order of their steps."""
    folder = log_root / FOLDER
    last = _read(folder / "last").decode(errors="replace").strip()
    return [f"step-{step}" for step in _steps(folder) if f"step-{step}" != last]


def read_state(folder: Path) -> TrainingState:
    """Where the run stood at a checkpoint.

    Raises:
        CheckpointError: that is missing, damaged, or not of this checkpoint.
    """
    file = folder / STATE
    values = _read_json(file)
    step, cost = values.get("step"), values.get("best_cost")
    if type(step) is not int or folder.name != f"step-{step}":
        raise CheckpointError(f"{file} has step {step!r}; it takes that of the folder's name")
    if cost is not None and not (type(cost) is float and math.isfinite(cost)):
        raise CheckpointError(f"{file} has best_cost {cost!r}; it takes a finite number or null")
    for name in ("best_step", "evaluated_step", "stale_evaluations", "skipped"):
        count = values.get(name, _DEFAULTS[name])
        is_count = type(count) is int and 0 <= count <= step
        if not is_count and not (count is None and _DEFAULTS[name] is None):
            raise CheckpointError(
                f"{file} has {name} {count!r}; it takes a whole number of at most {step}, its step"
            )
    unknown = set(values) - set(_DEFAULTS)
    if unknown:
        raise CheckpointError(f"{file} has {sorted(unknown)[0]}, which is not known here")
    return TrainingState(**values)


def find(path: str | os.PathLike[str], pointer: str | None = None) -> Path:
    """The checkpoint's folder that a path means: itself, or a run's `best` or `last`.

    Raises:
        CheckpointError: there is none, or it cannot be read; the message says what was found.
    """
    root = Path(path)
    if not root.exists():
        raise CheckpointError(f"{root} does not exist; a model is a folder")
    if pointer is None and (root / MODEL).is_file():
        return root
    for name in (pointer,) if pointer else ("best", "last"):
        file = root / FOLDER / name
        if file.is_file():
            target = _pointed(file)
            if target is not None:
                return target
            if pointer:
                raise CheckpointError(f"{file} names no checkpoint beside it")
    wanted = f"{FOLDER}/{pointer}" if pointer else f"{MODEL} nor {FOLDER}/best"
    raise CheckpointError(f"{root} holds no {'' if pointer else 'model: neither '}{wanted}")


def _pointed(file: Path) -> Path | None:
    """The folder that `best` or `last` names; None if that is gone.

    Raises:
        CheckpointError: it names something else than a checkpoint beside it.
    """
    name = _read(file).decode(errors="replace").strip()
    if not _NAME.fullmatch(name):
        raise CheckpointError(f"{file} names no checkpoint beside it")
    # A kill while a checkpoint replaces one of the same step leaves that under its other name.
    for folder in (file.parent / name, file.parent / f"{_REPLACED}{name}"):
        if (folder / MODEL).is_file():
            return folder
    return None


def read_config(folder: Path) -> tuple[ModelConfig, TrainConfig]:
    """The configurations of a checkpoint."""
    file = folder / CONFIG
    values = _read_json(file)
    try:
        return (
            from_json(ModelConfig, values["model"]),
            from_json(TrainConfig, values.get("train", {})),
        )
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not the configuration of a model: {error}") from None


def _load_weights(model: SketchRNN, file: Path) -> None:
    tensors = _read_tensors(file)
    _check_tensors(file, tensors, model.state_dict())
    is_empty = model.scale_factor.is_meta
    model.load_state_dict(tensors, assign=is_empty)
    for parameter in model.parameters():
        parameter.requires_grad_()


def _check_tensors(file: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        if name not in found:
            raise CheckpointError(f"{file} has nothing for {name}")
        one = found[name]
        if one.shape != tensor.shape or one.dtype != tensor.dtype:
            raise CheckpointError(
                f"{file} has {one.dtype} {list(one.shape)} for {name}; the model takes "
                f"{tensor.dtype} {list(tensor.shape)}"
            )
        if not bool(torch.isfinite(one).all()):
            raise CheckpointError(f"{file} has values in {name} that are not finite")
    surplus = set(found) - set(expected)
    if surplus:
        raise CheckpointError(f"{file} has {sorted(surplus)[0]}, which the model does not know")


def _moments(model: SketchRNN, optimiser: Optimiser) -> dict[str, Tensor]:
    tensors = {}
    for name, parameter in model.named_parameters():
        mean, mean_square = optimiser.moments(parameter)
        tensors[f"{name}.mean"], tensors[f"{name}.mean_square"] = mean, mean_square
    return tensors


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged or no safetensors file: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror or error}") from None
    return tensors


def _read_json(file: Path) -> dict[str, Any]:
    content = _read(file)
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return values


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from None


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _point(pointer: Path, name: str) -> None:
    """Have `best` or `last` name a checkpoint that is there."""
    content = f"{name}\n".encode()
    is_there = (pointer.parent / name).exists()
    if is_there and not (pointer.is_file() and pointer.read_bytes() == content):
        write_atomically(pointer, content)


def _prune(folder: Path, step: int, keep: int) -> None:
    """Remove the checkpoints that neither `best` nor `last` names, but for the newest `keep`.

    Those of later steps, which a kill may leave before `last` is written, are no part of the run.
    """
    named = {
        _read(folder / name).decode().strip()
        for name in ("best", "last")
        if (folder / name).is_file()
    }
    steps = [one for one in _steps(folder) if f"step-{one}" not in named]
    spared = set([one for one in steps if one < step][-keep:] if keep else [])
    for one in steps:
        if one not in spared:
            # Under another name first: half a checkpoint must not look like one.
            doomed = folder / f"{_PARTIAL}step-{one}"
            (folder / f"step-{one}").rename(doomed)
            shutil.rmtree(doomed)


def _steps(folder: Path) -> list[int]:
    """The steps of the checkpoints, ascending."""
    matches = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)
