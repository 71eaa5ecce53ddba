"""Ordinary, static and captured steps of one small model, and what makes two of them the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from drawings import polygons

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import SketchDataset
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import (
    Optimiser,
)
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.graphs import StaticStep
from sketchrnn_fast.training.step import Step, StepResult

CELLS = ("lstm", "layer_norm", "hyper")
each_cell = pytest.mark.parametrize("cell", CELLS)
each_objective = pytest.mark.parametrize("objective", ["magenta", "masked"])

MODEL = ModelConfig(
    enc_rnn_size=8,
    dec_rnn_size=16,
    z_size=4,
    num_mixture=2,
    hyper_num_units=5,
    hyper_embedding_size=3,
)
TRAIN = TrainConfig(batch_size=8)
DATASET = replace(SketchDataset.from_sketches(polygons(40)), classes=np.arange(40) % 3)


def make_step(
    kind: type[Step], cell: str, device: str = "cpu", model: ModelConfig = MODEL, **train: Any
) -> Step:
    """A step of a new model, with the same weights each time, and with an average of them."""
    config = replace(model, enc_model=cell, dec_model=cell, max_seq_len=DATASET.max_seq_len)
    torch.manual_seed(0)
    network = SketchRNN(config).to(device)
    return kind(
        network,
        Optimiser(network.parameters(), 1.0),
        DATASET,
        replace(TRAIN, **train),
        average=Average(network, 0.9),
    )


def figures(result: StepResult) -> list[float]:
    tensors = (*result.losses, result.gradient_norm, result.clip_fraction)
    return [float(one.detach()) for one in tensors if one is not None]


def assert_same_steps(first: Step, second: Step, count: int) -> None:
    """The same losses, gradients' figures, weights, moments and averages, to the bit."""
    for step in range(count):
        one, other = (taken(step, measure=True) for taken in (first, second))
        assert figures(one) == figures(other), step
        np.testing.assert_array_equal(one.indices, other.indices)
    assert first.retaken() is None
    assert second.retaken() is None
    for one, other in zip(first.optimiser.parameters, second.optimiser.parameters, strict=True):
        assert torch.equal(one, other)
        for pair in zip(first.optimiser.moments(one), second.optimiser.moments(other), strict=True):
            assert torch.equal(*pair)
    assert first.average is not None
    assert second.average is not None
    assert all(map(torch.equal, first.average.weights, second.average.weights))
    assert not any(map(torch.equal, first.average.weights, first.optimiser.parameters))


def poison(
    monkeypatch: pytest.MonkeyPatch, is_poisoned: Callable[[int], bool], retaken: bool = True
) -> None:
    """Make one gradient of some steps NaN; without `retaken` only in static steps."""
    check = Step.finiteness

    def finiteness(self: Any, losses: Any) -> torch.Tensor:
        if is_poisoned(self.taken):
            self.optimiser.parameters[0].grad.view(-1)[3] = float("nan")
        return check(self, losses)

    def noted(take: Callable[..., StepResult], is_noted: bool) -> Callable[..., StepResult]:
        def wrapped(self: Any, step: int, **options: Any) -> StepResult:
            self.taken = step if is_noted else -1
            return take(self, step, **options)

        return wrapped

    monkeypatch.setattr(Step, "finiteness", finiteness)
    monkeypatch.setattr(Step, "__call__", noted(Step.__call__, retaken))
    monkeypatch.setattr(StaticStep, "__call__", noted(StaticStep.__call__, True))
