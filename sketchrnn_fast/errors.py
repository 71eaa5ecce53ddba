"""The one kind of error that a user can mend: bad input, told in one sentence."""

from __future__ import annotations


class UserError(ValueError):
    """What was found, where, and what is accepted; the command line prints it.

    Attributes:
        exit_code: what the command line ends with.
        is_told: another process of the same run tells it, so that this one need not.
    """

    exit_code = 2
    is_told = False
