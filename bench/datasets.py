"""The datasets of the benchmarks, from SKETCHRNN_FAST_SHARED or ../shared: aaron_sheep first.

Without them random drawings of aaron_sheep's lengths (250 points at most, 125 on average) stand in.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import SketchDataset, Splits, load, random_batch

MOST_POINTS = 250
DATASETS = ("aaron_sheep", "short_kanji")
RANDOM = "random drawings"


def shared() -> Path:
    """The folder of what the benchmarks may use and the project does not hold."""
    return Path(os.environ.get("SKETCHRNN_FAST_SHARED", Path(__file__).parents[2] / "shared"))


def file(name: str = "aaron_sheep") -> Path | None:
    """Where that dataset is, if it is here."""
    path = shared() / "data" / f"{name}.npz"
    return path if path.is_file() else None


def names() -> list[str]:
    """The datasets that are here; random drawings if none is."""
    return [name for name in DATASETS if file(name)] or [RANDOM]


def name() -> str:
    """The first of them."""
    return names()[0]


@cache
def splits(name: str, most: int | None = None) -> Splits:
    """A dataset of `names`, loaded; with `most`, only its sketches of at most so many points."""
    path = file(name)
    if path is not None:
        return load([path.name], path.parent, max_seq_len=most)
    longest = min(most or MOST_POINTS, MOST_POINTS)
    parts = (_random_drawings(count, longest, name) for count in (500, 100, 100))
    return Splits(*parts, scale_factor=1.0, max_seq_len=longest)


def _random_drawings(count: int, longest: int, name: str) -> SketchDataset:
    random = np.random.default_rng(count)
    lengths = np.linspace(1, longest, count).round().astype(int)
    sketches = [
        np.column_stack([random.normal(size=(length, 2)), random.random(length) < 0.1])
        for length in lengths
    ]
    return SketchDataset.from_sketches(sketches, name=name)


def batch_of(splits: Splits, size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """One training batch with the default augmentation: strokes [B, T+1, 5] and lengths [B]."""
    config = TrainConfig()
    drawn = random_batch(
        splits.train,
        size,
        splits.max_seq_len,
        seed=seed,
        random_scale_factor=config.random_scale_factor,
        augment_stroke_prob=config.augment_stroke_prob,
    )
    return torch.from_numpy(drawn.strokes), torch.from_numpy(drawn.lengths)


def lengths(size: int) -> Tensor:
    """Lengths of `size` different sketches of the first dataset as they are."""
    of_all = splits(name()).train.lengths
    return torch.from_numpy(np.random.default_rng(1).choice(of_all, size, replace=False))
