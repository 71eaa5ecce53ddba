"""The command `sketchrnn-fast`: one file a subcommand.

Subcommands import torch and the rest only when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import re
import sys

import typer

from sketchrnn_fast.cli import data
from sketchrnn_fast.cli.complete import complete
from sketchrnn_fast.cli.evaluate import evaluate
from sketchrnn_fast.cli.export import export
from sketchrnn_fast.cli.import_model import import_model
from sketchrnn_fast.cli.info import info
from sketchrnn_fast.cli.interpolate import interpolate
from sketchrnn_fast.cli.reconstruct import reconstruct
from sketchrnn_fast.cli.sample import sample
from sketchrnn_fast.cli.sweep import sweep
from sketchrnn_fast.cli.train import train
from sketchrnn_fast.errors import UserError


def _hyphens(name: str) -> str:
    """Magenta writes --data_dir, most programs --data-dir: both are taken."""
    return name.replace("_", "-")


# The original's one boolean flag, as absl takes it: --resume_training=true.
_ABSL_BOOLEAN = re.compile(r"^--resume[-_]training=(true|false|1|0|True|False)$")


def _plain_flag(match: re.Match[str]) -> str:
    is_on = match[1] in ("true", "True", "1")
    return "--resume-training" if is_on else "--noresume-training"


app = typer.Typer(
    name="sketchrnn-fast",
    help="Train Sketch-RNN, evaluate it, and draw with it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich's tables cut long names in a narrow terminal
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": _hyphens},
)
for command in (train, evaluate, sample, reconstruct, interpolate, complete, sweep, export, info):
    app.command()(command)
app.command("import")(import_model)  # a word of Python's, which no function can have as its name
app.add_typer(data.app)


def _sentence(error: Exception) -> str:
    """What an error says, without the numbers that the system gives its own."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def main() -> None:
    """Run the command line; bad input, or too little memory, ends it with one sentence.

    The exit code is 2, or what the error says (docs/training.md has the table of `train`).
    """
    sys.argv = [_ABSL_BOOLEAN.sub(_plain_flag, argument) for argument in sys.argv]
    try:
        app()
    except (UserError, OSError) as error:
        if not (isinstance(error, UserError) and error.is_told):
            print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, UserError) else 2)
    except MemoryError as error:
        print(f"error: {str(error) or 'there is not enough memory'}", file=sys.stderr)
        sys.exit(2)
