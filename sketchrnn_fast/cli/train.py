"""`sketchrnn-fast train`."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sketchrnn_fast.cli.hyper_parameters import with_hyper_parameters

if TYPE_CHECKING:
    from sketchrnn_fast.training import Result


@with_hyper_parameters
def train(
    *,
    given: dict[str, Any],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data_set's files; here if not given.")
    ] = None,
    log_root: Annotated[
        Path, typer.Option(help="Folder for checkpoints, metrics, curves and pictures.")
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
    log: Annotated[
        str | None,
        typer.Option(
            "--log",
            "--display",  # torchrun takes --log for its own --log-dir, wherever it stands
            help="plain (lines, for files) or rich (live); by terminal if not given.",
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Sketches to draw at each evaluation; 0 draws none.")
    ] = 16,
    rank_timeout: Annotated[
        float, typer.Option(help="Under torchrun: seconds that a rank waits for the others.", min=1)
    ] = 600.0,
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs",
            help="Take the steps from CUDA graphs, batches made on the GPU (untested on one).",
        ),
    ] = False,
) -> None:
    """Train a model.

    Without options, on the built-in dataset with Magenta's hyper-parameters, until stopped.
    """
    from sketchrnn_fast.cli.devices import choose_device
    from sketchrnn_fast.config import split_hparams, to_json
    from sketchrnn_fast.training import Interrupted, checkpoints
    from sketchrnn_fast.training import train as run
    from sketchrnn_fast.training.display import choose_console
    from sketchrnn_fast.training.distributed import is_first_rank
    from sketchrnn_fast.training.setup import check_log_root

    chosen = choose_device(device)
    console = choose_console(log)
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
            console=console,
            pictures=pictures,
            rank_timeout=rank_timeout,
            cuda_graphs=cuda_graphs,
        )
    except Interrupted as stop:
        if is_first_rank():
            typer.echo(
                f"{signal.Signals(stop.signal).name}: stopped after step {stop.step}, which is "
                "saved\n"
                f"go on with:    {_command('train', log_root, data_dir, '--resume_training')}",
                err=True,
            )
        raise typer.Exit(128 + stop.signal) from None
    except KeyboardInterrupt:
        typer.echo("stopped before the first step; nothing was changed", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None
    if is_first_rank():
        typer.echo(_summary(result, data_dir, train_config.num_steps))


def _summary(result: Result, data_dir: Path | None, num_steps: int) -> str:
    """What came out of a run, and the commands to use it."""
    from sketchrnn_fast.training import checkpoints

    state, log_root = result.state, result.log_root
    lines = []
    if result.steps == 0:
        lines.append(f"nothing to do: the run has {state.step} steps, num_steps is {num_steps}")
    if result.stopped_early:
        lines.append(
            f"stopped early: the last {state.stale_evaluations} evaluations were no better"
        )
    skipped = f" ({state.skipped} of them skipped)" if state.skipped else ""
    if result.stopped_early:
        longer = ("--patience", str(2 * state.stale_evaluations))
    else:
        longer = ("--num_steps", str(2 * state.step))
    lines += [
        f"done: {state.step} steps{skipped}; best validation cost "
        f"{'none' if state.best_cost is None else f'{state.best_cost:.4f}'} at step "
        f"{state.best_step}",
        f"the best:      {checkpoints.find(log_root)}",
        f"the curves:    {log_root / 'curves.png'}",
        f"draw with it:  {_command('sample', log_root, None)}",
        f"evaluate it:   {_command('evaluate', log_root, data_dir)}",
        "train longer:  " + _command("train", log_root, data_dir, "--resume_training", *longer),
    ]
    return "\n".join(lines)


def _command(name: str, log_root: Path, data_dir: Path | None, *options: str) -> str:
    """A command on this run, as a shell takes it."""
    place = ["--log_root", str(log_root)] if name == "train" else [str(log_root)]
    data = [] if data_dir is None else ["--data_dir", str(data_dir)]
    return shlex.join(["sketchrnn-fast", name, *place, *data, *options])
