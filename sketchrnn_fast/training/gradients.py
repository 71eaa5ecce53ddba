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

The gradients of micro-batches are added up in float64, over ranks too. A sum of some float32
numbers is exact there but for rare cases, whatever its order, so a run whose ranks have whole
micro-batches is the same to the bit for any number of ranks.
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
    figures = torch.zeros(len(Losses._fields), dtype=torch.float64, device=seed.device)
    sums = _Sums(model) if config.micro_batch_size else None
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
                kl = part.share * losses.kl_raw.detach().double()
                ranks.sum_([kl])
            gate = (kl >= config.kl_tolerance).to(losses.kl_raw)
            objective = objective + kl_weight * gate * losses.kl_raw
        lap("forward")
        (part.share * objective).backward()
        figures += part.share * torch.stack([figure.detach() for figure in losses]).double()
        if sums is not None:
            sums.take()
        lap("backward")
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    ranks.sum_(gradients if sums is None else sums.tensors)
    ranks.sum_([figures])
    if sums is not None:
        sums.give()
    lap("backward")
    mean = Losses(*figures.to(model.output.linear.weight.dtype).unbind())
    return _of_the_batch(mean, config, kl_weight, model.config.conditional)


class _Sums:
    """Sums of a model's gradients in float64.

    Attributes:
        tensors: one a parameter.
    """

    def __init__(self, model: SketchRNN) -> None:
        self._parameters = list(model.parameters())
        self.tensors = [torch.zeros_like(one, dtype=torch.float64) for one in self._parameters]

    def take(self) -> None:
        """Move the parameters' gradients into the sums."""
        for parameter, total in zip(self._parameters, self.tensors, strict=True):
            if parameter.grad is not None:
                total += parameter.grad
                parameter.grad = None

    def give(self) -> None:
        """Move the sums into the parameters' gradients."""
        for parameter, total in zip(self._parameters, self.tensors, strict=True):
            parameter.grad = total.to(parameter.dtype)


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
        part.share * model.kl(part.strokes, part.lengths, seed=seed, row_offset=part.row).double()
        for part in parts
    ]
    kl = torch.stack(terms).sum()
    ranks.sum_([kl])
    return kl


def _of_the_batch(mean: Losses, config: TrainConfig, kl_weight: float, conditional: bool) -> Losses:
    """The losses of a batch from the means over its parts: the floor falls on the mean."""
    kl = mean.kl_raw.clamp(min=config.kl_tolerance) if conditional else mean.kl_raw
    return mean._replace(kl=kl, total=mean.reconstruction + kl_weight * kl)
