"""`sketchrnn-fast import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_model(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of Magenta's (its folder or prefix), a sketch-rnn-js file, or a "
            "published model: magenta:owl, sketch-rnn-js:cat, …"
        ),
    ],
    out: Annotated[Path, typer.Option(help="The model's folder: the log root of a new run.")],
    hparams: Annotated[
        str, typer.Option(help="""Replace the source's: "name=value,name=[value,value]".""")
    ] = "",
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data_set's files, for max_seq_len and the scale factor; without it "
            "they are the source's."
        ),
    ] = None,
    scale_factor: Annotated[
        float | None, typer.Option(help="Data units per model unit, where the source has none.")
    ] = None,
) -> None:
    """Make a model of this project's from Magenta's or sketch-rnn-js's."""
    from sketchrnn_fast.config import parse_hparams
    from sketchrnn_fast.interop.importing import import_model as run

    imported = run(
        source,
        out,
        changes=parse_hparams(hparams),
        data_dir=data_dir,
        scale_factor=scale_factor,
    )
    config = imported.model.config
    encoder = f"{config.enc_model} {config.enc_rnn_size} to " if config.conditional else ""
    for note in imported.notes:
        typer.echo(f"note: {note}")
    typer.echo(
        f"{out}: {encoder}{config.dec_model} {config.dec_rnn_size}, {config.num_mixture} "
        f"Gaussians, at most {config.max_seq_len} points, {imported.step} steps done\n"
        f"draw with it:  sketchrnn-fast sample {out}\n"
        f"train on:      sketchrnn-fast train --log_root {out} --resume_training"
    )
