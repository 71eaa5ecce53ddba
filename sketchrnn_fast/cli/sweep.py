"""`sketchrnn-fast sweep`."""

from __future__ import annotations

from typing import Annotated

import typer

from sketchrnn_fast.cli.options import (
    Model,
    OutputOptions,
    SamplerOptions,
    check_temperatures,
    parse_list,
    with_options,
)


@with_options(drawing=SamplerOptions, output=OutputOptions)
def sweep(
    model: Model,
    count: Annotated[int, typer.Option(help="How many sketches to draw.", min=1)] = 4,
    temperatures: Annotated[
        str, typer.Option(help="Comma-separated temperatures.")
    ] = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1.0",
    *,
    drawing: SamplerOptions,
    output: OutputOptions,
) -> None:
    """Draw the same sketches at several temperatures, one row of the grid for each sketch."""
    from sketchrnn_fast import generation
    from sketchrnn_fast.cli.models import load_model
    from sketchrnn_fast.cli.outputs import output_paths, write_drawings

    paths = output_paths(output, "sweep.svg")
    values = parse_list(temperatures, float, "temperatures")
    drawing.check()
    check_temperatures(values, drawing.mode)
    loaded = load_model(model, drawing.device, average=drawing.ema)
    sketches = generation.temperature_sweep(
        loaded.network,
        values,
        count,
        seed=drawing.seed,
        labels=drawing.label,
        mode=drawing.mode,
        max_len=drawing.max_len,
        storage=drawing.storage,
    )
    write_drawings(sketches, paths, columns=output.columns or len(values))
