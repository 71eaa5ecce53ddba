"""The error of every dataset that cannot be used."""

from __future__ import annotations

from sketchrnn_fast.errors import UserError


class DatasetError(UserError):
    """A dataset is missing or not what it must be; the message names what and where."""
