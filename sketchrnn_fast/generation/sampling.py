"""Sampling of sketches, and the two sources of z: the prior and the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.reference import philox
from sketchrnn_fast.reference.sampler import MODES, Temperature, generate
from sketchrnn_fast.strokes import pad_to_stroke5

BATCH = 100


def sample(
    model: SketchRNN,
    count: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    z: Tensor | None = None,
    greedy: bool = False,
    mode: str = "magenta",
    max_len: int | None = None,
) -> list[NDArray[np.float32]]:
    """Draw sketches.

    Sketch i has the seed `seed + i` and is a function of that and of its z: the same drawing
    whatever the count, up to the rounding of products in batches of different size.

    Args:
        model: conditional or unconditional.
        temperature: 1 follows the model, lower is tamer; 0 is the same as greedy.
        z: [count, Z], what to draw; drawn from the prior if None and the model is conditional.
        greedy: take the likeliest stroke at every step.
        mode: what temperature means, `magenta` or `js` (see `reference.sampler`).
        max_len: the most points of a sketch; the model's max_seq_len if None.

    Returns:
        Stroke-3 arrays [N_i, 3] in data units; an empty one where the first stroke is the end.

    Raises:
        ValueError: an argument lies outside what is accepted; the message names it.
    """
    limit = model.config.max_seq_len if max_len is None else max_len
    if count < 1 or limit < 1:
        raise ValueError(f"count is {count} and max_len {limit}; both must be at least 1")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}; it must be a number of at least 0")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; it takes {' or '.join(MODES)}")
    if z is not None and not model.config.conditional:
        raise ValueError("z was given, but this model is unconditional")
    if z is not None and tuple(z.shape) != (count, model.config.z_size):
        raise ValueError(
            f"z has shape {list(z.shape)}; it takes [{count}, {model.config.z_size}], one row a "
            "sketch"
        )
    weight = model.output.linear.weight
    z = None if z is None else z.to(weight)
    settings = Temperature(0.0 if greedy else temperature, mode)
    seeds = _sketch_seeds(seed, count).to(weight.device)
    if z is None and model.config.conditional:
        z = prior(model, count, seed)
    sketches: list[NDArray[np.float32]] = []
    for start in range(0, count, BATCH):
        rows = slice(start, start + BATCH)
        sketches += _sample_batch(
            model, seeds[rows], None if z is None else z[rows], settings, limit
        )
    return sketches


def prior(model: SketchRNN, count: int, seed: int = 0) -> Tensor:
    """z [count, Z] from N(0, I), row i a pure function of `seed + i`."""
    weight = model.output.linear.weight
    keys = _sketch_seeds(seed, count).to(weight.device)
    rows = torch.zeros_like(keys)
    return philox.normal(keys[:, None], rows, model.config.z_size, weight.dtype)


@torch.no_grad()
def encode(model: SketchRNN, sketches: Sequence[NDArray[np.floating]]) -> Tensor:
    """The posterior means [len(sketches), Z] of stroke-3 sketches in data units.

    Raises:
        ValueError: the model is unconditional, or a sketch is empty.
    """
    if any(len(sketch) == 0 for sketch in sketches) or not len(sketches):
        raise ValueError("there is nothing to encode: no sketch, or one without points")
    weight = model.output.linear.weight
    scale = float(model.scale_factor)
    means = []
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(sketches), BATCH):
            scaled = [
                np.asarray(sketch, np.float32) / np.array([scale, scale, 1.0], np.float32)
                for sketch in sketches[start : start + BATCH]
            ]
            strokes = pad_to_stroke5(scaled, max(len(sketch) for sketch in scaled))
            lengths = torch.tensor([len(sketch) for sketch in scaled], device=weight.device)
            means.append(model.encode(torch.from_numpy(strokes).to(weight), lengths).mean)
    finally:
        model.train(was_training)
    return torch.cat(means)


@torch.no_grad()
def _sample_batch(
    model: SketchRNN, seeds: Tensor, z: Tensor | None, temperature: Temperature, limit: int
) -> list[NDArray[np.float32]]:
    was_training = model.training
    model.eval()
    try:
        cell = model.decoder_cell

        def step(
            stroke: Tensor, state: tuple[Tensor, ...] | None
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            state = cell(stroke, state, static=z)
            return model.output(state[0]), state

        dtype = model.output.linear.weight.dtype
        strokes, lengths = generate(step, model.decoder_start(z), seeds, limit, temperature, dtype)
    finally:
        model.train(was_training)
    scale = float(model.scale_factor)
    drawn = strokes.float().cpu().numpy()
    return [
        np.column_stack([drawn[:length, row, :2] * scale, drawn[:length, row, 3]]).astype(
            np.float32
        )
        for row, length in enumerate(lengths.tolist())
    ]


def _sketch_seeds(seed: int, count: int) -> Tensor:
    """seed, seed + 1, … as int64 [count], modulo 2⁶⁴."""
    return torch.tensor([(seed + i + 2**63) % 2**64 - 2**63 for i in range(count)])
