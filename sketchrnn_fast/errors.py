"""The one kind of error that a user can mend: bad input, told in one sentence."""

from __future__ import annotations


class UserError(ValueError):
    """What was found, where, and what is accepted; the command line prints it and ends with 2."""
