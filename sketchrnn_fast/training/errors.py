"""What can go wrong with a run, one class for each exit code of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sketchrnn_fast.errors import UserError


class TrainingError(UserError):
    """A run cannot start, or cannot go on."""


class DivergedError(TrainingError):
    """A loss, a gradient or a weight is no longer finite; a report lies in the log root."""

    exit_code = 3


class WriteError(TrainingError):
    """The log root cannot be written; the last checkpoint is whole."""

    exit_code = 4


class InUseError(TrainingError):
    """Another run writes to the log root."""

    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """A signal ended the run, which was saved before.

    Attributes:
        signal: its number.
        step: the updates done and saved.
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"signal {signal} after step {step}")
        self.signal = signal
        self.step = step


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell an error of the system in the block as a `WriteError` about this file or folder."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error
