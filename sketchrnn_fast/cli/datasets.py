"""The data that a trained model is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from sketchrnn_fast.cli.models import Loaded
from sketchrnn_fast.cli.options import DataOptions, parse_list
from sketchrnn_fast.data import SPLITS, Dataset, DatasetError, load, read_sketches
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import choose


def load_split(
    model: SketchRNN, names: Sequence[str], data_dir: Path | None, split: str
) -> Dataset:
    """One split in the model's units, without the sketches that are too long for it."""
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; it takes {', '.join(SPLITS)}")
    limit = model.config.max_seq_len
    splits = load(names, data_dir, limit, scale_factor=float(model.scale_factor))
    dataset: Dataset = getattr(splits, split)
    if dataset.left_out:
        typer.echo(
            f"left out: {dataset.left_out} sketches of more than {limit} points, the model's limit"
        )
    return dataset


def given_sketches(
    model: Loaded, options: DataOptions, count: int | None, seed: int
) -> list[NDArray[Any]]:
    """The sketches that a command is given, stroke-3 in data units.

    Args:
        count: how many: random ones of a split, by the seed, or the first of a file; as many as
            `indices` names, or all of a file, if None.

    Raises:
        UserError: there are not as many, a file is not what it must be, or options contradict.
    """
    if options.indices is not None and count is not None:
        raise UserError("indices and count are both given; indices already says how many")
    if options.sketches is not None:
        for name in ("data_set", "data_dir", "split"):
            if getattr(options, name) is not None:
                raise UserError(f"sketches and {name} are both given; a file has no {name}")
        drawn, name = read_sketches(options.sketches), str(options.sketches)
        chosen = range(len(drawn) if count is None else count)
        return [drawn[index] for index in _checked(options, chosen, len(drawn), name)]
    split = "test" if options.split is None else options.split
    dataset = load_split(model.network, _names(model, options), options.data_dir, split)
    total, wanted = len(dataset), count or 0
    chosen = choose(seed, total, wanted).tolist() if wanted <= total else range(wanted)
    scale = np.array([float(model.network.scale_factor)] * 2 + [1.0], np.float32)
    return [dataset[index] * scale for index in _checked(options, chosen, total, dataset.name)]


def _checked(options: DataOptions, chosen: Sequence[int], total: int, name: str) -> Sequence[int]:
    """The numbers of the sketches to take, of `total` that there are."""
    if options.indices is None:
        if len(chosen) > total:
            raise DatasetError(f"{name} has {total} sketches; {len(chosen)} were asked for")
        return chosen
    indices: list[int] = parse_list(options.indices, int, "indices")
    for index in indices:
        if not 0 <= index < total:
            raise DatasetError(
                f"{name} has {total} sketches, 0 to {total - 1}; index {index} was asked for"
            )
    return indices


def _names(model: Loaded, options: DataOptions) -> tuple[str, ...]:
    if options.data_set is not None:
        return tuple(options.data_set.split(","))
    if model.data_set is None:
        raise UserError(
            "this model does not say what it was trained on; name a data_set, or a file of sketches"
        )
    return model.data_set
