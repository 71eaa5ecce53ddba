"""Evaluation on a whole split, with the figures that the original would print beside ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Dataset, evaluation_batches
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.nn.modes import evaluating
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


@torch.no_grad()
def evaluate(model: SketchRNN, dataset: Dataset, config: TrainConfig, step: int = 0) -> Evaluation:
    """Evaluate a model on all of a split.

    Args:
        dataset: in model units, no sketch longer than the model's max_seq_len.
        config: its batch size, objective, KL settings and seed.
        step: the step of the run; a part of the seed of z.
    """
    device = model.scale_factor.device
    seed = place_seed(config.seed, step, Place.EVALUATION, device)
    batches: list[tuple[int, Losses]] = []
    row = 0
    with evaluating(model):
        for batch in evaluation_batches(dataset, config.batch_size, model.config.max_seq_len):
            losses = model.loss(
                torch.from_numpy(batch.strokes).to(device),
                torch.from_numpy(batch.lengths).to(device),
                kl_tolerance=config.kl_tolerance,
                seed=seed,
                row_offset=row,
            )
            batches.append((len(batch.lengths), losses))
            row += len(batch.lengths)
    return _summary(batches, config, conditional=model.config.conditional)


def _summary(
    batches: list[tuple[int, Losses]], config: TrainConfig, conditional: bool
) -> Evaluation:
    count = sum(size for size, _ in batches)

    def mean(name: str) -> float:
        return sum(size * float(getattr(losses, name)) for size, losses in batches) / count

    offset = mean("offset")
    forms = {
        "magenta": offset + mean("pen"),
        "masked": offset + mean("pen_masked"),
        "points": offset + mean("pen_points"),
    }
    kl = max(mean("kl_raw"), config.kl_tolerance) if conditional else 0.0
    reconstruction = forms[config.objective]

    whole = [losses for size, losses in batches if size == config.batch_size]
    magenta: tuple[float | None, float | None, float | None] = (None, None, None)
    if whole:
        whole_reconstruction = sum(float(losses.reconstruction) for losses in whole) / len(whole)
        whole_kl = sum(float(losses.kl) for losses in whole) / len(whole)
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
