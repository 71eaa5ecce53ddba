"""The same drawing at several temperatures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sketchrnn_fast.errors import UserError
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


def temperature_sweep(
    model: SketchRNN,
    temperatures: Sequence[float],
    count: int = 1,
    *,
    seed: int = 0,
    z: Tensor | None = None,
    labels: Labels | None = None,
    mode: str = "magenta",
    max_len: int | None = None,
    storage: str = "float32",
) -> list[Sketch]:
    """Draw each of `count` sketches at every temperature, with one z and one seed.

    Args:
        temperatures: at least one; 0 is greedy.
        count, seed, z, labels, mode, max_len, storage: as `sample`.

    Returns:
        count · len(temperatures) stroke-3 arrays in data units: all temperatures of the first
        sketch, then all of the second, and so on.

    Raises:
        UserError: an argument lies outside what is accepted; the message names it.
    """
    limit = length_limit(model, count, max_len)
    if not len(temperatures):
        raise UserError("temperatures is empty; there must be at least one")
    chosen = [temperature_of(value, mode, greedy=False) for value in temperatures]
    if z is None and model.config.conditional:
        z = prior(model, count, seed)
    seeds = sketch_seeds(seed, count)
    by_temperature = draw(
        model,
        seeds,
        z=z,
        labels=labels_of(model, labels, count, seed),
        limit=limit,
        temperatures=chosen,
        storage=storage,
    )
    return [sketch for row in zip(*by_temperature, strict=True) for sketch in row]
