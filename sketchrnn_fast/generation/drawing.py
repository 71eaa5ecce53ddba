"""What every way of drawing shares: a model's sampler, seeds, and the units of sketches.

A model works in its own units; data units are `model.scale_factor` times those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sketchrnn_fast.config import MOST_SIZE
from sketchrnn_fast.generation.labels import condition
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops import Sampler, Temperature
from sketchrnn_fast.ops.sampler_checks import check_stroke3, check_temperature, check_whole

Sketch = NDArray[np.float32]

_MOST_SKETCHES = 2**31 - 1


def sketch_seeds(seed: int, count: int) -> Tensor:
    """seed, seed + 1, … as int64 [count], modulo 2⁶⁴.

    Raises:
        UserError: the seed is no whole number of 64 bits.
    """
    seed = check_whole("seed", seed, -(2**63), 2**64 - 1)
    return torch.tensor([(seed + i + 2**63) % 2**64 - 2**63 for i in range(count)])


def temperature_of(value: float, mode: str, greedy: bool) -> Temperature:
    """The checked settings; greedy is temperature 0."""
    temperature = Temperature(value, mode)
    check_temperature(temperature)
    return temperature._replace(value=0.0) if greedy else temperature


def length_limit(model: SketchRNN, count: int, max_len: int | None) -> int:
    """The most points of a sketch: `max_len`, or the model's own limit.

    Raises:
        UserError: `max_len` or `count` is no whole number, less than 1, or more than is accepted.
    """
    check_whole("count", count, 1, _MOST_SKETCHES)
    limit = model.config.max_seq_len if max_len is None else max_len
    return check_whole("max_len", limit, 1, MOST_SIZE)


def draw(
    model: SketchRNN,
    seeds: Tensor,
    *,
    z: Tensor | None = None,
    labels: Tensor | None = None,
    prefixes: Sequence[Sketch] | None = None,
    limit: int,
    temperatures: Sequence[Temperature],
    storage: str = "float32",
) -> list[list[Sketch]]:
    """Draw the same seeds at each temperature, with one packed sampler.

    Args:
        z, labels: of each sketch, [count, Z] and int64 [count], where the model has them.
        prefixes: stroke-3 in data units, one a seed; each sketch begins with its own to the bit.

    Returns:
        For each temperature the sketches, stroke-3 [N, 3] in data units.
    """
    sampler = Sampler(model.decoder_weights(), storage=storage)
    scale = np.array([float(model.scale_factor)] * 2 + [1.0], np.float32)
    scaled = None if prefixes is None else [prefix / scale for prefix in prefixes]
    given = condition(model, z, labels)
    results = []
    for temperature in temperatures:
        drawings = sampler.draw(
            seeds, z=given, prefixes=scaled, limit=limit, temperature=temperature
        ).sketches()
        sketches = [drawing * scale for drawing in drawings]
        for sketch, prefix in zip(sketches, prefixes or (), strict=prefixes is not None):
            sketch[: len(prefix)] = prefix
        results.append(sketches)
    return results


def checked_sketches(sketches: Sequence[ArrayLike], name: str) -> list[Sketch]:
    """Stroke-3 sketches [N, 3] as float32, refused where they are none.

    Raises:
        UserError: as `check_stroke3`; sketch i is called `name i`.
    """
    return [
        check_stroke3(sketch, f"{name} {index}").astype(np.float32)
        for index, sketch in enumerate(sketches)
    ]
