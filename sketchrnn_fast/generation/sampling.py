"""Sampling: sketches from the prior, or from given z."""

from __future__ import annotations

from torch import Tensor

from sketchrnn_fast.generation.drawing import (
    Sketch,
    draw,
    length_limit,
    sketch_seeds,
    temperature_of,
)
from sketchrnn_fast.generation.labels import Labels, labels_of
from sketchrnn_fast.generation.latent import prior
from sketchrnn_fast.nn import SketchRNN


def sample(
    model: SketchRNN,
    count: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    z: Tensor | None = None,
    labels: Labels | None = None,
    greedy: bool = False,
    mode: str = "magenta",
    max_len: int | None = None,
    storage: str = "float32",
) -> list[Sketch]:
    """Draw sketches.

    Sketch i has the seed `seed + i` and is a function of that and of its z: the same drawing
    whatever the count, to the bit on the native engine, up to the rounding of products in batches
    of different size on the reference.

    Args:
        model: conditional or unconditional.
        temperature: 1 follows the model, lower is tamer; 0 is the same as greedy.
        z: [count, Z], what to draw; drawn from the prior if None and the model is conditional.
        labels: for a model with classes, which to draw: one for all, by number or name, or one
            for each sketch; without them sketch i has the class (seed + i) modulo their number.
        greedy: take the likeliest stroke at every step.
        mode: what temperature means, `magenta` or `js` (see `reference.sampler`).
        max_len: the most points of a sketch, at most 2^20; the model's max_seq_len if None.
        storage: `bfloat16` rounds the decoder's matrices, for speed (see `ops.Sampler`).

    Returns:
        Stroke-3 arrays [N_i, 3] in data units; an empty one where the first stroke is the end.

    Raises:
        UserError: an argument lies outside what is accepted; the message names it.
    """
    limit = length_limit(model, count, max_len)
    chosen = temperature_of(temperature, mode, greedy)
    if z is None and model.config.conditional:
        z = prior(model, count, seed)
    (sketches,) = draw(
        model,
        sketch_seeds(seed, count),
        z=z,
        labels=labels_of(model, labels, count, seed),
        limit=limit,
        temperatures=[chosen],
        storage=storage,
    )
    return sketches
