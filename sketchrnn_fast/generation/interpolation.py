"""Interpolation: the sketches on a path through the latent space."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.generation.drawing import (
    Sketch,
    checked_sketches,
    draw,
    length_limit,
    sketch_seeds,
    temperature_of,
)
from sketchrnn_fast.generation.labels import Label, labels_of
from sketchrnn_fast.generation.latent import encode
from sketchrnn_fast.nn import SketchRNN

METHODS = ("slerp", "lerp")

# Below this sine of the angle, two directions are as good as parallel or opposite.
_LEAST_SINE = 1e-6


def lerp(start: Tensor, end: Tensor, t: float) -> Tensor:
    """(1 - t) start + t end."""
    return (1 - t) * start + t * end


def slerp(start: Tensor, end: Tensor, t: float) -> Tensor:
    """Spherical interpolation of z [Z]: with ω the angle between start and end,

        sin((1 - t) ω) / sin ω · start + sin(t ω) / sin ω · end

    Where the vectors are parallel, opposite, or one is zero, no arc is defined (the original gives
    NaN), and it is `lerp`. In float64; the result has start's dtype. Source: Shoemake 1985.
    """
    first, second = start.double(), end.double()
    norms = first.norm() * second.norm()
    if float(norms) == 0.0:
        return lerp(start, end, t)
    omega = torch.arccos((first @ second / norms).clamp(-1.0, 1.0))
    sine = torch.sin(omega)
    if float(sine) < _LEAST_SINE:
        return lerp(start, end, t)
    weights = torch.sin((1 - t) * omega) / sine, torch.sin(t * omega) / sine  # exactly 1 at its end
    return (weights[0] * first + weights[1] * second).to(start.dtype)


def latent_path(z: Tensor, steps: int, method: str = "slerp") -> Tensor:
    """The z on a path through the rows of z [M, Z], from each to the next in equal steps.

    Args:
        z: at least two rows.
        steps: drawings from one row to the next, both ends included; at least 2.
        method: `slerp` or `lerp`.

    Returns:
        [(M - 1) (steps - 1) + 1, Z]; every (steps - 1)-th row is a row of z.

    Raises:
        UserError: an argument lies outside what is accepted; the message names it.
    """
    if z.dim() != 2 or z.shape[0] < 2:
        raise UserError(f"z has shape {list(z.shape)}; a path takes at least two rows, [M, Z]")
    if steps < 2:
        raise UserError(f"steps is {steps}; it counts both ends, so it must be at least 2")
    if method not in METHODS:
        raise UserError(f"method is {method!r}; it takes {' or '.join(METHODS)}")
    between = slerp if method == "slerp" else lerp
    path = [
        between(start, end, i / (steps - 1)) for start, end in pairwise(z) for i in range(steps - 1)
    ]
    return torch.stack([*path, z[-1]])


def interpolate(
    model: SketchRNN,
    ends: Sequence[ArrayLike] | Tensor,
    steps: int = 10,
    *,
    method: str = "slerp",
    label: Label | None = None,
    temperature: float = 0.1,
    seed: int = 0,
    greedy: bool = False,
    mode: str = "magenta",
    max_len: int | None = None,
    storage: str = "float32",
) -> list[Sketch]:
    """Draw the sketches on the path from one z to the next.

    Args:
        model: conditional.
        ends: two or more stroke-3 sketches in data units, whose posterior means are taken, or
            their z [M, Z].
        steps, method: as `latent_path`.
        label: for a model with classes, the one of the whole path, by number or name.
        temperature, seed, greedy, mode, max_len, storage: as `sample`; sketch i of the path has
            the seed `seed + i`.

    Returns:
        (M - 1) (steps - 1) + 1 stroke-3 arrays in data units.

    Raises:
        UserError: the model is unconditional, an end is no sketch, or an argument lies outside what
            is accepted; the message names it.
    """
    if not model.config.conditional:
        raise UserError("this model is unconditional: it has no z to interpolate")
    limit = length_limit(model, 1, max_len)
    chosen = temperature_of(temperature, mode, greedy)
    if not isinstance(ends, Tensor):
        ends = checked_sketches(ends, "sketch")
    path_length = len(latent_path(torch.zeros(len(ends), 1), steps, method))
    classes = labels_of(model, label, path_length)
    path = latent_path(ends if isinstance(ends, Tensor) else encode(model, ends), steps, method)
    (drawn,) = draw(
        model,
        sketch_seeds(seed, len(path)),
        z=path,
        labels=classes,
        limit=limit,
        temperatures=[chosen],
        storage=storage,
    )
    return drawn
