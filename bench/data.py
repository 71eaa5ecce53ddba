"""Suite `data`: loading, and the batch's share in a training step at default sizes.

The peer of loading is NumPy's own reading of the same file, with its pickle; that of a batch is
the rest of the training step that the batch feeds, on the default backend; that of what the host
does for a step whose batch the device makes (`training/graphs.py`) is a batch. Without
SKETCHRNN_FAST_SHARED (or ../shared) the built-in dataset stands in for aaron_sheep.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sheep
import torch
from timing import interleaved, record

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import hershey, load, random_batch
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import choose
from sketchrnn_fast.training import Optimiser
from sketchrnn_fast.training.graphs import StepInputs


def run() -> list[dict[str, object]]:
    file = _file()
    splits = load([file.name], file.parent)
    config = TrainConfig()

    loading = interleaved(
        {"load": lambda: load([file.name], file.parent), "numpy": lambda: _numpy_load(file)},
        repeats=5,
    )

    def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
        batch = random_batch(
            splits.train,
            config.batch_size,
            splits.max_seq_len,
            seed=1,
            random_scale_factor=config.random_scale_factor,
            augment_stroke_prob=config.augment_stroke_prob,
        )
        return torch.from_numpy(batch.strokes), torch.from_numpy(batch.lengths)

    strokes, lengths = make_batch()
    model = SketchRNN(ModelConfig(max_seq_len=splits.max_seq_len))
    optimiser = Optimiser(model.parameters(), config.grad_clip)

    def step() -> None:
        model.loss(strokes, lengths).total.backward()
        optimiser.step(config.learning_rate)

    inputs = StepInputs(config.batch_size, torch.device("cpu"))

    def draw() -> None:
        inputs.fill(config, 0, choose(1, len(splits.train), config.batch_size))

    batching = interleaved({"batch": make_batch, "step": step}, repeats=5)
    drawing = interleaved({"draw": draw, "batch": make_batch}, repeats=50)
    return [
        record("data", f"load {file.stem}", "numpy.load", loading["load"], loading["numpy"]),
        record("data", "batch of 100", "rest of the step", batching["batch"], batching["step"]),
        record("data", "inputs of a static step", "batch", drawing["draw"], drawing["batch"]),
    ]


def _file() -> Path:
    file = sheep.file()
    if file is not None:
        return file
    hershey.sketches()
    return next(hershey.cache_folder().glob("*.npz"))


def _numpy_load(file: Path) -> list[np.ndarray]:
    """The peer: what the original does. It trusts the file, which the package never would."""
    with np.load(file, allow_pickle=True, encoding="latin1") as archive:
        return [archive[split] for split in ("train", "valid", "test")]
