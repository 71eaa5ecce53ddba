"""Where a training step's time goes: data, encoder, decoder, loss, backward, optimiser.

The model's own `loss` runs; clocks stand around its encoder and its decoder. `loss` is what is left
of the forward pass: the posterior, the decoder's first state, the head and the mixture density.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import torch
from plan import Plan
from records import Record, record

from sketchrnn_fast.config import OBJECTIVES, ModelConfig, TrainConfig
from sketchrnn_fast.data import Splits
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser

PARTS = ("data", "encoder", "decoder", "loss", "backward", "optimiser")
WHOLE = "the whole step"


def records(plan: Plan, config: ModelConfig, name: str, splits: Splits, size: int) -> list[Record]:
    """A record for each part and objective; the peer is the whole step."""
    made = []
    for objective in OBJECTIVES:
        step = PartedStep(SketchRNN(config), splits, size, objective)
        case = f"{config.dec_model}, {objective}, B={size} of {name}"
        plan.measure(f"train: parts of {case}", {"step": step})
        turns = step.turns[1:]  # the first was the warm-up
        wholes = [sum(turn.values()) for turn in turns]
        for part in PARTS:
            samples = [turn[part] for turn in turns]
            one = record("train", f"{case}: {part}", WHOLE, samples, wholes)
            one["part"] = {"of": case, "name": part}
            made.append(one)
    return made


class PartedStep:
    """A training step that notes the seconds of its parts in `turns`, one dictionary a call."""

    def __init__(self, model: SketchRNN, splits: Splits, size: int, objective: str) -> None:
        self.model, self.splits, self.size, self.objective = model, splits, size, objective
        self.config = TrainConfig()
        self.optimiser = Optimiser(model.parameters(), self.config.grad_clip)
        self.turns: list[dict[str, float]] = []

    def __call__(self) -> None:
        turn = dict.fromkeys(PARTS, 0.0)
        with noted(turn, "data"):
            batch = datasets.batch_of(self.splits, self.size, seed=len(self.turns))
        start = time.perf_counter()
        with (
            noted_call(self.model, "encode", turn, "encoder"),
            noted_call(self.model.decoder, "forward", turn, "decoder"),
        ):
            losses = self.model.loss(*batch, objective=self.objective)
        forward = time.perf_counter() - start
        turn["loss"] = forward - turn["encoder"] - turn["decoder"]
        with noted(turn, "backward"):
            losses.total.backward()
        with noted(turn, "optimiser"):
            self.optimiser.step(self.config.learning_rate)
        self.turns.append(turn)


@contextmanager
def noted(turn: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    turn[part] += time.perf_counter() - start


@contextmanager
def noted_call(
    owner: torch.nn.Module, name: str, turn: dict[str, float], part: str
) -> Iterator[None]:
    """Note the time of every call of a method while the context lives."""
    method: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        with noted(turn, part):
            return method(*arguments, **options)

    object.__setattr__(owner, name, timed)
    try:
        yield
    finally:
        object.__delattr__(owner, name)
