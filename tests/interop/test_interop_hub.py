"""Hugging Face-style folders: saved, loaded, with a card, and refused where damaged."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from small_models import make_model

from sketchrnn_fast import SketchRNN, TrainConfig, generation
from sketchrnn_fast.interop.hub import HubSketchRNN
from sketchrnn_fast.training import CheckpointError, load_model

TRAIN = TrainConfig(data_set=("polygons.npz",), kl_weight=0.25)
FIGURES = {"test cost": 1.25, "test kl": 0.2}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a local folder was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def saved(folder: Path, **changes: object) -> SketchRNN:
    model = make_model(**changes).eval()
    model.scale_factor.fill_(12.5)
    HubSketchRNN.of(model, TRAIN, FIGURES).save_pretrained(folder)
    return model


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("cell", ["lstm", "layer_norm", "hyper"])
@pytest.mark.parametrize("conditional", [True, False])
def test_a_saved_model_is_loaded_exactly(tmp_path: Path, cell: str, conditional: bool) -> None:
    model = saved(tmp_path / "model", enc_model=cell, dec_model=cell, conditional=conditional)
    again = HubSketchRNN.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    assert again.train_config == TRAIN
    assert not again.training
    expected = model.state_dict()
    assert list(again.state_dict()) == list(expected)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    drawn = generation.sample(again, 2, seed=1)
    for sketch, wanted in zip(drawn, generation.sample(model, 2, seed=1), strict=True):
        assert (sketch == wanted).all()


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("conditional", [True, False])
def test_a_model_with_classes_keeps_them(tmp_path: Path, conditional: bool) -> None:
    classes = {"num_classes": 2, "class_names": ("cat", "bus")}
    model = saved(tmp_path / "model", conditional=conditional, **classes)
    again = HubSketchRNN.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    assert torch.equal(again.label_embedding.weight, model.label_embedding.weight)
    drawn = generation.sample(again, 2, labels="bus", seed=1)
    wanted = generation.sample(model, 2, labels=1, seed=1)
    for sketch, other in zip(drawn, wanted, strict=True):
        assert (sketch == other).all()
    assert "| classes | cat, bus |" in (tmp_path / "model" / "README.md").read_text()


def test_a_card_counts_classes_without_names(tmp_path: Path) -> None:
    saved(tmp_path / "model", num_classes=2)
    assert "| classes | 2 |" in (tmp_path / "model" / "README.md").read_text()


def test_a_loaded_model_trains_and_is_saved_again(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    model = HubSketchRNN.from_pretrained(tmp_path / "model").train()
    strokes = torch.zeros(2, 5, 5)
    strokes[..., 2] = 1
    model.loss(strokes, torch.tensor([3, 4])).total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.save_pretrained(tmp_path / "again")
    assert HubSketchRNN.from_pretrained(str(tmp_path / "again")).train_config == TRAIN


def test_every_command_takes_the_folder_for_a_model(tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert torch.equal(again.output.linear.weight, model.output.linear.weight)
    assert float(again.scale_factor) == 12.5


def test_the_card_says_what_the_model_is_and_its_figures(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "sketchrnn-fast"
    assert "sketch-rnn" in card.data.tags
    for text in (
        "| test cost | 1.2500 |",
        "polygons.npz",
        "lstm 8, both ways; z of 6; lstm decoder of 16, 3 Gaussians",
        "![Drawn by the model](samples.svg)",
    ):
        assert text in card.text
    assert (tmp_path / "model" / "samples.svg").read_text().startswith("<svg")


def test_the_code_on_the_card_runs(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    code = code.replace("this folder, or its name on the Hub", str(tmp_path / "model"))
    names: dict[str, object] = {}
    exec(code, names)
    assert len(names["sketches"]) == 16  # type: ignore[arg-type]


def test_what_is_damaged_or_no_model_is_one_sentence(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    for text in ("[1, 2]", "{", json.dumps({"model": {"z_size": 0}})):
        config.write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            HubSketchRNN.from_pretrained(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no model"):
        HubSketchRNN.from_pretrained(tmp_path / "empty")


def test_a_pickle_beside_the_weights_is_not_looked_at(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    trap = tmp_path / "sprung"
    hostile = f"cos\nsystem\n(S'touch {trap}'\ntR.".encode()
    for name in ("pytorch_model.bin", "model.pkl", "training_args.bin"):
        (tmp_path / "model" / name).write_bytes(hostile)
    HubSketchRNN.from_pretrained(tmp_path / "model")
    assert not trap.exists()
