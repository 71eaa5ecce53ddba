"""Many sketches at once, each of which ends by itself: a part of the suite `sample`.

Beside the eager loop in batches of 100, each until its last sketch has ended; beside the eager loop
with all sketches at once, those that have ended dropped; and beside our own engine when its batches
run until their last sketch has ended: as many steps as the batch's longest sketch has, none leaving
and none entering. The models: published decoders (bear), where they are here; a decoder that was
trained on drawings (--sketches LOG_ROOT); otherwise random weights, whose
sketches end with probability 1/125 at each point.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import datasets
import sample
import torch
from agreement import DisagreementError
from eager_sampler import CELLS, EagerSampler
from peers.torch_eager import EAGER
from plan import Plan
from records import Record, record
from torch import Tensor

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.interop import sketch_rnn_js
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops import Drawings, Sampler
from sketchrnn_fast.training import checkpoints

SKETCHES, QUICK_SKETCHES, BATCH = 1000, 20, 100
MEAN_LENGTH, QUICK_MEAN = 125, 8
EAGER_BATCHES = f"{EAGER.name}, batches of {BATCH} until their last sketch ends"
EAGER_DROPPING = f"{EAGER.name}, all at once, ended sketches dropped"
STATIC_BATCHES = "ours, batches until their last sketch ends"


class Drawn(NamedTuple):
    """A model that ends its sketches by itself, and the most points of one."""

    name: str
    model: SketchRNN
    limit: int


def records(plan: Plan, sizes: ModelConfig) -> list[Record]:
    count = QUICK_SKETCHES if plan.quick else SKETCHES
    made = []
    for drawn in models(plan, sizes):
        made += of_model(plan, drawn, count, "native", sample.SUITE)
    return made


def models(plan: Plan, sizes: ModelConfig) -> list[Drawn]:
    if plan.quick:
        return [random_ending("lstm", sizes, QUICK_MEAN, sample.QUICK_POINTS)]
    found = []
    if plan.sketches is not None:
        trained = checkpoints.load_model(checkpoints.find(plan.sketches)).eval()
        name = f"{trained.config.dec_model} trained on {plan.sketches.name}"
        found.append(Drawn(name, trained, trained.config.max_seq_len))
    published = Path(datasets.shared(), "data", "pretrained_js", "bear.gen.json")
    if published.is_file():
        bear = sketch_rnn_js.read_model(published).eval()
        found.append(Drawn("published bear", bear, bear.config.max_seq_len))
    for cell in CELLS:
        if cell == "layer_norm" or (plan.full and cell == "hyper"):
            found.append(random_ending(cell, sizes, MEAN_LENGTH, sample.POINTS))
    return found


def random_ending(cell: str, sizes: ModelConfig, mean: int, limit: int) -> Drawn:
    """Random weights whose sketches end with probability 1/mean at each point."""
    model = sample.with_end_logit(sample.random_model(cell, sizes), end_logit(1.0 / mean))
    return Drawn(f"{cell}, random weights", model, limit)


def end_logit(probability: float) -> float:
    """Beside two logits of 0, the one whose state has this probability."""
    return math.log(2.0 * probability / (1.0 - probability))


def of_model(plan: Plan, drawn: Drawn, count: int, engine: str, suite: str) -> list[Record]:
    model, limit = drawn.model, drawn.limit
    z, seeds = sample.prior(model, count), torch.arange(count)
    sampler = Sampler(model.decoder_weights(), backend=engine)
    endless = Sampler(sample.with_end_logit(model, sample.NEVER).decoder_weights(), backend=engine)
    eager = EagerSampler(model)

    def ours() -> Drawings:
        return sampler.draw(seeds, z=z, limit=limit)

    lengths = torch.from_numpy(ours().lengths)
    batches = [slice(first, first + BATCH) for first in range(0, count, BATCH)]

    def rows(batch: slice) -> Tensor | None:
        return None if z is None else z[batch]

    def eager_batches() -> list[Tensor]:
        points: list[Tensor] = []
        for batch in batches:
            points += eager.draw(len(seeds[batch]), limit, rows(batch), 1.0)
        return points

    def eager_dropping() -> list[Tensor]:
        return eager.draw(count, limit, z, 1.0, drop_ended=True)

    def in_static_batches() -> None:
        for batch in batches:
            longest = int(lengths[batch].max())
            endless.draw(seeds[batch], z=rows(batch), limit=max(1, longest))

    mean, deviation = float(lengths.float().mean()), float(lengths.float().std())
    for by_eager in (eager_batches, eager_dropping):
        check_same_lengths(drawn.name, mean, mean_length(by_eager()), deviation, count)
    case = f"{count} sketches, {drawn.name}, {mean:.0f} points on average"
    cases = {
        "ours": ours,
        EAGER_BATCHES: eager_batches,
        EAGER_DROPPING: eager_dropping,
        STATIC_BATCHES: in_static_batches,
    }
    seconds = plan.measure(f"{suite}: {case}", cases, warm_up=0)
    return [
        record(suite, case, peer, seconds["ours"], seconds[peer], work=(count, "sketches"))
        for peer in cases
        if peer != "ours"
    ]


def mean_length(sketches: list[Tensor]) -> float:
    return sum(map(len, sketches)) / len(sketches)


def check_same_lengths(name: str, ours: float, eager: float, deviation: float, count: int) -> None:
    """Refuse to compare where the two do not draw equally long sketches, within 5 deviations."""
    most = 5.0 * deviation * math.sqrt(2.0 / count) + 1e-9
    if abs(ours - eager) > most:
        raise DisagreementError(
            f"{name}: our sketches have {ours:.1f} points on average, those of {EAGER.name} "
            f"{eager:.1f}"
        )
