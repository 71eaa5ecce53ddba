"""`sketchrnn-fast data inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sketchrnn_fast.cli.data.inputs import Inputs, progress_bar

if TYPE_CHECKING:
    from sketchrnn_fast.data.inspection import Findings
    from sketchrnn_fast.data.moments import LengthTable

_MOST_LINES = 10


def inspect(
    inputs: Inputs,
    picture: Annotated[
        Path | None, typer.Option(help="Draw random sketches into this .svg or .png.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many sketches to draw.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
) -> None:
    """Show what is in files of drawings: counts, lengths, scale factor, problems."""
    from sketchrnn_fast.data.inspection import inspect as look
    from sketchrnn_fast.files import check_can_write
    from sketchrnn_fast.render import check_grid_path, write_grid

    if picture is not None:
        check_grid_path(picture)
        check_can_write(picture)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        findings = look(
            inputs,
            pictured=count if picture else 0,
            seed=seed,
            report=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print(findings)
    if picture is not None and findings.chosen:
        write_grid(findings.chosen, picture)
        typer.echo(f"{len(findings.chosen)} random sketches: {picture}")


def _print(findings: Findings) -> None:
    for split, table in findings.tables.items():
        typer.echo(f"{split or 'sketches'}: {_lengths(table)}")
    total = findings.total
    if len(findings.tables) > 1:
        typer.echo(f"all: {_lengths(total)}")
    typer.echo(f"scale factor: {findings.scale_factor:.6g}")
    most = sorted(findings.classes.items(), key=lambda item: -item[1])
    if len(most) > 1:
        named = ", ".join(f"{name} {count}" for name, count in most[:_MOST_LINES])
        typer.echo(f"{len(most)} classes: {named}{', …' if len(most) > _MOST_LINES else ''}")
    for note, count in findings.notes.items():
        typer.echo(f"note: {count} sketches {note}")
    for problem in findings.problems[:_MOST_LINES]:
        typer.echo(f"problem: {problem}")
    if len(findings.problems) > _MOST_LINES:
        typer.echo(f"problem: … {len(findings.problems)} in all; data validate names them")
    if not findings.problems:
        typer.echo("no problems")


def _lengths(table: LengthTable) -> str:
    if not table.sketches:
        return "none"
    ends = table.counts.cumsum()
    quantiles = [
        int(table.lengths[ends.searchsorted(share * table.sketches)]) for share in (0.05, 0.5, 0.95)
    ]
    mean = table.points / table.sketches
    return (
        f"{table.sketches} of {table.lengths[0]} to {table.lengths[-1]} points, mean {mean:.1f}, "
        f"5 % {quantiles[0]}, median {quantiles[1]}, 95 % {quantiles[2]}"
    )
