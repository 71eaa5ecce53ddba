"""`sketchrnn-fast data fetch`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from sketchrnn_fast.cli.data.inputs import progress_bar
from sketchrnn_fast.cli.data.listing import CacheDir

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def fetch(
    names: Annotated[list[str], typer.Argument(help="Names that list shows.")],
    cache_dir: CacheDir = None,
) -> None:
    """Download published datasets into the cache; train finds them there by name.

    A download that broke off goes on where it was.
    """
    from sketchrnn_fast.data import downloads, registry

    for name in names:
        with progress_bar(of_bytes=True) as bar:
            task = bar.add_task(name, total=None)
            try:
                report = partial(_show, bar, task)
                path, is_new = downloads.fetch(name, cache_dir, report)
            except KeyboardInterrupt:
                typer.echo("stopped; the same command goes on from here", err=True)
                raise typer.Exit(130) from None
        licence = registry.DATASETS[name].licence
        typer.echo(f"{name} {'fetched' if is_new else 'is there'} ({licence}): {path}")


def _show(bar: Progress, task: TaskID, done: int, total: int | None) -> None:
    bar.update(task, completed=done, total=total)
