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

    monkeypatch.setattr(checkpoints, "serialise", full_disk)
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


def retype_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["output.linear.bias"] = tensors["output.linear.bias"].double()
    save_file(tensors, folder / "model.safetensors")


def poison_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["output.linear.bias"][1] = float("nan")
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


def deep_json(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def change_model(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model"].update(fields)
    (folder / "config.json").write_text(json.dumps(config))


def huge_model(folder: Path) -> None:
    change_model(folder, dec_rnn_size=2**20)


def huger_model(folder: Path) -> None:
    change_model(folder, dec_rnn_size=10**12)


def huge_number(folder: Path) -> None:
    change_model(folder, recurrent_dropout_prob=10**400)


def foreign_cell(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model": {"enc_model": "gru"}}))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (retype_weight, "has torch.float64 .* for output.linear.bias"),
        (poison_weight, "has values in output.linear.bias that are not finite"),
        (deep_json, "config.json is no JSON"),
        (huge_model, r"has torch.float32 .* for .*; the model takes torch.float32"),
        (huger_model, "dec_rnn_size is 1000000000000; it must lie between 1 and 1048576"),
        (huge_number, "recurrent_dropout_prob is 1000"),
        (damage_weights, "model.safetensors is damaged or no safetensors file"),
        (cut_weights, "model.safetensors is damaged or no safetensors file"),
        (
            reshape_weight,
            r"has torch.float32 \[3\] for output.linear.bias; the model takes torch.float32 \[15\]",
        ),
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


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"step": "x"}, "has step 'x'; it takes that of the folder's name"),
        ({"step": -5}, "has step -5"),
        ({"step": 4}, "has step 4"),
        ({"step": 10**400}, "has step 1000"),
        ({"step": True}, "has step True"),
        ({}, "has step None"),
        ({"step": 3, "best_cost": "a"}, "has best_cost 'a'; it takes a finite number or null"),
        ({"step": 3, "best_cost": float("nan")}, "has best_cost nan"),
        ({"step": 3, "best_cost": 1.0, "best_step": 4}, "has best_step 4; it takes a whole number"),
        ({"step": 3, "evaluated_step": -1}, "has evaluated_step -1"),
        ({"step": 3, "stale_evaluations": None}, "has stale_evaluations None"),
        ({"step": 3, "skipped": 4}, "has skipped 4; it takes a whole number of at most 3"),
        ({"step": 3, "colour": "red"}, "has colour, which is not known here"),
    ],
)
def test_a_damaged_state_of_training_is_refused(
    state: dict[str, object],
    message: str,
    model: SketchRNN,
    save: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (save(3) / "training_state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=f"training_state.json {message}"):
        checkpoints.resume(tmp_path, model, Optimiser(model.parameters(), 1.0))


def test_a_kill_before_last_is_replaced_leaves_the_run_where_it_was(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1, best_step=1)
    write = checkpoints.write_atomically

    def killed(path: Path, content: bytes) -> None:
        if path.name == "last":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(checkpoints, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        save(2, best_step=2)
    assert checkpoints.find(tmp_path, "last").name == "step-1"
    assert checkpoints.find(tmp_path, "best").name == "step-2"
    monkeypatch.setattr(checkpoints, "write_atomically", write)
    save(2, best_step=2)
    assert checkpoints.find(tmp_path, "last").name == "step-2"


def test_a_best_that_is_gone_falls_back_to_the_last(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    save(1, best_step=1)
    save(2, best_step=1)
    shutil.rmtree(tmp_path / "checkpoints" / "step-1")
    assert checkpoints.find(tmp_path).name == "step-2"


def test_what_a_kill_left_half_written_is_swept_away(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    left_behind = tmp_path / "checkpoints" / ".partial-step-7"
    left_behind.mkdir(parents=True)
    save(8)
    assert not left_behind.exists()


def test_a_checkpoint_that_cannot_be_renamed_leaves_the_same_steps_one_before(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(1, best_step=1)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == ".partial-step-1":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        save(1, best_step=1)
    assert load_model(tmp_path).config == MODEL
