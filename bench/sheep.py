"""The dataset of the benchmarks, aaron_sheep, from SKETCHRNN_FAST_SHARED or ../shared; without it,
random drawings of the same lengths (250 points at most, 125 on average) stand in."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import load, random_batch

MOST_POINTS = 250


def shared() -> Path:
    """The folder of what the benchmarks may use and the project does not hold."""
    return Path(os.environ.get("SKETCHRNN_FAST_SHARED", Path(__file__).parents[2] / "shared"))


def file() -> Path | None:
    """Where aaron_sheep is, if it is here."""
    path = shared() / "data" / "aaron_sheep.npz"
    return path if path.is_file() else None


def name() -> str:
    return "aaron_sheep" if file() else "random drawings"


def batch(size: int) -> tuple[Tensor, Tensor]:
    """One training batch with the default augmentation: strokes [B, 251, 5] and lengths [B]."""
    path = file()
    if path is None:
        return _random_drawings(size)
    splits, config = load([path.name], path.parent), TrainConfig()
    drawn = random_batch(
        splits.train,
        size,
        splits.max_seq_len,
        seed=1,
        random_scale_factor=config.random_scale_factor,
        augment_stroke_prob=config.augment_stroke_prob,
    )
    return torch.from_numpy(drawn.strokes), torch.from_numpy(drawn.lengths)


def lengths(size: int) -> Tensor:
    """Lengths of `size` different sketches as they are in the file."""
    path = file()
    if path is None:
        return _random_drawings(size)[1]
    of_file = load([path.name], path.parent).train.lengths
    return torch.from_numpy(np.random.default_rng(1).choice(of_file, size, replace=False))


def _random_drawings(size: int) -> tuple[Tensor, Tensor]:
    row_lengths = torch.linspace(1, MOST_POINTS - 1, size).round().long()
    strokes = torch.zeros(size, MOST_POINTS + 1, 5)
    strokes[..., :2] = torch.randn(size, MOST_POINTS + 1, 2)
    is_point = torch.arange(MOST_POINTS + 1) <= row_lengths[:, None]
    pen = torch.where(is_point, torch.randint(2, is_point.shape), 2)
    strokes[..., 2:] = torch.nn.functional.one_hot(pen, 3).float()
    strokes[..., :2] *= is_point[..., None]
    strokes[:, 0] = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    return strokes, row_lengths
