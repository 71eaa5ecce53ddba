"""One step of training: a batch, its loss, its gradients, the update. It writes and shows nothing.

The seed of every draw comes from (run seed, step, place), so a step is a function of the weights,
the optimiser's moments and its own number. With several ranks every one makes some rows of the
batch; losses and gradients are those of the whole batch, the same on every rank.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Batch, Dataset, random_batch
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.philox import choose, derive_seed
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.distributed import ALONE, Ranks
from sketchrnn_fast.training.gradients import batch_gradient
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.seeds import Place, place_seed

PHASES = ("data", "forward", "backward", "optimiser")


class Stopwatch:
    """Adds up the seconds of each phase of a step, as the host sees them.

    A GPU works on while the host goes on; its time falls into the phase that waits for it, which
    is `backward`, at whose end the host asks whether all is finite.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._since = time.perf_counter()

    def start(self) -> None:
        self._since = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What passed since the last lap belongs to this phase."""
        now = time.perf_counter()
        self.seconds[phase] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """The seconds since the last call, by phase."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken


@dataclass(frozen=True)
class StepResult:
    """What a step computed; tensors stay on their device until someone reads them.

    Attributes:
        step: the updates done before it.
        losses: of its batch, without graph.
        indices: the sketches of its batch, int64 [B], as indices into the train split.
        is_finite: whether the loss and all gradients are; if not, no update was made and the
            gradients are still there.
        gradient_norm: over all gradients, before clipping; None unless asked for.
        clip_fraction: the share of their elements that clipping changes; None unless asked for.
    """

    step: int
    losses: Losses
    indices: NDArray[np.int64]
    is_finite: bool
    gradient_norm: Tensor | None = None
    clip_fraction: Tensor | None = None


class Step:
    """Takes steps of training on random batches.

    Args:
        model: what is trained.
        optimiser: of its parameters.
        dataset: the train split, in model units.
        config: batch size, augmentation, objective, schedules and seed.
        ranks: who else takes the same step.
        average: of the model's weights, kept up with them.
    """

    def __init__(
        self,
        model: SketchRNN,
        optimiser: Optimiser,
        dataset: Dataset,
        config: TrainConfig,
        ranks: Ranks = ALONE,
        average: Average | None = None,
    ) -> None:
        self.model = model
        self.optimiser = optimiser
        self.dataset = dataset
        self.config = config
        self.ranks = ranks
        self.average = average
        self.stopwatch = Stopwatch()

    def __call__(self, step: int, *, measure: bool = False) -> StepResult:
        """Take the step after `step` updates; `measure` asks for the figures of the gradients."""
        self.stopwatch.start()
        batch = self.batch(step)
        self.stopwatch.lap("data")
        losses = self.gradient(batch, step)
        is_finite = self.is_finite(losses)
        self.stopwatch.lap("backward")
        figures = self.gradient_figures() if measure else (None, None)
        if is_finite:
            self.optimiser.step(learning_rate(self.config, step))
            if self.average is not None:
                self.average.update(self.optimiser.count)
        self.stopwatch.lap("optimiser")
        return StepResult(step, losses, self.indices(step), is_finite, *figures)

    def batch(self, step: int) -> Batch:
        """The batch of this step, or this rank's rows of it."""
        return random_batch(
            self.dataset,
            self.config.batch_size,
            self.model.config.max_seq_len,
            seed=self.batch_seed(step),
            random_scale_factor=self.config.random_scale_factor,
            augment_stroke_prob=self.config.augment_stroke_prob,
            rows=self.ranks.rows(self.config.batch_size),
        )

    def indices(self, step: int) -> NDArray[np.int64]:
        """The sketches of the whole batch of this step."""
        return choose(self.batch_seed(step), len(self.dataset), self.config.batch_size)

    def batch_seed(self, step: int) -> int:
        return derive_seed(self.config.seed, step, Place.BATCH)

    def gradient(self, batch: Batch, step: int) -> Losses:
        """Leave the gradient of the batch's loss in the parameters; gives the losses."""
        self.model.train()
        return batch_gradient(
            self.model,
            batch,
            self.config,
            kl_weight=kl_weight(self.config, step),
            seed=place_seed(self.config.seed, step, Place.MODEL, self.model.scale_factor.device),
            ranks=self.ranks,
            lap=self.stopwatch.lap,
        )

    @torch.no_grad()
    def is_finite(self, losses: Losses) -> bool:
        """Whether the loss and every gradient are finite: one figure, fetched once.

        A maximum, not a sum, so that large gradients, which clipping makes small, do not overflow.
        """
        return bool(self.finiteness(losses))

    @torch.no_grad()
    def finiteness(self, losses: Losses) -> Tensor:
        """`is_finite` as a scalar bool of the device, which is not waited for."""
        largest = get_total_norm(self._gradients(), norm_type=math.inf)
        return torch.isfinite(losses.total.detach() + 0 * largest)

    def retaken(self) -> StepResult | None:
        """Look whether all steps were finite; the first that was not is taken again.

        Always None here, where every step is looked at at once.
        """
        return None

    @torch.no_grad()
    def gradient_figures(self) -> tuple[Tensor, Tensor]:
        """The norm of all gradients before clipping, and the share of elements it will change."""
        gradients = self._gradients()
        norm = get_total_norm(gradients)
        elements = torch.cat([one.flatten() for one in gradients])
        return norm, (elements.abs() > self.optimiser.grad_clip).sum() / len(elements)

    def _gradients(self) -> list[Tensor]:
        return [one.grad for one in self.optimiser.parameters if one.grad is not None]
