"""`sketchrnn-fast evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[Path, typer.Argument(help="A run's log root, or a checkpoint's folder.")],
    data_set: Annotated[
        str | None, typer.Option(help="Comma-separated datasets; those of the training run.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data_set's files; here if not given.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    batch_size: Annotated[int | None, typer.Option(help="That of the training run.", min=1)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Governs the draws of z; that of the training run.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures to this file.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights, of a run with ema_decay.")
    ] = False,
) -> None:
    """Evaluate a model on all sketches of a split."""
    import json
    from dataclasses import replace

    from rich.console import Console
    from rich.table import Table

    from sketchrnn_fast.cli.datasets import load_split
    from sketchrnn_fast.cli.devices import choose_device
    from sketchrnn_fast.files import check_can_write, write_atomically
    from sketchrnn_fast.training import checkpoints
    from sketchrnn_fast.training import evaluate as run

    if json_file is not None:
        check_can_write(json_file)
    folder = checkpoints.find(model)
    _, config = checkpoints.read_config(folder)
    config = replace(
        config,
        seed=config.seed if seed is None else seed,
        batch_size=batch_size or config.batch_size,
    )
    has_state = (folder / checkpoints.STATE).is_file()
    step = checkpoints.read_state(folder).step if has_state else 0
    network = checkpoints.load_model(folder, average=ema).to(choose_device(device))
    names = config.data_set if data_set is None else tuple(data_set.split(","))
    dataset = load_split(network, names, data_dir, split, config.data_set)
    result = run(network, dataset, config, step)

    table = Table(title=f"{model} on {result.sketches} sketches of {','.join(names)}, {split}")
    table.add_column("figure")
    table.add_column("nats", justify="right")
    for name, value in result.record().items():
        if name != "sketches":
            table.add_row(name, "none" if value is None else f"{value:.4f}")
    Console().print(table)
    if json_file is not None:
        write_atomically(json_file, json.dumps(result.record(), indent=1).encode() + b"\n")
