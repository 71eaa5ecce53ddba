"""Suite `train`: a whole training step at default sizes, encoder and decoder of the same cell.

A step is the loss of a batch that is at hand, its gradients, their clipping, and Adam. The peers:

* the same step in eager PyTorch (`eager_model`), with the objective `magenta`;
* for the objective `masked`, which leaves padding out: that eager step, which would compute every
  row for either objective, and our own step with the objective `magenta`;
* the original's step (`original`), where a checkout of Magenta and a Python with TensorFlow are
  given: in a process of its own, taking turns with the others. It has weights of its own; that we
  compute what it computes is the claim of tests/test_golden.py.

Without aaron_sheep random drawings of the same lengths stand in. An eager step that does not agree
with ours, dropout off, ends the run.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import agreement
import numpy as np
import original_process
import sheep
import torch
from eager_model import CELLS, EagerSketchRNN
from ops import EAGER
from timing import interleaved, record
from torch import Tensor

from sketchrnn_fast.config import OBJECTIVES, ModelConfig, TrainConfig
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser

REPEATS = 5
MODEL, TRAINING = ModelConfig(), TrainConfig()
KL_WEIGHT = TRAINING.kl_weight_start
CHECKED_POINTS = 20
ORIGINAL = "the original under TensorFlow"
# Our objective, the case that it stands beside, and what that is called.
COMPARISONS = (
    ("magenta", EAGER, EAGER),
    ("magenta", ORIGINAL, ORIGINAL),
    ("masked", EAGER, f"{EAGER}, every row"),
    ("masked", "magenta", "ours, objective magenta"),
)

Batch = tuple[Tensor, Tensor]  # strokes and lengths
Step = Callable[[], object]


def run(
    magenta: Path | None = None,
    magenta_python: Path | None = None,
    sizes: ModelConfig = MODEL,
    batch_size: int = TRAINING.batch_size,
    repeats: int = REPEATS,
) -> list[dict[str, object]]:
    torch.manual_seed(0)
    batch = sheep.batch(batch_size)
    records = []
    for cell in CELLS:
        config = dataclasses.replace(
            sizes, enc_model=cell, dec_model=cell, max_seq_len=batch[0].shape[1] - 1
        )
        with contextlib.ExitStack() as stack:
            original = None
            if magenta is not None and magenta_python is not None:
                original = stack.enter_context(
                    original_step(magenta, magenta_python, config, batch)
                )
            records += step_records(config, batch, original, repeats)
    return records


def step_records(
    config: ModelConfig, batch: Batch, original: Step | None, repeats: int
) -> list[dict[str, object]]:
    """One cell's step for both objectives, beside its peers."""
    model = SketchRNN(config)
    check_eager(model, batch)
    cases = {
        objective: our_step(copy.deepcopy(model), batch, objective) for objective in OBJECTIVES
    }
    cases[EAGER] = eager_step(copy.deepcopy(model), batch)
    if original is not None:
        cases[ORIGINAL] = original
    seconds = interleaved(cases, repeats)

    return [
        record(
            "train",
            f"{config.dec_model}, {objective}, B={len(batch[1])} of {sheep.name()}",
            peer_name,
            seconds[objective],
            seconds[peer],
        )
        for objective, peer, peer_name in COMPARISONS
        if peer in seconds
    ]


def our_step(model: SketchRNN, batch: Batch, objective: str) -> Step:
    optimiser = Optimiser(model.parameters(), TRAINING.grad_clip)

    def step() -> None:
        model.loss(*batch, kl_weight=KL_WEIGHT, objective=objective).total.backward()
        optimiser.step(TRAINING.learning_rate)

    return step


def eager_step(model: SketchRNN, batch: Batch) -> Step:
    strokes, lengths = batch
    eager, config = EagerSketchRNN(model), model.config
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=TRAINING.learning_rate, fused=True)

    def step() -> None:
        noise = torch.randn(len(lengths), config.z_size)
        eager.loss(strokes, lengths, KL_WEIGHT, noise, config.recurrent_dropout_prob).backward()
        torch.nn.utils.clip_grad_value_(parameters, TRAINING.grad_clip)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step


def check_eager(model: SketchRNN, batch: Batch) -> None:
    """Compare loss and gradients without dropout, at weights of which none is idle.

    On the first points only: over whole drawings an untrained model with layer norm amplifies the
    rounding of float32, which differs with the order of a sum, beyond any tolerance.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    parameters = tuple(model.parameters())
    strokes = batch[0][:, : CHECKED_POINTS + 1]
    lengths = torch.arange(len(strokes)) % CHECKED_POINTS + 1
    noise = torch.randn(len(strokes), model.config.z_size)
    ours = model.loss(strokes, lengths, KL_WEIGHT, noise=noise).total
    eager = EagerSketchRNN(model).loss(strokes, lengths, KL_WEIGHT, noise, keep_prob=1.0)
    agreement.check(
        f"{EAGER} of a {model.config.dec_model} step",
        (ours, torch.autograd.grad(ours, parameters)),
        (eager, torch.autograd.grad(eager, parameters)),
    )


@contextlib.contextmanager
def original_step(
    magenta: Path, magenta_python: Path, config: ModelConfig, batch: Batch
) -> Iterator[Step]:
    """The original's training step on this batch, while the context lives."""
    strokes, lengths = batch
    hparams = {**original_process.hparams(config), "batch_size": len(lengths)}
    with tempfile.TemporaryDirectory() as folder:
        batch_file = Path(folder, "batch.npz")
        np.savez(batch_file, strokes=strokes.numpy(), lengths=lengths.numpy())
        task = ("train", str(batch_file))
        with original_process.start(magenta, magenta_python, hparams, task) as step:
            yield step
