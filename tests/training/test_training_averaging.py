"""The moving average of the weights: its formula, beside the weights, resumed to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tolerances import assert_close
from training.conftest import MODEL, TRAIN

from sketchrnn_fast.data import load
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import (
    CheckpointError,
    Optimiser,
    Result,
    checkpoints,
    evaluate,
    load_model,
)
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.step import Step

Run = Callable[..., Result]


def test_an_average_follows_its_formula(polygons_folder: Path) -> None:
    splits = load(["polygons.npz"], polygons_folder)
    model = SketchRNN(replace(MODEL, max_seq_len=splits.max_seq_len))
    average = Average(model, 0.3)
    step = Step(model, Optimiser(model.parameters(), 1.0), splits.train, TRAIN, average=average)
    expected = [one.detach().double() for one in model.parameters()]
    for number in range(5):
        step(number)
        decay = min(0.3, (2 + number) / (11 + number))
        for index, parameter in enumerate(model.parameters()):
            expected[index] = decay * expected[index] + (1 - decay) * parameter.detach().double()
    for found, one in zip(average.weights, expected, strict=True):
        assert_close(found, one, torch.float32, "value")


def test_the_models_own_weights_are_back_after_the_average(polygons_folder: Path) -> None:
    model = SketchRNN(MODEL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = Average(model, 0.5)
    average.weights = [one + 1 for one in average.weights]
    with average.in_place():
        inside = {name: tensor.clone() for name, tensor in model.named_parameters()}
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor, before[name])
        assert torch.equal(inside[name], before[name] + 1)


def test_a_run_keeps_and_evaluates_the_average(run: Run, polygons_folder: Path) -> None:
    result = run(ema_decay=0.9, num_steps=6)
    raw, averaged = load_model(result.log_root), load_model(result.log_root, average=True)
    assert not torch.equal(raw.output.linear.weight, averaged.output.linear.weight)
    splits = load(["polygons.npz"], polygons_folder)
    lines = (result.log_root / "metrics.jsonl").read_text().splitlines()
    record = [one for one in map(json.loads, lines) if one["split"] == "valid"][-1]
    config = replace(TRAIN, ema_decay=0.9)
    assert record["cost"] == evaluate(raw, splits.valid, config, 6).cost
    assert record["ema_cost"] == evaluate(averaged, splits.valid, config, 6).cost


def test_an_average_does_not_change_the_run(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "without")
    run(tmp_path / "with", ema_decay=0.9)
    other = load_model(tmp_path / "with").state_dict()
    for name, tensor in load_model(tmp_path / "without").state_dict().items():
        assert torch.equal(tensor, other[name]), name


def test_a_resumed_average_equals_an_uninterrupted_one(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "whole", ema_decay=0.9, num_steps=6)
    run(tmp_path / "parts", ema_decay=0.9, num_steps=3)
    run(tmp_path / "parts", ema_decay=0.9, num_steps=6, resume=True)
    for average in (False, True):
        found, expected = (
            load_model(checkpoints.find(tmp_path / name, "last"), average=average).state_dict()
            for name in ("parts", "whole")
        )
        for name, tensor in expected.items():
            assert torch.equal(tensor, found[name]), name


def test_a_run_without_an_average_says_so(run: Run) -> None:
    result = run()
    with pytest.raises(CheckpointError, match="has no averaged weights; a run with ema_decay has"):
        load_model(result.log_root, average=True)


def test_a_checkpoint_that_lost_its_average_is_not_gone_on_from(run: Run) -> None:
    result = run(ema_decay=0.9)
    (checkpoints.find(result.log_root, "last") / "average.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"average.safetensors is missing"):
        run(ema_decay=0.9, num_steps=9, resume=True)


def test_micro_batches_train_as_whole_batches_do(run: Run, tmp_path: Path) -> None:
    """To rounding, which Adam makes larger where a gradient is all but zero."""
    whole, parts = run(tmp_path / "whole"), run(tmp_path / "parts", micro_batch_size=3)
    assert parts.state.best_cost == pytest.approx(whole.state.best_cost, rel=1e-4)
