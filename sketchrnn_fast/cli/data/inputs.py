"""What the commands over drawings share: their inputs, and a bar that shows how far they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

Inputs = Annotated[
    list[Path],
    typer.Argument(
        help="Files (.ndjson, .jsonl, .bin, .svg, .npz, .npy), stores, and folders of these."
    ),
]


@contextmanager
def progress_bar(*, of_bytes: bool = False) -> Iterator[Progress]:
    """A bar on standard error, which vanishes when the work is done; none where it is a file.

    Args:
        of_bytes: shows bytes and their rate, instead of the share that is done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn()]
    rates = [DownloadColumn(), TransferSpeedColumn()] if of_bytes else [TaskProgressColumn()]
    with Progress(
        *columns,
        *rates,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield progress
