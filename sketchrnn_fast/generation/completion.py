"""Completion: a sketch from its beginning on."""

from __future__ import annotations

from collections.abc import Sequence

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
from sketchrnn_fast.generation.labels import Labels, labels_of
from sketchrnn_fast.generation.latent import encode, prior
from sketchrnn_fast.nn import SketchRNN

SOURCES = ("prior", "prefix")


def complete(
    model: SketchRNN,
    prefixes: Sequence[ArrayLike],
    *,
    z: Tensor | str = "prior",
    labels: Labels | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    greedy: bool = False,
    mode: str = "magenta",
    max_len: int | None = None,
    storage: str = "float32",
) -> list[Sketch]:
    """Draw on from what is drawn already.

    The decoder reads the prefix, and what it would have drawn there is left aside. The end of the
    sketch is drawn with the numbers that a whole sketch of the seed `seed + i` has there, so that
    the beginning of a sampled sketch, with its z and seed, is completed to the same sketch.

    Args:
        model: conditional or unconditional.
        prefixes: stroke-3 [N, 3] in data units, at most max_len points each; an empty one begins
            from nothing, and one of max_len points is returned as it is.
        z: for a conditional model [len(prefixes), Z], or `prior`, or `prefix`: the posterior
            mean of the prefix. An unconditional model takes `prior`, which means nothing there.
        labels: as `sample`.
        temperature, seed, greedy, mode, max_len, storage: as `sample`.

    Returns:
        One stroke-3 array in data units for each prefix, which it begins with.

    Raises:
        UserError: a prefix is no sketch or too long, or an argument lies outside what is accepted;
            the message names it.
    """
    begun = checked_sketches(prefixes, "prefix")
    count = len(begun)
    limit = length_limit(model, count, max_len)
    chosen = temperature_of(temperature, mode, greedy)
    for index, prefix in enumerate(begun):
        if len(prefix) > limit:
            raise UserError(
                f"prefix {index} has {len(prefix)} points; with max_len {limit} it may have at "
                "most as many"
            )
    if not isinstance(z, Tensor) and (not isinstance(z, str) or z not in SOURCES):
        found = repr(z) if isinstance(z, str) else f"a {type(z).__name__}"
        raise UserError(f"z is {found}; it takes {', '.join(SOURCES)} or a tensor")
    code: Tensor | None = None
    if isinstance(z, Tensor):
        code = z
    elif z == "prefix":
        code = encode(model, begun)
    elif model.config.conditional:
        code = prior(model, count, seed)
    (sketches,) = draw(
        model,
        sketch_seeds(seed, count),
        z=code,
        labels=labels_of(model, labels, count, seed),
        prefixes=begun,
        limit=limit,
        temperatures=[chosen],
        storage=storage,
    )
    return sketches
