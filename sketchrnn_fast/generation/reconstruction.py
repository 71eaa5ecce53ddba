"""Reconstruction: a sketch through the encoder and the decoder."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.generation.drawing import (
    Sketch,
    draw,
    length_limit,
    sketch_seeds,
    temperature_of,
)
from sketchrnn_fast.generation.labels import Labels, labels_of
from sketchrnn_fast.generation.latent import posterior, prior
from sketchrnn_fast.nn import SketchRNN

SOURCES = ("mean", "sample")


def reconstruct(
    model: SketchRNN,
    sketches: Sequence[ArrayLike],
    *,
    z_from: str = "mean",
    labels: Labels | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    greedy: bool = False,
    mode: str = "magenta",
    max_len: int | None = None,
    storage: str = "float32",
) -> list[Sketch]:
    """Encode sketches and draw them again.

    Args:
        model: conditional.
        sketches: stroke-3 [N, 3] in data units, each of at least one point.
        z_from: `mean`, the posterior's mean, or `sample`, a draw from it (by `seed + i`).
        labels: for a model with classes, that of all sketches, by number or name, or of each.
        temperature, seed, greedy, mode, max_len, storage: as `sample`.

    Returns:
        One stroke-3 array in data units for each sketch.

    Raises:
        UserError: the model is unconditional, a sketch is none, or an argument lies outside what
            is accepted; the message names it.
    """
    if z_from not in SOURCES:
        raise UserError(f"z_from is {z_from!r}; it takes {' or '.join(SOURCES)}")
    limit = length_limit(model, 1, max_len)
    chosen = temperature_of(temperature, mode, greedy)
    sketches = list(sketches)
    classes = labels_of(model, labels, len(sketches))
    belief = posterior(model, sketches)
    z = belief.mean
    if z_from == "sample":
        z = belief.sample(prior(model, len(z), seed))
    (drawn,) = draw(
        model,
        sketch_seeds(seed, len(z)),
        z=z,
        labels=classes,
        limit=limit,
        temperatures=[chosen],
        storage=storage,
    )
    return drawn
