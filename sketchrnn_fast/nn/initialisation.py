"""How the original initialises its weights, in place and from torch's generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def glorot_uniform_(weight: Tensor) -> Tensor:
    """Uniform within ±√(6 / (rows + columns)) of the whole matrix; a vector counts twice.

    TensorFlow's default (Glorot & Bengio 2010): the gates' four blocks count as one matrix.
    """
    fan_in, fan_out = weight.shape[0], weight.shape[-1]
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return weight.uniform_(-limit, limit)


@torch.no_grad()
def orthogonal_blocks_(weight: Tensor) -> Tensor:
    """Independent random orthogonal matrices side by side: [N, 4N] as four blocks [N, N]."""
    for block in weight.split(weight.shape[0], dim=1):
        block.copy_(torch.nn.init.orthogonal_(torch.empty_like(block, dtype=torch.float32)))
    return weight
