"""Suite `sampler`: drawing sketches, N=512, K=20, on the native engine.

One sketch of 250 points, its end state suppressed:

* beside an eager PyTorch loop (`eager_sampler`), one call of each op a point;
* beside the original's stepping, where a checkout of Magenta and a Python with TensorFlow are given
  (one call of the framework a point; weights of its own);
* with weights in bfloat16 beside float32. The floor is reading the same packed bytes with the same
  threads and doing nothing else, so that the share says how far a step is from its memory.

A thousand sketches that end by themselves, beside the eager loop in batches of 100, each until its
last sketch has ended, and beside our own engine when its batches run until their last sketch has
ended: as many steps as the batch's longest sketch has, none leaving and none entering. The models:
published decoders (bear), where they are here; a decoder that was trained on drawings (--sketches
LOG_ROOT, layer_norm); otherwise random weights, whose sketches end with probability 1/125 at each
point.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import agreement
import original_process
import sheep
import torch
from eager_sampler import CELLS, EagerSampler
from timing import interleaved, record
from torch import Tensor

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.interop import sketch_rnn_js
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops import Drawings, NativeEngine, Sampler
from sketchrnn_fast.training import checkpoints

SUITE = "sampler"
MODEL = ModelConfig()
POINTS = 250
SKETCHES, EAGER_BATCH = 1000, 100
MEAN_LENGTH = 125
REPEATS, REPEATS_OF_MANY = 15, 3
CHECKED_POINTS = 20
EAGER, ORIGINAL = "eager PyTorch", "the original under TensorFlow"
STATIC_BATCHES = "ours, batches until their last sketch ends"
STORAGES = ("float32", "bfloat16")
NEVER = -1e4  # the end state's logit where no sketch is to end


class Drawn(NamedTuple):
    """A model that ends its sketches by itself, and the most points of one."""

    name: str
    model: SketchRNN
    limit: int


def run(
    magenta: Path | None = None,
    magenta_python: Path | None = None,
    sketches: Path | None = None,
    sizes: ModelConfig = MODEL,
    count: int = SKETCHES,
    repeats: int = REPEATS,
    repeats_of_many: int = REPEATS_OF_MANY,
) -> list[dict[str, object]]:
    torch.manual_seed(0)
    records = []
    for cell in CELLS:
        model = random_model(cell, sizes)
        check_eager(model)
        with contextlib.ExitStack() as stack:
            original = None
            if magenta is not None and magenta_python is not None:
                hparams = original_process.hparams(model.config)
                task = ("sample", str(POINTS))
                original = stack.enter_context(
                    original_process.start(magenta, magenta_python, hparams, task)
                )
            records += one_sketch_records(model, original, repeats)
    for drawn in drawn_models(sketches, sizes):
        records += many_sketches_records(drawn, count, repeats_of_many)
    return records


def random_model(cell: str, sizes: ModelConfig) -> SketchRNN:
    """A decoder with initial weights and noise, so that none of them is idle."""
    config = dataclasses.replace(sizes, dec_model=cell, enc_model="lstm", enc_rnn_size=1)
    model = SketchRNN(config).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
        # No decoder that draws has its z idle.
        model.initial_state.weight.normal_(std=0.1)
    return model


def with_end_logit(model: SketchRNN, logit: float) -> SketchRNN:
    """The same decoder, each pen state's logit a constant: 0, 0 and the end state's."""
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.output.linear.weight[:3] = 0.0
        changed.output.linear.bias[:3] = torch.tensor([0.0, 0.0, logit])
    return changed


def prior(model: SketchRNN, count: int) -> Tensor | None:
    config = model.config
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, config.z_size, generator=generator) if config.conditional else None


def check_eager(model: SketchRNN) -> None:
    """Refuse an eager loop whose parameters are not ours, on given strokes."""
    strokes = torch.zeros(CHECKED_POINTS, 3, 5)
    strokes[..., :2].normal_()
    strokes[..., 2] = 1.0
    z = prior(model, 3)
    ours = Sampler(model.decoder_weights(), backend="native").parameters(strokes, z)
    peer = EagerSampler(model).parameters(strokes, z)
    name = f"{EAGER} of a {model.config.dec_model} decoder"
    agreement.check_close(name, "a parameter", ours, peer, agreement.MOST_OUTPUT_ERROR)


# One sketch -----------------------------------------------------------------------------------


def one_sketch_records(
    model: SketchRNN, original: Callable[[], object] | None, repeats: int
) -> list[dict[str, object]]:
    model = with_end_logit(model, NEVER)
    z, seeds = prior(model, 1), torch.zeros(1, dtype=torch.int64)
    eager = EagerSampler(model)
    samplers = {
        storage: Sampler(model.decoder_weights(), storage=storage, backend="native")
        for storage in STORAGES
    }

    def draw(storage: str) -> Callable[[], object]:
        sampler = samplers[storage]
        return lambda: sampler.draw(seeds, z=z, limit=POINTS)

    def read(storage: str) -> Callable[[], object]:
        engine, threads = samplers[storage].engine, torch.get_num_threads()
        assert isinstance(engine, NativeEngine)
        return lambda: engine.read_weights(POINTS, threads)

    cases: dict[str, Callable[[], object]] = {}
    for storage in STORAGES:
        cases[storage] = draw(storage)
        cases[f"reading {storage}"] = read(storage)
    cases[EAGER] = lambda: eager.draw(1, POINTS, z, 1.0)
    if original is not None:
        cases[ORIGINAL] = original
    seconds = interleaved(cases, repeats, rehearse=True)
    compared = [
        ("float32", EAGER),
        ("float32", ORIGINAL),
        ("bfloat16", EAGER),
        ("bfloat16", "float32"),
    ]
    return [
        record(
            SUITE,
            f"one sketch of {POINTS} points, {model.config.dec_model}, {storage}",
            peer if peer in (EAGER, ORIGINAL) else f"ours, {peer}",
            seconds[storage],
            seconds[peer],
            seconds[f"reading {storage}"],
        )
        for storage, peer in compared
        if peer in seconds
    ]


# A thousand sketches --------------------------------------------------------------------------


def drawn_models(sketches: Path | None, sizes: ModelConfig) -> list[Drawn]:
    models = []
    if sketches is not None:
        trained = checkpoints.load_model(checkpoints.find(sketches)).eval()
        name = f"{trained.config.dec_model} trained on {sketches.name}"
        models.append(Drawn(name, trained, trained.config.max_seq_len))
    published = sheep.shared() / "data" / "pretrained_js" / "bear.gen.json"
    if published.is_file():
        bear = sketch_rnn_js.read_model(published).eval()
        models.append(Drawn("published bear", bear, bear.config.max_seq_len))
    for cell in CELLS if sketches is None else ("lstm", "hyper"):
        model = with_end_logit(random_model(cell, sizes), end_logit(1.0 / MEAN_LENGTH))
        models.append(Drawn(f"{cell}, random weights", model, POINTS))
    return models


def end_logit(probability: float) -> float:
    """Beside two logits of 0, the one whose state has this probability."""
    return math.log(2.0 * probability / (1.0 - probability))


def many_sketches_records(drawn: Drawn, count: int, repeats: int) -> list[dict[str, object]]:
    model, limit = drawn.model, drawn.limit
    z, seeds = prior(model, count), torch.arange(count)
    sampler = Sampler(model.decoder_weights(), backend="native")
    endless = Sampler(with_end_logit(model, NEVER).decoder_weights(), backend="native")
    eager = EagerSampler(model)

    def ours() -> Drawings:
        return sampler.draw(seeds, z=z, limit=limit)

    lengths = torch.from_numpy(ours().lengths)
    batches = [slice(first, first + EAGER_BATCH) for first in range(0, count, EAGER_BATCH)]

    def rows(batch: slice) -> Tensor | None:
        return None if z is None else z[batch]

    def by_eager() -> list[Tensor]:
        points: list[Tensor] = []
        for batch in batches:
            points += eager.draw(len(seeds[batch]), limit, rows(batch), 1.0)
        return points

    def in_static_batches() -> None:
        for batch in batches:
            longest = int(lengths[batch].max())
            endless.draw(seeds[batch], z=rows(batch), limit=max(1, longest))

    mean, eager_mean = float(lengths.float().mean()), mean_length(by_eager())
    check_same_lengths(drawn.name, mean, eager_mean, float(lengths.float().std()), count)
    cases = {"ours": ours, EAGER: by_eager, STATIC_BATCHES: in_static_batches}
    seconds = interleaved(cases, repeats, warm_up=0)
    case = f"{count} sketches, {drawn.name}, {mean:.0f} points on average"
    return [
        record(SUITE, case, peer, seconds["ours"], seconds[peer])
        for peer in (EAGER, STATIC_BATCHES)
    ]


def mean_length(sketches: list[Tensor]) -> float:
    return sum(map(len, sketches)) / len(sketches)


def check_same_lengths(name: str, ours: float, eager: float, deviation: float, count: int) -> None:
    """Refuse to compare where the two do not draw equally long sketches, within 5 deviations."""
    most = 5.0 * deviation * math.sqrt(2.0 / count) + 1e-9
    if abs(ours - eager) > most:
        raise agreement.DisagreementError(
            f"{name}: our sketches have {ours:.1f} points on average, those of {EAGER} {eager:.1f}"
        )
