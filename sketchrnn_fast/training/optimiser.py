"""Adam in TensorFlow's form, on gradients clipped by value, as the original trains.

TensorFlow adds its epsilon to √v before the correction of its bias:

    w -= lr · √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

PyTorch adds it after, which is the same arithmetic with ε / √(1 - β₂ᵗ) in its place; so PyTorch's
fused Adam serves, its epsilon set anew at each step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Optimiser:
    """Clips each element of the gradients and takes Adam's step.

    Args:
        parameters: what to train; float32 or float64.
        grad_clip: each element of a gradient is clipped to this magnitude.
    """

    def __init__(self, parameters: Iterable[Parameter], grad_clip: float) -> None:
        self.parameters = list(parameters)
        self.grad_clip = grad_clip
        self.steps = 0
        self._adam = torch.optim.Adam(self.parameters, betas=BETAS, eps=EPSILON, fused=True)

    def step(self, learning_rate: float) -> None:
        """Update the parameters from their gradients, and drop the gradients."""
        self.steps += 1
        torch.nn.utils.clip_grad_value_(self.parameters, self.grad_clip)
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
            group["eps"] = EPSILON / math.sqrt(1.0 - BETAS[1] ** self.steps)
        self._adam.step()
        self.drop()

    def drop(self) -> None:
        """Drop the gradients without an update."""
        self._adam.zero_grad(set_to_none=True)

    def moments(self, parameter: Parameter) -> tuple[Tensor, Tensor]:
        """The running means of the parameter's gradient and of its square; zeros before a step."""
        state = self._adam.state.get(parameter)
        if not state:
            return torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state["exp_avg"], state["exp_avg_sq"]

    def restore(self, steps: int, moments: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take up again after `steps` steps with these moments, one pair a parameter."""
        self.steps = steps
        for parameter, (mean, mean_square) in zip(self.parameters, moments, strict=True):
            self._adam.state[parameter] = {
                "step": torch.tensor(float(steps), device=parameter.device),
                "exp_avg": mean.to(parameter).clone(),
                "exp_avg_sq": mean_square.to(parameter).clone(),
            }
