"""The error of every dataset that cannot be used."""

from __future__ import annotations


class DatasetError(ValueError):
    """A dataset is missing or not what it must be; the message names what and where."""
