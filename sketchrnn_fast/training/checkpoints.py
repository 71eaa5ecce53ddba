"""Checkpoints: folders of safetensors and JSON, written whole or not at all.

    LOG_ROOT/checkpoints/
        step-500/
            model.safetensors        weights, and the data's scale factor
            config.json              {"model": …, "train": …}
            optimizer.safetensors    Adam's moments, for resuming
            training_state.json      {"step": …, "best_cost": …, "best_step": …}
        best, last                   the name of a folder beside them

A folder is written under a temporary name, synced, and renamed; `best` and `last` are replaced
atomically. A kill at any moment leaves something whole. Nothing here is a pickle.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from sketchrnn_fast.config import ConfigError, ModelConfig, TrainConfig, from_json, to_json
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.files import sync, write_atomically
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training.optimiser import Optimiser

FOLDER = "checkpoints"
MODEL, CONFIG = "model.safetensors", "config.json"
OPTIMISER, STATE = "optimizer.safetensors", "training_state.json"


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or does not fit."""


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands.

    Attributes:
        step: updates done.
        best_cost, best_step: the best validation cost so far and when; None before the first.
    """

    step: int = 0
    best_cost: float | None = None
    best_step: int | None = None


def save(
    log_root: Path,
    model: SketchRNN,
    train_config: TrainConfig,
    optimiser: Optimiser,
    state: TrainingState,
) -> Path:
    """Write the checkpoint of this step, point `last` (and `best`, if it is) to it, and prune.

    Raises:
        OSError: the disk is full or may not be written; what was there before is untouched.
    """
    folder = log_root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{state.step}"
    partial = folder / f".partial-step-{state.step}"
    replaced = folder / f".partial-replaced-{state.step}"
    for left_behind in folder.glob(".partial-*"):
        _remove(left_behind)
    partial.mkdir()
    try:
        (partial / MODEL).write_bytes(serialise(_contiguous(model.state_dict())))
        (partial / OPTIMISER).write_bytes(serialise(_contiguous(_moments(model, optimiser))))
        config = {"model": to_json(model.config), "train": to_json(train_config)}
        _write_json(partial / CONFIG, config)
        _write_json(partial / STATE, state.__dict__)
        for file in partial.iterdir():
            sync(file)
        sync(partial)
        if final.exists():
            final.rename(replaced)
        partial.rename(final)
        _remove(replaced)
    except BaseException:
        _remove(partial)
        if replaced.exists() and not final.exists():
            replaced.rename(final)
        raise
    sync(folder)
    # `best` first: killed between the two, a run resumes from the old `last` and comes here again.
    if state.best_step == state.step:
        write_atomically(folder / "best", f"{final.name}\n".encode())
    write_atomically(folder / "last", f"{final.name}\n".encode())
    _prune(folder)
    return final


def load_model(path: str | os.PathLike[str]) -> SketchRNN:
    """Load a model, in evaluation mode.

    Args:
        path: a checkpoint's folder, or the log root of a run, whose best checkpoint is taken (the
            last, if there is no best yet).

    Raises:
        CheckpointError: there is no model, or it is damaged; the message says what was found.
    """
    folder = find(path)
    # Without memory of its own, so that sizes are compared before any is set aside.
    model = SketchRNN(read_config(folder)[0], device="meta")
    _load_weights(model, folder)
    return model.eval()


def resume(log_root: Path, model: SketchRNN, optimiser: Optimiser) -> TrainingState:
    """Set model and optimiser to the last checkpoint of a run; gives where the run stands.

    Raises:
        CheckpointError: there is none, or it is damaged or of another model.
    """
    return restore(find(log_root, "last"), model, optimiser)


def restore(folder: Path, model: SketchRNN, optimiser: Optimiser) -> TrainingState:
    """Set model and optimiser to a checkpoint; gives where its run stood.

    Raises:
        CheckpointError: it is damaged or of another model.
    """
    state = read_state(folder)
    _load_weights(model, folder)
    moments = _read_tensors(folder / OPTIMISER)
    expected = _moments(model, optimiser)
    _check_tensors(folder / OPTIMISER, moments, expected)
    names = [name for name, _ in model.named_parameters()]
    pairs = [(moments[f"{name}.mean"], moments[f"{name}.mean_square"]) for name in names]
    optimiser.restore(state.step, pairs)
    return state


def read_state(folder: Path) -> TrainingState:
    """Where the run stood at a checkpoint.

    Raises:
        CheckpointError: that is missing, damaged, or not of this checkpoint.
    """
    file = folder / STATE
    values = _read_json(file)
    step, cost, best = (values.get(name) for name in ("step", "best_cost", "best_step"))
    if not (
        (type(step) is int and folder.name == f"step-{step}")
        and (cost is None or (type(cost) is float and math.isfinite(cost)))
        and (best is None or (type(best) is int and 0 <= best <= step))
    ):
        raise CheckpointError(
            f"{file} has step {step!r}, best_cost {cost!r} and best_step {best!r}; it takes whole "
            "numbers of steps, the first as in the folder's name, and a finite cost"
        )
    return TrainingState(step, cost, best)


def find(path: str | os.PathLike[str], pointer: str | None = None) -> Path:
    """The checkpoint's folder that a path means: itself, or a run's `best` or `last`."""
    root = Path(path)
    if not root.exists():
        raise CheckpointError(f"{root} does not exist; a model is a folder")
    if pointer is None and (root / MODEL).is_file():
        return root
    for name in (pointer,) if pointer else ("best", "last"):
        file = root / FOLDER / name
        if file.is_file():
            target = root / FOLDER / file.read_text(encoding="utf-8", errors="replace").strip()
            if (target / MODEL).is_file() and target.parent == root / FOLDER:
                return target
            if pointer or target.parent != root / FOLDER:
                raise CheckpointError(f"{file} names no checkpoint beside it")
    wanted = f"{FOLDER}/{pointer}" if pointer else f"{MODEL} nor {FOLDER}/best"
    raise CheckpointError(f"{root} holds no {'' if pointer else 'model: neither '}{wanted}")


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


def _load_weights(model: SketchRNN, folder: Path) -> None:
    file = folder / MODEL
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
    return tensors


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return values


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _prune(folder: Path) -> None:
    """Remove the checkpoints that neither `best` nor `last` names."""
    kept = {
        (folder / name).read_text(encoding="utf-8").strip()
        for name in ("best", "last")
        if (folder / name).is_file()
    }
    for checkpoint in folder.glob("step-*"):
        if checkpoint.name not in kept:
            _remove(checkpoint)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
