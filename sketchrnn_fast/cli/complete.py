"""`sketchrnn-fast complete`."""

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
def complete(
    model: Model,
    count: Annotated[
        int | None, typer.Option(help="How many sketches; 4, or all of a file.", min=1)
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            help="How many of a sketch's points to begin with; half of them, or all of a file's.",
            min=0,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Completions of each beginning, with one seed after another.", min=1)
    ] = 4,
    z: Annotated[
        str,
        typer.Option(
            "--z", help="A conditional model's z: prior, or prefix (the beginning, encoded)."
        ),
    ] = "prior",
    *,
    drawing: DrawingOptions,
    data: DataOptions,
    output: OutputOptions,
) -> None:
    """Draw on from the beginnings of sketches.

    Without columns given, a row of the grid holds the completions of one beginning.
    """
    from sketchrnn_fast import generation
    from sketchrnn_fast.cli.datasets import given_sketches
    from sketchrnn_fast.cli.models import load_model
    from sketchrnn_fast.cli.outputs import output_paths, write_drawings
    from sketchrnn_fast.errors import UserError
    from sketchrnn_fast.generation.completion import SOURCES

    paths = output_paths(output, "completions.svg")
    drawing.check()
    if z not in SOURCES:
        raise UserError(f"z is {z!r}; it takes {' or '.join(SOURCES)}")
    loaded = load_model(model, drawing.device, needs_encoder=z == "prefix", average=drawing.ema)
    given = given_sketches(loaded, data, data.count_or(count, 4), drawing.seed)

    def kept(length: int) -> int:
        if points is not None:
            return points
        return length if data.sketches is not None else length // 2

    prefixes = [sketch[: kept(len(sketch))] for sketch in given.sketches for _ in range(repeats)]
    labels: list[int] | str | None = drawing.label
    if labels is None and given.labels is not None:
        labels = [label for label in given.labels for _ in range(repeats)]
    sketches = generation.complete(
        loaded.network, prefixes, z=z, labels=labels, **drawing.arguments()
    )
    write_drawings(sketches, paths, columns=output.columns or repeats)
