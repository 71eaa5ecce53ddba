"""The gradient of a batch that is made in parts: by several ranks, in micro-batches, or both.

With share s_p = rows of part p / rows of the batch, the loss of the batch is

    Σ_p s_p reconstruction_p + kl_weight · max(Σ_p s_p kl_p, kl_tolerance)

so the floor of the KL term falls on the mean over the whole batch. Its derivative is that of

    Σ_p s_p (reconstruction_p + kl_weight · g · kl_p)   with g = 1 if Σ_p s_p kl_p ≥ kl_tolerance
                                                        and  g = 0 else

which is a sum over parts once g is known. Over ranks g takes the sum of one number before the
backward pass. With micro-batches the graph of a part is gone before the next part begins, so the
encoder runs over all of them once more beforehand, without a graph: the same draws, as every draw
is keyed by the row of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Batch
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.training.distributed import Ranks


class Part(NamedTuple):
    """Some rows of a batch, on the model's device and in its dtype.

    Attributes:
        row: the number of the first one in the batch.
        share: how many they are, as a part of the batch.
    """

    strokes: Tensor
    lengths: Tensor
    labels: Tensor | None
    row: int
    share: float


def batch_gradient(
    model: SketchRNN,
    batch: Batch,
    config: TrainConfig,
    *,
    kl_weight: float,
    seed: Tensor,
    ranks: Ranks,
    lap: Callable[[str], None] = lambda phase: None,
) -> Losses:
    """Leave the gradient of a whole batch's loss in the parameters.

    Args:
        model: in training mode, its parameters without gradients.
        batch: the rows of this rank, `ranks.rows(config.batch_size)`.
        seed: int64 [1], the key of dropout and noise, the same on every rank.
        lap: told `forward` and `backward` at the end of each.

    Returns:
        The losses of the whole batch, without graph, the same on every rank.
    """
    parts = _parts(model, batch, config, ranks)
    kl = None
    if model.config.conditional and len(parts) > 1:
        kl = _kl_ahead(model, parts, seed, ranks)
    figures = model.output.linear.weight.new_zeros(len(Losses._fields))
    for part in parts:
        losses = model.loss(
            part.strokes,
            part.lengths,
            kl_weight=kl_weight,
            objective=config.objective,
            labels=part.labels,
            kl_tolerance=config.kl_tolerance,
            seed=seed,
            row_offset=part.row,
        )
        objective = losses.reconstruction
        if model.config.conditional:
            if kl is None:
                kl = part.share * losses.kl_raw.detach()
                ranks.sum_([kl])
            gate = (kl >= config.kl_tolerance).to(kl)
            objective = objective + kl_weight * gate * losses.kl_raw
        lap("forward")
        (part.share * objective).backward()
        figures += part.share * torch.stack([figure.detach() for figure in losses])
        lap("backward")
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    ranks.sum_([*gradients, figures])
    lap("backward")
    return _of_the_batch(Losses(*figures.unbind()), config, kl_weight, model.config.conditional)


def _parts(model: SketchRNN, batch: Batch, config: TrainConfig, ranks: Ranks) -> list[Part]:
    """The rows of this rank in micro-batches."""
    weight = model.output.linear.weight
    rows = len(batch.lengths)
    first = ranks.rows(config.batch_size).start
    size = config.micro_batch_size or rows
    parts = []
    for start in range(0, rows, size):
        some = slice(start, min(start + size, rows))
        strokes = torch.from_numpy(batch.strokes[some]).to(weight)
        lengths = torch.from_numpy(batch.lengths[some]).to(weight.device)
        labels = None
        if model.config.num_classes:
            labels = torch.from_numpy(batch.labels[some]).to(weight.device)
        share = len(lengths) / config.batch_size
        parts.append(Part(strokes, lengths, labels, first + start, share))
    return parts


@torch.no_grad()
def _kl_ahead(model: SketchRNN, parts: list[Part], seed: Tensor, ranks: Ranks) -> Tensor:
    """The KL term of the whole batch without its floor."""
    terms = [
        part.share * model.kl(part.strokes, part.lengths, seed=seed, row_offset=part.row)
        for part in parts
    ]
    kl = torch.stack(terms).sum()
    ranks.sum_([kl])
    return kl


def _of_the_batch(mean: Losses, config: TrainConfig, kl_weight: float, conditional: bool) -> Losses:
    """The losses of a batch from the means over its parts: the floor falls on the mean."""
    kl = mean.kl_raw.clamp(min=config.kl_tolerance) if conditional else mean.kl_raw
    return mean._replace(kl=kl, total=mean.reconstruction + kl_weight * kl)
