"""Evaluation on a whole split, with the figures that the original would print beside ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Dataset, batch
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.nn.modes import evaluating
from sketchrnn_fast.training.distributed import ALONE, Ranks
from sketchrnn_fast.training.seeds import Place, place_seed


@dataclass(frozen=True)
class Evaluation:
    """Losses in nats, means over all sketches of a split, dropout off, z drawn by seed.

    Every reconstruction figure is divided by the T of the model, as in training.

    Attributes:
        cost: reconstruction + kl_weight · kl, with the weight at the end of its schedule.
        reconstruction: in the form of the run's objective.
        kl: with its floor, which is applied to the mean over all sketches.
        reconstruction_magenta: offset loss, and pen loss over every row, padding included.
        reconstruction_masked: offset loss, and pen loss over the points and the one end row.
        reconstruction_points: offset loss, and pen loss over the points alone: what the original
            computes in its inference mode.
        magenta_cost, magenta_reconstruction, magenta_kl: what the original prints: the remainder
            of the last batch (its longest sketches) dropped, the floor of the KL term applied in
            each batch, the KL weight that of the start. None with fewer sketches than a batch.
        sketches: how many there were.
    """

    cost: float
    reconstruction: float
    kl: float
    reconstruction_magenta: float
    reconstruction_masked: float
    reconstruction_points: float
    magenta_cost: float | None
    magenta_reconstruction: float | None
    magenta_kl: float | None
    sketches: int

    def record(self) -> dict[str, Any]:
        return asdict(self)


# What is kept of a batch's losses, in the columns of a table.
_COLUMNS = ("reconstruction", "offset", "pen", "kl", "kl_raw", "pen_masked", "pen_points")


@torch.no_grad()
def evaluate(
    model: SketchRNN,
    dataset: Dataset,
    config: TrainConfig,
    step: int = 0,
    *,
    ranks: Ranks = ALONE,
    between: Callable[[], None] | None = None,
) -> Evaluation:
    """Evaluate a model on all of a split.

    Ranks take the batches in turn, the same that one process would make, and every one gets the
    figures of all: to the bit those of one process.

    Args:
        dataset: in model units, no sketch longer than the model's max_seq_len.
        config: its batch size, objective, KL settings and seed.
        step: the step of the run; a part of the seed of z.
        ranks: who else evaluates; each calls this with the same arguments.
        between: called before each batch, or round of batches by several ranks; what it raises
            abandons the evaluation.
    """
    device = model.scale_factor.device
    seed = place_seed(config.seed, step, Place.EVALUATION, device)
    starts = range(0, len(dataset), config.batch_size)
    table = torch.zeros(len(starts), len(_COLUMNS), dtype=torch.float64, device=device)
    with evaluating(model):
        for index, start in enumerate(starts):
            if between is not None and index % ranks.size == 0:
                between()
            if index % ranks.size != ranks.rank:
                continue
            stop = min(start + config.batch_size, len(dataset))
            rows = batch(dataset, np.arange(start, stop), model.config.max_seq_len)
            labels = None
            if model.config.num_classes:
                labels = torch.from_numpy(rows.labels).to(device)
            losses = model.loss(
                torch.from_numpy(rows.strokes).to(device),
                torch.from_numpy(rows.lengths).to(device),
                labels=labels,
                kl_tolerance=config.kl_tolerance,
                seed=seed,
                row_offset=start,
            )
            table[index] = torch.stack([getattr(losses, name) for name in _COLUMNS])
    ranks.sum_([table])
    columns = dict(zip(_COLUMNS, table.T.tolist(), strict=True))
    return _summary(columns, len(dataset), config, conditional=model.config.conditional)


def _summary(
    columns: dict[str, list[float]], count: int, config: TrainConfig, conditional: bool
) -> Evaluation:
    """The figures of a split of `count` sketches from the losses of its batches."""
    size = config.batch_size

    def mean(name: str) -> float:
        rows = (min(size, count - start) for start in range(0, count, size))
        return sum(row * loss for row, loss in zip(rows, columns[name], strict=True)) / count

    offset = mean("offset")
    forms = {
        "magenta": offset + mean("pen"),
        "masked": offset + mean("pen_masked"),
        "points": offset + mean("pen_points"),
    }
    kl = max(mean("kl_raw"), config.kl_tolerance) if conditional else 0.0
    reconstruction = forms[config.objective]

    magenta: tuple[float | None, float | None, float | None] = (None, None, None)
    whole = count // size
    if whole:
        whole_reconstruction = sum(columns["reconstruction"][:whole]) / whole
        whole_kl = sum(columns["kl"][:whole]) / whole
        cost = whole_reconstruction + config.kl_weight_start * whole_kl
        magenta = (cost, whole_reconstruction, whole_kl)
    return Evaluation(
        cost=reconstruction + config.kl_weight * kl,
        reconstruction=reconstruction,
        kl=kl,
        reconstruction_magenta=forms["magenta"],
        reconstruction_masked=forms["masked"],
        reconstruction_points=forms["points"],
        magenta_cost=magenta[0],
        magenta_reconstruction=magenta[1],
        magenta_kl=magenta[2],
        sketches=count,
    )
