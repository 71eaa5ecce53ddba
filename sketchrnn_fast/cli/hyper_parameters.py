"""Every hyper-parameter as a typed option, made from the configurations' own fields."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from sketchrnn_fast.config import (
    ConfigError,
    ModelConfig,
    TrainConfig,
    field_types,
    parse_hparams,
)


def with_hyper_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every hyper-parameter, and `--hparams` for Magenta's form.

    The command receives the values that were given, by name, as its argument `given`.
    """
    magenta = """Magenta's form: "name=value,name=[value,value]"."""
    options = [_option("hparams", str | None, magenta)]
    types = field_types()
    for config in (ModelConfig, TrainConfig):
        for field in dataclasses.fields(config):
            is_list = types[field.name] is tuple
            default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
            text = f"{field.metadata['help']} ({'comma-separated; ' if is_list else ''}{default})"
            kind: Any = (str if is_list else types[field.name]) | None
            options.append(_option(field.name, kind, text))

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        values = {option.name: arguments.pop(option.name) for option in options}
        command(given=_given(values.pop("hparams"), values), **arguments)

    own = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "given"
    ]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *options]}
    return run


def _option(name: str, kind: Any, text: str) -> inspect.Parameter:
    flag = name.replace("_", "-")
    declaration = f"--{flag}/--no-{flag}" if kind == (bool | None) else f"--{flag}"
    option = typer.Option(declaration, help=text)
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword_only, default=None, annotation=Annotated[kind, option])


def _given(hparams: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The values that were given, whichever way."""
    given = parse_hparams(hparams or "")
    for name, value in options.items():
        if value is None:
            continue
        if name in given:
            raise ConfigError(f"{name} is given twice, in --hparams and as an option")
        is_list = field_types()[name] is tuple
        given[name] = tuple(item for item in value.split(",") if item) if is_list else value
    return given
