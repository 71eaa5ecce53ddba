"""`sketchrnn-fast data list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CacheDir = Annotated[
    Path | None,
    typer.Option(help="Where fetched datasets are; the platform's cache folder if not given."),
]


def list_datasets(
    words: Annotated[
        list[str] | None, typer.Argument(help="Only names with one of these in them.")
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """List the published datasets that fetch knows, with their licences."""
    from sketchrnn_fast.data import registry
    from sketchrnn_fast.data.hershey import NAME

    shown = 0
    if not words or any(word in NAME for word in words):
        typer.echo(f"{NAME}: built in, made here on first use; free for any use")
        shown += 1
    for dataset in registry.DATASETS.values():
        if words and not any(word.lower() in dataset.name.lower() for word in words):
            continue
        notes = [dataset.about, dataset.licence]
        notes.append("checksum known" if dataset.sha256 else "no checksum known")
        if registry.cached(dataset, cache_dir).is_file():
            notes.append("fetched")
        typer.echo(f"{dataset.name}: {'; '.join(notes)}")
        shown += 1
    if not shown:
        typer.echo("no such dataset", err=True)
        raise typer.Exit(1)
