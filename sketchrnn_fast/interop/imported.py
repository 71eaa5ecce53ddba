"""What an importer makes of a model's file from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.nn import SketchRNN

Moments = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Imported:
    """A model from elsewhere, and how far it had been trained.

    Attributes:
        model: in evaluation mode, its scale factor set where the source says it.
        train_config: what the source says of its training; defaults elsewhere.
        step: updates done.
        moments: Adam's running means of the gradient and of its square, one pair a parameter, in
            the order of `model.parameters()`; None where the source has none.
        notes: one sentence for each thing that the source did not say or that was left aside.
        data_set_named: whether the source, or who imports it, says what it was trained on; if not,
            the data_set of train_config is only the default.
    """

    model: SketchRNN
    train_config: TrainConfig
    step: int = 0
    moments: Moments | None = None
    notes: list[str] = field(default_factory=list)
    data_set_named: bool = True
