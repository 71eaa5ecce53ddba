"""`sketchrnn-fast export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sketchrnn_fast.cli.options import Model


def export(
    model: Model,
    out: Annotated[
        Path, typer.Option(help="A file for the two JavaScript formats, else a new folder.")
    ],
    format: Annotated[
        str,
        typer.Option(
            help="magenta-js, sketch-rnn-js, tensorflow (Magenta's checkpoint), onnx, torch "
            "(torch.export) or huggingface."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="What the model is called there; else as its folder.")
    ] = None,
) -> None:
    """Write a model for other programs."""
    from rich.console import Console
    from rich.table import Table

    from sketchrnn_fast.interop.exporting import export_model, read_source

    report = export_model(read_source(model), format, out, name)
    if report.quantisation:
        table = Table(title="16 bits: 10 · q / 32767")
        table.add_column("weights")
        for column in ("largest error", "root mean square", "beyond ±10"):
            table.add_column(column, justify="right")
        for row in report.quantisation:
            errors = f"{row.largest_error:.2e}", f"{row.mean_square_error:.2e}"
            table.add_row(row.name, *errors, str(row.saturated))
        Console().print(table)
    for part, difference in report.differences.items():
        typer.echo(f"{part}: onnxruntime differs from PyTorch by {difference:.1e} of the largest")
    typer.echo(f"written: {out}")
