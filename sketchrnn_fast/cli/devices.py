"""The device that a command runs on."""

from __future__ import annotations

import torch

from sketchrnn_fast.errors import UserError


def choose_device(name: str) -> str:
    """The torch device that a `--device` option means; `auto` takes a GPU if there is one.

    Raises:
        UserError: torch does not know the device or cannot reach it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"device is {name!r}; it takes auto, cpu, cuda, or cuda:1 and so on")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"the device {name} cannot be used here: {reason}") from None
    return name
