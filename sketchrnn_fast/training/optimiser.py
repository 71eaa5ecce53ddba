"""Adam in TensorFlow's form, on gradients clipped by value, as the original trains.

TensorFlow adds its epsilon to √v before the correction of its bias:

    w -= lr · √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)

PyTorch adds it after. Its fused kernel serves all the same: told that infinitely many steps went
before, it corrects nothing, and the correction goes into the learning rate.

Nothing here waits for a device: the count t is a tensor, the learning rate may be one, and so may
the word on whether to leave the step out. A CUDA graph can hold a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.adam import adam

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Optimiser:
    """Clips each element of the gradients and takes Adam's step.

    Args:
        parameters: what to train, at least one; float32 or float64, all on one device.
        grad_clip: each element of a gradient is clipped to this magnitude.
    """

    def __init__(self, parameters: Iterable[Parameter], grad_clip: float) -> None:
        self.parameters = list(parameters)
        self.grad_clip = grad_clip
        self._moments = {
            parameter: (torch.zeros_like(parameter.detach()), torch.zeros_like(parameter.detach()))
            for parameter in self.parameters
        }
        device = self.parameters[0].device
        self._steps = torch.zeros((), dtype=torch.float64, device=device)
        self._never = torch.zeros((), dtype=torch.bool, device=device)
        self._infinity = torch.full((), math.inf, device=device)

    @property
    def count(self) -> Tensor:
        """How many steps were taken, a float64 scalar of the parameters' device."""
        return self._steps

    @property
    def steps(self) -> int:
        """How many steps were taken; reading it waits for the device."""
        return int(self._steps)

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor, is_skipped: Tensor | None = None) -> None:
        """Update the parameters from their gradients, and drop the gradients.

        Args:
            learning_rate: as a tensor of the parameters' device, a scalar.
            is_skipped: a scalar bool on that device: whether to leave everything as it is instead.
        """
        skipped = self._never if is_skipped is None else is_skipped
        trained = [one for one in self.parameters if one.grad is not None]
        torch.nn.utils.clip_grad_value_(trained, self.grad_clip)
        self._steps += ~skipped
        correction = (1 - BETAS[1] ** self._steps).sqrt() / (1 - BETAS[0] ** self._steps)
        rate = learning_rate * correction
        if rate.is_cuda:
            rate = rate.float()  # all that the kernel there takes
        adam(
            [one.detach() for one in trained],
            [one.grad for one in trained if one.grad is not None],
            [self._moments[one][0] for one in trained],
            [self._moments[one][1] for one in trained],
            [],
            [self._infinity] * len(trained),
            fused=True,
            found_inf=skipped.float(),
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        self.drop()

    def drop(self) -> None:
        """Drop the gradients without an update."""
        for parameter in self.parameters:
            parameter.grad = None

    def moments(self, parameter: Parameter) -> tuple[Tensor, Tensor]:
        """The running means of the parameter's gradient and of its square; zeros before a step."""
        return self._moments[parameter]

    def restore(self, steps: int, moments: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take up again after `steps` steps with these moments, one pair a parameter."""
        self._steps.fill_(steps)
        for parameter, pair in zip(self.parameters, moments, strict=True):
            for own, given in zip(self._moments[parameter], pair, strict=True):
                own.copy_(given)
