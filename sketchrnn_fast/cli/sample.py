"""`sketchrnn-fast sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    model: Annotated[Path, typer.Argument(help="A run's log root, or a checkpoint's folder.")],
    count: Annotated[int, typer.Option(help="How many sketches to draw.", min=1)] = 16,
    temperature: Annotated[
        float, typer.Option(help="1 follows the model, lower is tamer, 0 is greedy.", min=0.0)
    ] = 0.5,
    mode: Annotated[
        str, typer.Option(help="What temperature means: magenta, or js (sketch-rnn-js, the paper).")
    ] = "magenta",
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the likeliest stroke at every step.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The first sketch's seed; the next has seed + 1.")] = 0,
    z: Annotated[
        str,
        typer.Option(
            "--z", help="Where a conditional model's z comes from: prior, or data (encoded)."
        ),
    ] = "prior",
    data_set: Annotated[
        str | None,
        typer.Option(help="For --z data: comma-separated datasets; those of the training run."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data_set's files; here if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="For --z data: train, valid or test.")] = "test",
    max_len: Annotated[
        int | None, typer.Option(help="Most points of a sketch; the model's own limit.", min=1)
    ] = None,
    out: Annotated[Path, typer.Option(help="The grid to write: an .svg or a .png file.")] = Path(
        "samples.svg"
    ),
    columns: Annotated[
        int | None, typer.Option(help="Columns of the grid; about as many as rows.", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
) -> None:
    """Draw sketches with a model into one grid."""
    import math

    from sketchrnn_fast.cli.datasets import choose_sketches
    from sketchrnn_fast.cli.devices import choose_device
    from sketchrnn_fast.errors import UserError
    from sketchrnn_fast.files import check_can_write
    from sketchrnn_fast.generation import encode
    from sketchrnn_fast.generation import sample as draw
    from sketchrnn_fast.reference.sampler import MODES
    from sketchrnn_fast.render import check_grid_path, write_grid
    from sketchrnn_fast.training import checkpoints

    check_grid_path(out)
    check_can_write(out)
    if not math.isfinite(temperature):
        raise UserError(f"temperature is {temperature}; it must be finite")
    if mode not in MODES:
        raise UserError(f"mode is {mode!r}; it takes {' or '.join(MODES)}")
    if z not in ("prior", "data"):
        raise UserError(f"z is {z!r}; it takes prior or data")
    folder = checkpoints.find(model)
    _, config = checkpoints.read_config(folder)
    network = checkpoints.load_model(folder).to(choose_device(device))
    codes = None
    if z == "data":
        if not network.config.conditional:
            raise UserError(f"{model} is unconditional: it has no z to take from data")
        names = config.data_set if data_set is None else tuple(data_set.split(","))
        codes = encode(network, choose_sketches(network, names, data_dir, split, count, seed))
    sketches = draw(
        network,
        count,
        temperature=temperature,
        seed=seed,
        z=codes,
        greedy=greedy,
        mode=mode,
        max_len=max_len,
    )
    write_grid(sketches, out, columns=None if columns is None else min(columns, count))
    points = sum(len(sketch) for sketch in sketches) / count
    typer.echo(f"{count} sketches of {points:.0f} points on average: {out}")
