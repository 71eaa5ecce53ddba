"""`sketchrnn-fast reconstruct`."""

from __future__ import annotations

from typing import Annotated

import typer

from sketchrnn_fast.cli.options import (
    DataOptions,
    DrawingOptions,
    Model,
    OutputOptions,
    with_options,
)


@with_options(drawing=DrawingOptions, data=DataOptions, output=OutputOptions)
def reconstruct(
    model: Model,
    count: Annotated[
        int | None, typer.Option(help="How many sketches; 16, or all of a file.", min=1)
    ] = None,
    z: Annotated[
        str, typer.Option("--z", help="Of the posterior: its mean, or a sample.")
    ] = "mean",
    *,
    drawing: DrawingOptions,
    data: DataOptions,
    output: OutputOptions,
) -> None:
    """Encode sketches and draw them again.

    A grid shows each sketch and, to the right of it, its reconstruction; an .npz holds the
    reconstructions.
    """
    from sketchrnn_fast import generation
    from sketchrnn_fast.cli.datasets import given_sketches
    from sketchrnn_fast.cli.models import load_model
    from sketchrnn_fast.cli.outputs import output_paths, write_drawings
    from sketchrnn_fast.errors import UserError
    from sketchrnn_fast.generation.reconstruction import SOURCES

    paths = output_paths(output, "reconstructions.svg")
    drawing.check()
    if z not in SOURCES:
        raise UserError(f"z is {z!r}; it takes {' or '.join(SOURCES)}")
    loaded = load_model(model, drawing.device, needs_encoder=True, average=drawing.ema)
    given = given_sketches(loaded, data, data.count_or(count, 16), drawing.seed)
    sketches = generation.reconstruct(
        loaded.network,
        given.sketches,
        z_from=z,
        labels=given.labels if drawing.label is None else drawing.label,
        **drawing.arguments(),
    )
    pairs = [sketch for pair in zip(given.sketches, sketches, strict=True) for sketch in pair]
    columns = output.columns or _even_columns(len(pairs))
    write_drawings(sketches, paths, columns=columns, pictured=pairs)


def _even_columns(count: int) -> int:
    """An even number of columns that makes a grid about square."""
    import math

    return 2 * max(1, round(math.sqrt(count) / 2))
