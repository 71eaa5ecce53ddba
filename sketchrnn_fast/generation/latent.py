"""Where z comes from: the prior, and the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.generation.drawing import checked_sketches, sketch_seeds
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.nn.modes import evaluating
from sketchrnn_fast.nn.sketch_rnn import Posterior
from sketchrnn_fast.reference import philox
from sketchrnn_fast.strokes import pad_to_stroke5

BATCH = 100


def prior(model: SketchRNN, count: int, seed: int = 0) -> Tensor:
    """z [count, Z] from N(0, I), row i a pure function of `seed + i`."""
    weight = model.output.linear.weight
    keys = sketch_seeds(seed, count).to(weight.device)
    rows = torch.zeros_like(keys)
    return philox.normal(keys[:, None], rows, model.config.z_size, weight.dtype)


def encode(model: SketchRNN, sketches: Sequence[ArrayLike]) -> Tensor:
    """The posterior means [len(sketches), Z] of stroke-3 sketches in data units.

    Raises:
        UserError: the model is unconditional, there is no sketch, one is empty, or one is no
            sketch; before any work.
    """
    return posterior(model, sketches).mean


@torch.no_grad()
def posterior(model: SketchRNN, sketches: Sequence[ArrayLike]) -> Posterior:
    """The posterior of each sketch; arguments and errors as `encode`.

    Not for several threads with one model: it is in evaluation mode while it encodes. Afterwards
    each of its modules has its own mode again.
    """
    if not model.config.conditional:
        raise UserError("this model is unconditional: it has no encoder")
    checked = checked_sketches(sketches, "sketch")
    if not checked or not all(map(len, checked)):
        raise UserError("there is nothing to encode: no sketch, or one without points")
    weight = model.output.linear.weight
    scale = np.array([float(model.scale_factor)] * 2 + [1.0], np.float32)
    parts = []
    with evaluating(model):
        for start in range(0, len(checked), BATCH):
            scaled = [sketch / scale for sketch in checked[start : start + BATCH]]
            strokes = pad_to_stroke5(scaled, max(map(len, scaled)))
            lengths = torch.tensor([len(sketch) for sketch in scaled], device=weight.device)
            parts.append(model.encode(torch.from_numpy(strokes).to(weight), lengths))
    return Posterior(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
