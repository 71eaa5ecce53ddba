"""Suite `train`: a whole training step at default sizes, encoder and decoder of the same cell.

A step is the loss of a batch that is at hand, its gradients, their clipping, and Adam. The peers:

* the same step in eager PyTorch (`eager_model`), with the objective `magenta`;
* for the objective `masked`, which leaves padding out: that eager step, which would compute every
  row for either objective, and our own step with the objective `magenta`;
* the original's step (`original`), where a checkout of Magenta and a Python with TensorFlow are
  given: in a process of its own, taking turns with the others. It has weights of its own; that we
  compute what it computes is the claim of tests/test_golden.py.

Then the parts of our step, with the making of its batch (`train_parts`). All of it on each dataset
that is here; without any, random drawings as long as aaron_sheep's stand in. Our loss and gradients
are held against the reference, and the eager step's against ours, dropout off.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import agreement
import datasets
import numpy as np
import original_process
import torch
import train_parts
from eager_model import CELLS, EagerSketchRNN
from layers import Pass
from peers.torch_eager import EAGER
from plan import Plan
from records import Record, record
from torch import Tensor

import sketchrnn_fast as srf
from sketchrnn_fast.config import OBJECTIVES, ModelConfig, TrainConfig
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser

SUITE = "train"
TRAINING = TrainConfig()
KL_WEIGHT = TRAINING.kl_weight_start
CHECKED_POINTS, QUICK_POINTS = 20, 30
QUICK_MODEL = ModelConfig(
    enc_rnn_size=8, dec_rnn_size=16, z_size=4, num_mixture=3, hyper_num_units=8,
    hyper_embedding_size=4,
)  # fmt: skip
ORIGINAL = "the original under TensorFlow"
# Our objective, the case that it stands beside, and what that is called.
COMPARISONS = (
    ("magenta", EAGER.name, EAGER.name),
    ("magenta", ORIGINAL, ORIGINAL),
    ("masked", EAGER.name, f"{EAGER.name}, every row"),
    ("masked", "magenta", "ours, objective magenta"),
)

Batch = tuple[Tensor, Tensor]  # strokes and lengths
Step = Callable[[], object]


def run(plan: Plan) -> list[Record]:
    torch.manual_seed(0)
    size = 4 if plan.quick else TRAINING.batch_size
    records = []
    names = datasets.names() if plan.full else datasets.names()[:1]
    for number, name in enumerate(names):
        splits = datasets.splits(name, QUICK_POINTS if plan.quick else None)
        batch = datasets.batch_of(splits, size)
        for cell in CELLS:
            config = dataclasses.replace(
                QUICK_MODEL if plan.quick else ModelConfig(),
                enc_model=cell,
                dec_model=cell,
                max_seq_len=splits.max_seq_len,
            )
            with contextlib.ExitStack() as stack:
                original = None
                # A process of the original takes many seconds to start: on the first dataset alone.
                if plan.magenta is not None and plan.magenta_python is not None and number == 0:
                    original = stack.enter_context(
                        original_step(plan.magenta, plan.magenta_python, config, batch)
                    )
                records += step_records(plan, config, name, batch, original)
            if number == 0:
                records += train_parts.records(plan, config, name, splits, size)
    return records


def step_records(
    plan: Plan, config: ModelConfig, name: str, batch: Batch, original: Step | None
) -> list[Record]:
    """One cell's step for both objectives, beside its peers."""
    model = SketchRNN(config)
    check(model, batch)
    cases = {
        objective: our_step(copy.deepcopy(model), batch, objective) for objective in OBJECTIVES
    }
    cases[EAGER.name] = eager_step(copy.deepcopy(model), batch)
    if original is not None:
        cases[ORIGINAL] = original
    seconds = plan.measure(f"{SUITE}: {config.dec_model} on {name}", cases)

    count = len(batch[1])
    return [
        record(
            SUITE,
            f"{config.dec_model}, {objective}, B={count} of {name}",
            peer_name,
            seconds[objective],
            seconds[peer],
            work=(count, "sketches"),
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
        noise = torch.randn(len(lengths), config.z_size, device=strokes.device)
        eager.loss(strokes, lengths, KL_WEIGHT, noise, config.recurrent_dropout_prob).backward()
        torch.nn.utils.clip_grad_value_(parameters, TRAINING.grad_clip)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return step


def check(model: SketchRNN, batch: Batch) -> None:
    """Compare losses and gradients without dropout, at weights of which none is idle.

    On the first points only: over whole drawings an untrained model with layer norm amplifies the
    rounding of float32, which differs with the order of a sum, beyond any tolerance.
    """
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    parameters = tuple(model.parameters())
    strokes = batch[0][:, : CHECKED_POINTS + 1]
    lengths = torch.arange(len(strokes)) % min(CHECKED_POINTS, strokes.shape[1] - 1) + 1
    lengths = lengths.to(strokes.device)
    noise = torch.randn(len(strokes), model.config.z_size).to(strokes.device)

    def ours(objective: str) -> Pass:
        loss = model.loss(strokes, lengths, KL_WEIGHT, objective, noise=noise).total
        return loss, torch.autograd.grad(loss, parameters)

    cell, most = model.config.dec_model, agreement.tolerance(strokes)
    for objective in OBJECTIVES:
        found = ours(objective)
        with srf.backend("reference"):
            expected = ours(objective)
        name = f"our {cell} step, objective {objective}"
        agreement.check(name, expected, found, most, "the reference")
    eager = EagerSketchRNN(model).loss(strokes, lengths, KL_WEIGHT, noise, keep_prob=1.0)
    gradients = torch.autograd.grad(eager, parameters)
    agreement.check(f"{EAGER.name} of a {cell} step", ours("magenta"), (eager, gradients), most)


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
