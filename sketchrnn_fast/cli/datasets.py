"""The data that a trained model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from sketchrnn_fast.data import SPLITS, DatasetError, SketchDataset, load
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import choose


def load_split(
    model: SketchRNN, names: Sequence[str], data_dir: Path | None, split: str
) -> SketchDataset:
    """One split in the model's units, without the sketches that are too long for it."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; it takes {', '.join(SPLITS)}")
    limit = model.config.max_seq_len
    splits = load(names, data_dir, limit, scale_factor=float(model.scale_factor))
    dataset: SketchDataset = getattr(splits, split)
    if dataset.left_out:
        typer.echo(
            f"left out: {dataset.left_out} sketches of more than {limit} points, the model's limit"
        )
    return dataset


def choose_sketches(
    model: SketchRNN,
    names: Sequence[str],
    data_dir: Path | None,
    split: str,
    count: int,
    seed: int,
) -> list[NDArray[Any]]:
    """`count` different random sketches of a split, stroke-3 in data units."""
    dataset = load_split(model, names, data_dir, split)
    if count > len(dataset):
        raise DatasetError(f"{dataset.name} has {len(dataset)} sketches; {count} were asked for")
    scale = np.array([float(model.scale_factor)] * 2 + [1.0], np.float32)
    return [dataset[int(index)] * scale for index in choose(seed, len(dataset), count)]
