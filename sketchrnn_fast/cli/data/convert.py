"""`sketchrnn-fast data convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sketchrnn_fast.cli.data.inputs import Inputs, progress_bar

if TYPE_CHECKING:
    from sketchrnn_fast.data.assembly import Progress


def convert(
    inputs: Inputs,
    out: Annotated[
        Path, typer.Option(help="An .npz, as Magenta reads it, or a new folder for a store.")
    ],
    simplify: Annotated[
        str,
        typer.Option(
            help="What is aligned, resampled and simplified as QuickDraw's drawings were: auto "
            "(raw recordings, SVG, polylines), all, or none."
        ),
    ] = "auto",
    size: Annotated[float, typer.Option(help="The longer side after alignment.")] = 255.0,
    spacing: Annotated[
        float, typer.Option(help="Of points along a line, before simplification; 0: as drawn.")
    ] = 1.0,
    epsilon: Annotated[
        float, typer.Option(help="Ramer-Douglas-Peucker's; 0 leaves out that step.")
    ] = 2.0,
    min_points: Annotated[int, typer.Option(help="Leave out sketches of fewer points.")] = 1,
    max_points: Annotated[
        int | None, typer.Option(help="Leave out sketches of more points.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Sketches of the train split: a count, or a share such as 0.9."),
    ] = None,
    valid: Annotated[str | None, typer.Option(help="Of the valid split; 0.05.")] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Of the test split; 0.05. Without any of the three, inputs that have splits "
            "keep them."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random splits.")] = 0,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Leave out exact repetitions within a class.")
    ] = False,
    recognized: Annotated[
        bool, typer.Option("--recognized", help="Leave out what QuickDraw did not recognize.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out drawings that cannot be read.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(help="Of the offsets: int16, or float32. By default as the inputs need it."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that read.", min=1)] = 1,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Begin anew where another conversion was stopped."),
    ] = False,
) -> None:
    """Make a dataset of drawings.

    A conversion that was stopped goes on where it was when it is started again.
    """
    from sketchrnn_fast.data import conversion
    from sketchrnn_fast.data.simplification import Simplification

    options = conversion.Options(
        simplify=simplify,  # type: ignore[arg-type]  # checked there
        simplification=Simplification(size, spacing, epsilon),
        min_points=min_points,
        max_points=max_points,
        only_recognized=recognized,
        deduplicate=deduplicate,
        splits=_splits(train, valid, test),
        seed=seed,
        dtype=dtype,
        skip_bad=skip_bad,
    )
    with progress_bar() as bar:
        try:
            result = conversion.convert(
                inputs, out, options, jobs=jobs, restart=restart, progress=_reporter(bar)
            )
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(130) from None
    if result.reused_parts:
        typer.echo(f"went on after {result.reused_parts} parts of a conversion that was stopped")
    for reason, count in result.left_out.items():
        typer.echo(f"left out: {count} sketches that {reason}")
    for problem in result.problems[:5]:
        typer.echo(f"  {problem}")
    if len(result.problems) > 5:
        typer.echo("  … data validate names all of them")
    sizes = "/".join(str(count) for count in result.counts.values())
    typer.echo(f"{sizes} sketches of {_classes(result.classes)}: {result.path}")


def _classes(classes: tuple[str, ...]) -> str:
    return f"class {classes[0]}" if len(classes) == 1 else f"{len(classes)} classes"


def _splits(train: str | None, valid: str | None, test: str | None) -> Any:
    from sketchrnn_fast.data.splitting import SplitSizes

    if train is valid is test is None:
        return None
    sizes = {
        name: _share(name, text)
        for name, text in (("train", train), ("valid", valid), ("test", test))
        if text is not None
    }
    return SplitSizes(**sizes)


def _share(name: str, text: str) -> int | float:
    from sketchrnn_fast.errors import UserError

    try:
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise UserError(
            f"{name} is {text!r}; it takes a count, such as 2500, or a share, such as 0.05"
        ) from None


def _reporter(bar: Any) -> Progress:
    tasks: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total)

    return report
