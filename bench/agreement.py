"""Nothing is timed that does not first compute what it is compared with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """The most by which outputs and gradients may differ, as a share of their norm."""

    output: float
    gradient: float


ON_CPU = Tolerance(1e-5, 1e-4)
# A GPU's exponentials are less exact; 16-bit storage rounds every output.
ON_GPU = Tolerance(1e-4, 1e-3)
IN_16_BIT = Tolerance(2e-2, 5e-2)


class DisagreementError(Exception):
    """Something does not compute what it should, so there is nothing to compare."""


def tolerance(like: Tensor) -> Tolerance:
    """What holds for tensors of this device and dtype."""
    if like.dtype in (torch.bfloat16, torch.float16):
        return IN_16_BIT
    return ON_GPU if like.device.type == "cuda" else ON_CPU


def check(
    name: str,
    expected: tuple[Tensor, tuple[Tensor, ...]],
    found: tuple[Tensor, tuple[Tensor, ...]],
    most: Tolerance = ON_CPU,
    whose: str = "ours",
) -> None:
    """Refuse what is called `name` where its output or gradients are not the expected ones.

    Raises:
        DisagreementError: names it, what differs and by how much.
    """
    (output, gradients), (found_output, found_gradients) = expected, found
    check_close(name, "the output", output, found_output, most.output, whose)
    pairs = zip(gradients, found_gradients, strict=True)
    for number, (gradient, found_gradient) in enumerate(pairs):
        what = f"gradient {number} of shape {list(gradient.shape)}"
        check_close(name, what, gradient, found_gradient, most.gradient, whose)


def check_close(
    name: str, what: str, expected: Tensor, found: Tensor, most: float, whose: str = "ours"
) -> None:
    """Compare by the norm of the difference over the norm of what is expected."""
    expected, found = expected.detach().double(), found.detach().double()
    error = float((expected - found).norm() / expected.norm())
    if not error <= most:
        raise DisagreementError(
            f"{name}: {what} differs from {whose} by {error:.1e} of its norm, more than {most:g}; "
            "no time is taken of things that differ"
        )
