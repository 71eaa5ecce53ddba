"""Options that several commands share: dataclasses whose fields become a command's options."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Model = Annotated[
    Path,
    typer.Argument(help="A run's log root, a checkpoint's folder, or a file of sketch-rnn-js."),
]


@dataclass(frozen=True)
class SamplerOptions:
    """How sketches are drawn, but for the temperature."""

    mode: Annotated[
        str, typer.Option(help="What temperature means: magenta, or js (sketch-rnn-js, the paper).")
    ] = "magenta"
    seed: Annotated[int, typer.Option(help="The first sketch's seed; the next has seed + 1.")] = 0
    max_len: Annotated[
        int | None, typer.Option(help="Most points of a sketch; the model's own limit.", min=1)
    ] = None
    storage: Annotated[
        str, typer.Option(help="Of the decoder's matrices: float32, or bfloat16 for speed.")
    ] = "float32"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto"
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Of a model with classes, the one to draw, by name or number; without it all in "
            "turn, or that of the data.",
        ),
    ] = None
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights, of a run with ema_decay.")
    ] = False

    def check(self) -> None:
        """Refuse, before any work, what cannot be."""
        from sketchrnn_fast.config import MOST_SIZE
        from sketchrnn_fast.ops.sampler_checks import check_storage, check_whole

        check_storage(self.storage)
        if self.max_len is not None:
            check_whole("max_len", self.max_len, 1, MOST_SIZE)


@dataclass(frozen=True)
class DrawingOptions(SamplerOptions):
    """How sketches are drawn."""

    temperature: Annotated[
        float, typer.Option(help="1 follows the model, lower is tamer, 0 is greedy.")
    ] = 0.5
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the likeliest stroke at every step.")
    ] = False

    def check(self) -> None:
        """Refuse, before any work, what cannot be."""
        super().check()
        check_temperatures([self.temperature], self.mode)

    def arguments(self) -> dict[str, Any]:
        """The arguments of the functions of `generation` that they all have."""
        names = ("mode", "seed", "max_len", "storage", "temperature", "greedy")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DataOptions:
    """Which sketches a command is given."""

    data_set: Annotated[
        str | None, typer.Option(help="Comma-separated datasets; those of the training run.")
    ] = None
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data_set's files; here if not given.")
    ] = None
    split: Annotated[str | None, typer.Option(help="train, valid or test; test if not given.")] = (
        None
    )
    sketches: Annotated[
        Path | None,
        typer.Option(help="Instead of a dataset: an .npz that these commands wrote."),
    ] = None
    indices: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated numbers of sketches, from 0 on: in a split from short to long, "
            "in a file as they stand. Without it, random ones of a split, or all of a file."
        ),
    ] = None

    def check_unused(self) -> None:
        """Refuse every option of the data, for a command that takes z from the prior.

        Raises:
            UserError: one is given.
        """
        from sketchrnn_fast.errors import UserError

        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                raise UserError(
                    f"{field.name} is given, but z is prior, for which no data is read; z data "
                    "takes it"
                )

    def count_or(self, count: int | None, default: int) -> int | None:
        """How many sketches to take; None where a file or the indices say so."""
        is_open = count is None and self.indices is None and self.sketches is None
        return default if is_open else count


@dataclass(frozen=True)
class OutputOptions:
    """Where drawings go."""

    out: Annotated[
        list[Path] | None,
        typer.Option(
            help="The file to write: a grid as .svg or .png, or stroke-3 as .npz. May be given "
            "several times; without it, an .svg here."
        ),
    ] = None
    columns: Annotated[int | None, typer.Option(help="Columns of the grid.", min=1)] = None


def with_options(**groups: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of dataclasses as options.

    Args:
        groups: for each keyword argument of the command the dataclass that it receives.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
            if name not in groups
        ]
        shared = [option for group in groups.values() for option in _options(group)]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            for name, group in groups.items():
                fields = [field.name for field in dataclasses.fields(group)]
                arguments[name] = group(**{field: arguments.pop(field) for field in fields})
            command(**arguments)

        run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        run.__annotations__ = {
            parameter.name: parameter.annotation for parameter in [*own, *shared]
        }
        return run

    return decorate


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]


def check_temperatures(values: list[float], mode: str) -> None:
    """Refuse what is no temperature or mode.

    Raises:
        UserError: a value is negative or not finite, or the mode unknown.
    """
    from sketchrnn_fast.ops import Temperature
    from sketchrnn_fast.ops.sampler_checks import check_temperature

    for value in values:
        check_temperature(Temperature(value, mode))


def parse_list(text: str, number: type[int] | type[float], name: str) -> list[Any]:
    """Comma-separated numbers.

    Raises:
        UserError: an item is none.
    """
    from sketchrnn_fast.errors import UserError

    try:
        return [number(item) for item in text.split(",")]
    except ValueError:
        kind = "whole numbers" if number is int else "numbers"
        raise UserError(f"{name} is {text!r}; it takes comma-separated {kind}") from None
