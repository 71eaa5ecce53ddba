"""Steps of fixed shapes that wait for nothing, and their capture in CUDA graphs.

A step of a few milliseconds has hundreds of kernels, and launching them one by one takes the host
longer than the GPU takes to run them. A CUDA graph is launched at once. It runs the same kernels on
the same memory each time, so all that differs from step to step lies in tensors which are filled
before: `StepInputs`. Shapes may not differ; batches are cut to one of a few lengths
(`device_data.bucket_sizes`), with a graph for each.

Whether a step was finite is not asked at once, since the host would have to wait. The first step
that is not is noted on the device, and from there on no step changes anything, until the host looks
(`retaken`), goes back to it, and takes it again in the ordinary way. So the run is the one that
looks at each step.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import torch
from numpy.typing import NDArray

from sketchrnn_fast.config import TrainConfig
from sketchrnn_fast.data import Dataset, SketchDataset
from sketchrnn_fast.nn import Losses, SketchRNN
from sketchrnn_fast.philox import choose, derive_seed
from sketchrnn_fast.training.averaging import Average
from sketchrnn_fast.training.device_data import DeviceSketches, bucket_sizes
from sketchrnn_fast.training.distributed import ALONE, Ranks
from sketchrnn_fast.training.errors import TrainingError
from sketchrnn_fast.training.optimiser import Optimiser
from sketchrnn_fast.training.schedules import kl_weight, learning_rate
from sketchrnn_fast.training.seeds import Place
from sketchrnn_fast.training.step import Step, StepResult

# Graphs share their memory, but capturing takes a second or so, and each keeps its kernels' nodes.
MOST_GRAPHS = 4

# Steps of each length before its capture, in which kernels are compiled and libraries set up.
_WARM_UP_STEPS = 3

_NO_STEP = -1


class StepInputs:
    """What differs from step to step, in one tensor of the device, so that one copy fills it.

    Attributes:
        indices: the batch, int64 [B].
        step, batch_seed, model_seed: int64 [1].
        kl_weight, learning_rate: float64 scalars.
    """

    def __init__(self, batch_size: int, device: torch.device) -> None:
        self._all = torch.zeros(batch_size + 5, dtype=torch.int64, device=device)
        self.indices = self._all[:batch_size]
        self.step, self.batch_seed, self.model_seed = self._all[batch_size:-2].split(1)
        self.kl_weight, self.learning_rate = self._all[-2:].view(torch.float64).unbind()

    def fill(self, config: TrainConfig, step: int, indices: NDArray[np.int64]) -> None:
        """Set everything for the step after `step` updates; the host does not wait."""
        # Fresh each time: the copy may still read it when the next one is made.
        staged = torch.empty(
            self._all.shape, dtype=torch.int64, pin_memory=self._all.device.type == "cuda"
        )
        values = staged.numpy()
        values[: len(indices)] = indices
        seeds = [derive_seed(config.seed, step, place) for place in (Place.BATCH, Place.MODEL)]
        values[len(indices) : -2] = [step, *seeds]
        values[-2:].view(np.float64)[:] = [kl_weight(config, step), learning_rate(config, step)]
        self._all.copy_(staged, non_blocking=True)


class StaticStep(Step):
    """`Step` in the form that a graph can hold, run as it is; on any device.

    Its results count as finite until `retaken` says otherwise.

    Args:
        model, optimiser, dataset, config, average: as `Step`; the dataset's points are copied to
            the device.

    Attributes:
        sizes: the numbers of points that batches are cut to.
    """

    def __init__(
        self,
        model: SketchRNN,
        optimiser: Optimiser,
        dataset: SketchDataset,
        config: TrainConfig,
        average: Average | None = None,
    ) -> None:
        super().__init__(model, optimiser, dataset, config, average=average)
        device, dtype = model.scale_factor.device, optimiser.parameters[0].dtype
        self.sizes = bucket_sizes(dataset.lengths, config.batch_size, MOST_GRAPHS)
        self.inputs = StepInputs(config.batch_size, device)
        self._sketches = DeviceSketches(dataset, device)
        self._figures = torch.zeros(len(Losses._fields) + 2, dtype=dtype, device=device)
        self._failed = torch.full((1,), _NO_STEP, dtype=torch.int64, device=device)

    def __call__(self, step: int, *, measure: bool = False) -> StepResult:
        """Take the step after `step` updates; the figures of the gradients are always given."""
        self.stopwatch.start()
        seed = derive_seed(self.config.seed, step, Place.BATCH)
        indices = choose(seed, len(self.dataset), self.config.batch_size)
        longest = int(self.dataset.lengths[indices].max())
        self.inputs.fill(self.config, step, indices)
        self.stopwatch.lap("data")
        self.run(self.sizes[bisect_left(self.sizes, longest)])
        *losses, norm, fraction = self._figures.clone().unbind()
        self.stopwatch.lap("backward")
        return StepResult(step, Losses(*losses), indices, True, norm, fraction)

    def run(self, most_points: int) -> None:
        """Take the step that `inputs` tells, its batch cut to so many points."""
        self.compute(most_points)

    def compute(self, most_points: int) -> None:
        """The step as a fixed sequence of operations on the device, none of which is waited for."""
        config, inputs = self.config, self.inputs
        strokes, lengths = self._sketches.batch(
            inputs.indices,
            inputs.batch_seed,
            most_points=most_points,
            max_seq_len=self.model.config.max_seq_len,
            random_scale_factor=config.random_scale_factor,
            augment_stroke_prob=config.augment_stroke_prob,
        )
        self.model.train()
        losses = self.model.loss(
            strokes,
            lengths,
            kl_weight=inputs.kl_weight.to(strokes.dtype),
            objective=config.objective,
            labels=self._sketches.labels(inputs.indices) if self.model.config.num_classes else None,
            kl_tolerance=config.kl_tolerance,
            seed=inputs.model_seed,
            most_points=most_points,
        )
        losses.total.backward()
        figures = [one.detach() for one in (*losses, *self.gradient_figures())]
        self._figures.copy_(torch.stack(figures))
        fails_first = ~self.finiteness(losses) & (self._failed == _NO_STEP)
        self._failed.copy_(torch.where(fails_first, inputs.step, self._failed))
        is_skipped = (self._failed != _NO_STEP).squeeze()
        self.optimiser.step(inputs.learning_rate, is_skipped)
        if self.average is not None:
            self.average.update(self.optimiser.count, is_skipped)

    def retaken(self) -> StepResult | None:
        """The first step since the last look that was not finite, taken again as `Step` does.

        None if all were finite. The later ones changed nothing; they are to be taken again.
        """
        self.stopwatch.start()
        step = int(self._failed)
        self.stopwatch.lap("backward")
        if step == _NO_STEP:
            return None
        self._failed.fill_(_NO_STEP)
        return super().__call__(step, measure=True)


class CapturedStep(StaticStep):
    """`StaticStep` in CUDA graphs, one for each size, captured when it has been run a few times.

    Raises:
        TrainingError: a step cannot be captured, as where an operation waits for the device.
    """

    def __init__(
        self,
        model: SketchRNN,
        optimiser: Optimiser,
        dataset: SketchDataset,
        config: TrainConfig,
        average: Average | None = None,
    ) -> None:
        super().__init__(model, optimiser, dataset, config, average)
        self._device = model.scale_factor.device
        self._stream = torch.cuda.Stream(self._device)
        self._memory = torch.cuda.graph_pool_handle()
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._warmed_up = dict.fromkeys(self.sizes, 0)

    def run(self, most_points: int) -> None:
        if self._warmed_up[most_points] < _WARM_UP_STEPS:
            self._warmed_up[most_points] += 1
            self._run_aside(most_points)
            return
        if most_points not in self._graphs:
            self._graphs[most_points] = self._capture(most_points)
        self._graphs[most_points].replay()

    def _run_aside(self, most_points: int) -> None:
        """Without a graph, on the stream of the captures, where autograd's nodes must be made."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.compute(most_points)
        current.wait_stream(self._stream)

    def _capture(self, most_points: int) -> torch.cuda.CUDAGraph:
        """Record a step; nothing is run."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._memory, stream=self._stream):
                self.compute(most_points)
        except RuntimeError as error:
            raise TrainingError(
                f"a step cannot be captured in a CUDA graph ({str(error).splitlines()[0]}); "
                "train without --cuda-graphs"
            ) from error
        return graph


def choose_step(
    model: SketchRNN,
    optimiser: Optimiser,
    dataset: Dataset,
    config: TrainConfig,
    cuda_graphs: bool,
    ranks: Ranks = ALONE,
    average: Average | None = None,
) -> Step:
    """What takes a run's steps.

    Args:
        model, optimiser, dataset, config, ranks, average: as `Step`.
        cuda_graphs: whether from CUDA graphs.

    Raises:
        TrainingError: graphs are asked for and cannot hold the step, or the data does not fit on
            the device.
    """
    if not cuda_graphs:
        return Step(model, optimiser, dataset, config, ranks, average)
    device = model.scale_factor.device
    obstacle = _obstacle(device, dataset, config, ranks)
    if obstacle is not None:
        raise TrainingError(f"cuda_graphs is on, but {obstacle}")
    assert isinstance(dataset, SketchDataset)
    try:
        return CapturedStep(model, optimiser, dataset, config, average)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the {dataset.starts[-1]} points of the train split do not fit into the memory of "
            f"{device}, where CUDA graphs need them; train without --cuda-graphs"
        ) from None


def _obstacle(
    device: torch.device, dataset: Dataset, config: TrainConfig, ranks: Ranks
) -> str | None:
    """Why CUDA graphs cannot hold a run's steps; None if they can."""
    if device.type != "cuda":
        return f"the device is {device}; CUDA graphs need a CUDA device"
    if ranks.size > 1:
        return f"the run has {ranks.size} ranks; CUDA graphs hold the steps of one"
    if config.micro_batch_size:
        return (
            f"micro_batch_size is {config.micro_batch_size}; CUDA graphs hold whole batches, "
            "micro_batch_size 0"
        )
    if not isinstance(dataset, SketchDataset):
        return "the train split is a store, read from disk; CUDA graphs need one in memory, an npz"
    return None
