"""The places at which a training run draws random numbers.

Each draws from `philox.derive_seed(run seed, step, place)`; no generator's state is carried from
step to step, so a resumed or a sharded run draws what an uninterrupted one would.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from sketchrnn_fast.philox import derive_seed


class Place(IntEnum):
    INITIALISATION = 0
    BATCH = 1
    MODEL = 2
    EVALUATION = 3
    PICTURES = 4


def place_seed(run_seed: int, step: int, place: Place, device: torch.device) -> Tensor:
    """The seed of one place in one step as the model takes it: int64 [1]."""
    return torch.tensor([derive_seed(run_seed, step, place)], device=device)
