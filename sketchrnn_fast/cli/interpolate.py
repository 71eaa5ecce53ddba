"""`sketchrnn-fast interpolate`."""

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
def interpolate(
    model: Model,
    count: Annotated[
        int | None, typer.Option(help="How many ends; 2, or all of a file.", min=2)
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Sketches from one end to the next, both included.", min=2)
    ] = 10,
    method: Annotated[str, typer.Option(help="slerp (spherical) or lerp (linear).")] = "slerp",
    z: Annotated[
        str, typer.Option("--z", help="Where the ends come from: data (encoded), or prior.")
    ] = "data",
    *,
    drawing: DrawingOptions,
    data: DataOptions,
    output: OutputOptions,
) -> None:
    """Draw what lies between sketches in the latent space.

    With more than two ends, the path goes on from each to the next.
    """
    from sketchrnn_fast import generation
    from sketchrnn_fast.cli.datasets import given_sketches
    from sketchrnn_fast.cli.models import load_model
    from sketchrnn_fast.cli.outputs import output_paths, write_drawings
    from sketchrnn_fast.errors import UserError
    from sketchrnn_fast.generation.interpolation import METHODS

    paths = output_paths(output, "interpolation.svg")
    drawing.check()
    if z not in ("data", "prior"):
        raise UserError(f"z is {z!r}; it takes data or prior")
    if method not in METHODS:
        raise UserError(f"method is {method!r}; it takes {' or '.join(METHODS)}")
    if z == "prior":
        data.check_unused()
    loaded = load_model(model, drawing.device, needs_encoder=True, average=drawing.ema)
    label: int | str | None = drawing.label
    if z == "prior":
        ends = generation.prior(loaded.network, count or 2, drawing.seed)
    else:
        given = given_sketches(loaded, data, data.count_or(count, 2), drawing.seed)
        if len(given.sketches) < 2:
            raise UserError(f"there is {len(given.sketches)} sketch; a path takes at least two")
        ends = generation.encode(loaded.network, given.sketches)
        if label is None and len(set(given.labels or ())) == 1:
            label = (given.labels or [0])[0]
    sketches = generation.interpolate(
        loaded.network, ends, steps, method=method, label=label, **drawing.arguments()
    )
    write_drawings(sketches, paths, columns=output.columns or steps)
