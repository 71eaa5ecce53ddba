"""`sketchrnn-fast train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sketchrnn_fast.cli.hyper_parameters import with_hyper_parameters


@with_hyper_parameters
def train(
    *,
    given: dict[str, Any],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data_set's files; here if not given.")
    ] = None,
    log_root: Annotated[
        Path, typer.Option(help="Folder for checkpoints, metrics and curves.")
    ] = Path("runs/default"),
    resume_training: Annotated[
        bool,
        typer.Option(
            "--resume-training/--noresume-training",
            help="Go on from the last checkpoint in the log root, with its hyper-parameters.",
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, …")
    ] = "auto",
    rank_timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds that a rank waits for the others.", min=1)
    ] = 600.0,
) -> None:
    """Train a model.

    Without options, on the built-in dataset with Magenta's hyper-parameters, until stopped. With
    several processes: torchrun --nproc-per-node 2 -m sketchrnn_fast train, and the same options.
    """
    from sketchrnn_fast.cli.devices import choose_device
    from sketchrnn_fast.config import split_hparams, to_json
    from sketchrnn_fast.training import checkpoints
    from sketchrnn_fast.training import train as run
    from sketchrnn_fast.training.distributed import is_first_rank
    from sketchrnn_fast.training.setup import check_log_root

    chosen = choose_device(device)
    check_log_root(log_root, resume_training)
    values: dict[str, Any] = {}
    if resume_training:
        for saved in checkpoints.read_config(checkpoints.find(log_root, "last")):
            values.update(to_json(saved))
    values.update(given)
    model_config, train_config = split_hparams(values)
    try:
        result = run(
            model_config,
            train_config,
            log_root,
            data_dir=data_dir,
            resume=resume_training,
            max_seq_len=values.get("max_seq_len"),
            device=chosen,
            rank_timeout=rank_timeout,
        )
    except KeyboardInterrupt:
        typer.echo(
            f"stopped; what was saved is in {log_root / checkpoints.FOLDER}, and the same command "
            "with --resume_training goes on from there",
            err=True,
        )
        raise typer.Exit(130) from None
    if not is_first_rank():
        return
    state = result.state
    if result.steps == 0:
        typer.echo(
            f"nothing to do: the run has {state.step} steps, num_steps is {train_config.num_steps}"
        )
    typer.echo(
        f"done: {state.step} steps; best validation cost "
        f"{'none' if state.best_cost is None else f'{state.best_cost:.4f}'} at step "
        f"{state.best_step}\n"
        f"draw with it:  sketchrnn-fast sample {log_root}\n"
        f"the curves:    {log_root / 'curves.png'}"
    )
