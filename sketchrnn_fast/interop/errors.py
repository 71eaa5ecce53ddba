"""What a model's file from elsewhere can be refused for."""

from __future__ import annotations

import reprlib
from typing import Any

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.errors import UserError

_MOST_QUOTED = 100


class ModelFileError(UserError):
    """A file is not the model that it is taken for; the message says what was found."""


class ExportError(UserError):
    """A model cannot be written in the form that was asked for; the message says why."""


def check_classless(config: ModelConfig, whose: str) -> None:
    """Refuse a model whose decoder is told a class.

    Args:
        whose: who has no place for classes, for the message.

    Raises:
        ExportError: it has classes.
    """
    if config.num_classes:
        count = config.num_classes
        classes = "1 class" if count == 1 else f"{count} classes"
        raise ExportError(f"this model has {classes}, and {whose} none; huggingface keeps them")


def quoted(value: Any) -> str:
    """What a file says, for a message: as Python writes it, cut where it is long or deep."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxlong = _MOST_QUOTED
    text = writer.repr(value)
    return text if len(text) <= _MOST_QUOTED else text[: _MOST_QUOTED - 1] + "…"
