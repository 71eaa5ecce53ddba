"""`sketchrnn-fast data`: one file a command."""

from __future__ import annotations

import typer

from sketchrnn_fast.cli.data.convert import convert
from sketchrnn_fast.cli.data.fetch import fetch
from sketchrnn_fast.cli.data.inspect import inspect
from sketchrnn_fast.cli.data.listing import list_datasets
from sketchrnn_fast.cli.data.validate import validate

app = typer.Typer(
    name="data",
    help="Find, make and check datasets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(convert)
app.command()(inspect)
app.command()(validate)
app.command("list")(list_datasets)
app.command()(fetch)
