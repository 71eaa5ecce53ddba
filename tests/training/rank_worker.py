"""What each rank of a test computes: the losses of training steps, and an evaluation, as JSON.

    rank_worker.py DATA_DIR

Rank 0, or a process without ranks, prints

    {"losses": {case: [[cost, reconstruction, kl] of each step]},
     "later": the same for more steps, "evaluation": {split: figures}}

and a rank whose weights are not those of the others ends in an error.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from drawings import TINY_MODEL

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser, evaluate
from sketchrnn_fast.training.distributed import Ranks, joined
from sketchrnn_fast.training.setup import build_model, load_splits
from sketchrnn_fast.training.step import Step

CELLS = ("lstm", "layer_norm", "hyper")
FIRST, LATER = 5, 60
MICRO = "micro-batches of 2"
BATCH = 12  # 1, 2 and 3 ranks divide it

MODEL = replace(
    ModelConfig(**TINY_MODEL),
    hyper_num_units=6,
    hyper_embedding_size=3,
    use_input_dropout=True,
    use_output_dropout=True,
)
# The KL weight is high from the start, so that the term's gradient is part of what is compared.
TRAIN = TrainConfig(data_set=("polygons.npz",), batch_size=BATCH, kl_weight_start=0.5)


def train(
    ranks: Ranks, folder: Path, steps: int, model: dict[str, Any], run: dict[str, Any]
) -> tuple[list[list[float]], SketchRNN]:
    """The losses of each step, and the model after them."""
    config = replace(TRAIN, **run)
    splits = load_splits(config, folder, None)
    made = build_model(
        replace(MODEL, max_seq_len=splits.max_seq_len, **model), config, splits, "cpu"
    )
    with torch.no_grad():  # at its start the KL term is all but 0, and its figure all rounding
        made.posterior_mean.weight *= 1000
    optimiser = Optimiser(made.parameters(), config.grad_clip)
    step = Step(made, optimiser, splits.train, config, ranks)
    losses = []
    for number in range(steps):
        result = step(number)
        found = result.losses
        losses.append([float(found.total), float(found.reconstruction), float(found.kl)])
    return losses, made


def digest(model: SketchRNN) -> int:
    """48 bits that stand for every bit of the weights."""
    content = b"".join(one.detach().numpy().tobytes() for one in model.parameters())
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "little")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        losses = {}
        for cell in CELLS:
            sizes = {"enc_model": cell, "dec_model": cell}
            for floor in (0.0, 2.0):
                case = f"{cell}, kl_tolerance {floor}"
                run = {"kl_tolerance": floor}
                losses[case], model = train(ranks, folder, FIRST, sizes, run)
                ranks.check_same("a digest of the weights", digest(model))
            losses[f"{cell}, {MICRO}"], _ = train(
                ranks, folder, FIRST, sizes, {"micro_batch_size": 2, "kl_tolerance": 2.0}
            )
        later, model = train(ranks, folder, LATER, {}, {"learning_rate": 0.01})
        config = replace(TRAIN, batch_size=4)
        splits = load_splits(config, folder, None)
        # Of a model that is the same to the bit whatever the ranks.
        fresh = build_model(model.config, config, splits, "cpu")
        figures = {
            split: evaluate(fresh, getattr(splits, split), config, ranks=ranks).record()
            for split in ("train", "valid", "test")
        }
        ranks.check_same("a digest of the weights", digest(model))
        if ranks.is_first:
            print(json.dumps({"losses": losses, "later": later, "evaluation": figures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
