"""A module's training mode, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block, and each module's own mode again after it.

    The mode belongs to the model, so another thread that uses the model meanwhile sees it too, and
    of two such blocks at once on one model neither may give the modes back as they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training
