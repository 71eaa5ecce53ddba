"""`sketchrnn-fast data validate`."""

from __future__ import annotations

import typer

from sketchrnn_fast.cli.data.inputs import Inputs


def validate(inputs: Inputs) -> None:
    """Name every drawing that cannot be read; exit code 1 if there is one."""
    from sketchrnn_fast.data.inspection import validate as problems

    count = 0
    for sentence in problems(inputs):
        typer.echo(sentence)
        count += 1
    if count:
        typer.echo(f"{count} problem{'s' if count > 1 else ''}", err=True)
        raise typer.Exit(1)
    typer.echo("no problems")
