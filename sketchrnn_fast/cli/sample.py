"""`sketchrnn-fast sample`."""

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
def sample(
    model: Model,
    count: Annotated[
        int | None, typer.Option(help="How many sketches; 16, or all of a file.", min=1)
    ] = None,
    z: Annotated[
        str,
        typer.Option(
            "--z", help="Where a conditional model's z comes from: prior, or data (encoded)."
        ),
    ] = "prior",
    *,
    drawing: DrawingOptions,
    data: DataOptions,
    output: OutputOptions,
) -> None:
    """Draw sketches.

    With `--z data`, sketches of the data are encoded and drawn again.
    """
    from sketchrnn_fast import generation
    from sketchrnn_fast.cli.datasets import given_sketches
    from sketchrnn_fast.cli.models import load_model
    from sketchrnn_fast.cli.outputs import output_paths, write_drawings
    from sketchrnn_fast.errors import UserError

    paths = output_paths(output, "samples.svg")
    drawing.check()
    if z not in ("prior", "data"):
        raise UserError(f"z is {z!r}; it takes prior or data")
    if z == "prior":
        data.check_unused()
    loaded = load_model(model, drawing.device, average=drawing.ema)
    codes, total, labels = None, count or 16, None
    if z == "data":
        if not loaded.network.config.conditional:
            raise UserError(f"{model} is unconditional: it has no z to take from data")
        given = given_sketches(loaded, data, data.count_or(count, 16), drawing.seed)
        codes, total = generation.encode(loaded.network, given.sketches), len(given.sketches)
        labels = given.labels
    sketches = generation.sample(
        loaded.network,
        total,
        z=codes,
        labels=labels if drawing.label is None else drawing.label,
        **drawing.arguments(),
    )
    write_drawings(sketches, paths, columns=output.columns)
