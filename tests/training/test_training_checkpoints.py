"""Checkpoints are whole or not there, hold no code, and say what is wrong with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training.conftest import MODEL, TRAIN

from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import CheckpointError, Optimiser, checkpoints, load_model
from sketchrnn_fast.training.checkpoints import TrainingState


@pytest.fixture
def model() -> SketchRNN:
    torch.manual_seed(0)
    return SketchRNN(MODEL)


@pytest.fixture
def save(model: SketchRNN, tmp_path: Path) -> Callable[..., Path]:
    def save_state(step: int, best_step: int | None = None) -> Path:
        state = TrainingState(step, 1.0, best_step)
        optimiser = Optimiser(model.parameters(), 1.0)
        return checkpoints.save(tmp_path, model, TRAIN, optimiser, state)

    return save_state


def test_a_saved_model_loads_to_the_same_weights(
    model: SketchRNN, save: Callable[..., Path], tmp_path: Path
) -> None:
    model.scale_factor.fill_(18.5)
    folder = save(3, best_step=3)
    for path in (tmp_path, folder, str(folder)):
        loaded = load_model(path)
        assert loaded.config == model.config
        assert not loaded.training
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name


def test_only_the_best_and_the_last_are_kept(save: Callable[..., Path], tmp_path: Path) -> None:
    save(1, best_step=1)
    save(2, best_step=2)
    save(3, best_step=2)
    save(4, best_step=2)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best", "last", "step-2", "step-4"]
    assert checkpoints.find(tmp_path).name == "step-2"
    assert checkpoints.find(tmp_path, "last").name == "step-4"


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1, best_step=1)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(2, best_step=2)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best", "last", "step-1"]
    assert checkpoints.find(tmp_path, "last").name == "step-1"


def test_nothing_in_a_checkpoint_is_a_pickle(save: Callable[..., Path]) -> None:
    names = {path.name for path in save(1).iterdir()}
    assert names == {
        "model.safetensors",
        "optimizer.safetensors",
        "config.json",
        "training_state.json",
    }


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04not tensors")


def cut_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def reshape_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["output.linear.bias"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors")


def drop_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["output.linear.bias"]
    save_file(tensors, folder / "model.safetensors")


def add_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "foreign": torch.zeros(3)}, folder / "model.safetensors")


def break_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def list_json(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(["enc_model", "dec_model"]))


def foreign_cell(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model": {"enc_model": "gru"}}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_weights, "model.safetensors is damaged or no safetensors file"),
        (cut_weights, "model.safetensors is damaged or no safetensors file"),
        (reshape_weight, r"has shape \[3\] for output.linear.bias; the model takes \[15\]"),
        (drop_weight, "has nothing for output.linear.bias"),
        (add_weight, "has foreign, which the model does not know"),
        (break_json, "config.json is no JSON"),
        (list_json, "config.json holds no JSON object"),
        (foreign_cell, "enc_model is 'gru'; it takes lstm or layer_norm or hyper"),
        (no_config, "config.json is missing"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_a_sentence(
    damage: Callable[[Path], None], message: str, save: Callable[..., Path]
) -> None:
    folder = save(1)
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_pointer_cannot_lead_outside(save: Callable[..., Path], tmp_path: Path) -> None:
    folder = save(1, best_step=1)
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    (tmp_path / "checkpoints" / "best").write_text("../outside")
    with pytest.raises(CheckpointError, match="names no checkpoint beside it"):
        load_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model"):
        load_model(tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(tmp_path / "nowhere")
