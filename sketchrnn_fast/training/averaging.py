"""An exponential moving average of a model's weights, which often draws better than the last ones.

    average ← d · average + (1 − d) · weights,   d = min(decay, (1 + n) / (10 + n))

after the n-th update, from the initial weights on. The second term of the minimum, that of
TensorFlow's `ExponentialMovingAverage` with `num_updates`, lets the average of a short run forget
the initial weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sketchrnn_fast.nn import SketchRNN


class Average:
    """The average beside a model.

    Args:
        model: whose weights are averaged.
        decay: at least 0 and below 1.

    Attributes:
        weights: the averages, in the order of the model's parameters.
    """

    def __init__(self, model: SketchRNN, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.weights: list[Tensor] = [one.detach().clone() for one in model.parameters()]

    @torch.no_grad()
    def update(self, updates: Tensor, is_skipped: Tensor | None = None) -> None:
        """Take the model's weights in, after so many updates of them; waits for no device.

        Args:
            updates: float64 scalar of the weights' device.
            is_skipped: a scalar bool there: whether to leave everything as it is instead.
        """
        share = 1.0 - ((1 + updates) / (10 + updates)).clamp(max=self.decay)
        if is_skipped is not None:
            share = torch.where(is_skipped, 0.0, share)
        for average, weights in zip(self.weights, self.model.parameters(), strict=True):
            average.lerp_(weights, share.to(average.dtype))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages for its weights in the block, and its own again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for index, parameter in enumerate(self.model.parameters()):
            parameter.data, self.weights[index] = self.weights[index], parameter.data
