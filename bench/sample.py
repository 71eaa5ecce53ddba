"""Suite `sample`: drawing sketches, N=512, K=20, on the native engine.

One sketch of 250 points, its end state suppressed:

* beside an eager PyTorch loop (`eager_sampler`), one call of each op a point;
* beside the original's stepping, where a checkout of Magenta and a Python with TensorFlow are given
  (one call of the framework a point; weights of its own);
* with weights in bfloat16 beside float32. The floor is reading the same packed bytes with the same
  threads and doing nothing else, so that the share says how far a step is from its memory;
* over its length, and over the temperature.

A thousand sketches that end by themselves (`sample_many`).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable

import agreement
import original_process
import sample_many
import torch
from eager_sampler import CELLS, EagerSampler
from peers.torch_eager import EAGER
from plan import Plan
from records import Record, record
from timing import Effort
from torch import Tensor

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops import NativeEngine, Sampler, Temperature

SUITE = "sample"
QUICK_MODEL = ModelConfig(
    dec_rnn_size=16, z_size=4, num_mixture=3, hyper_num_units=8, hyper_embedding_size=4
)
POINTS, QUICK_POINTS = 250, 20
LENGTHS = (25, 50, 100, 250)
TEMPERATURES = (0.1, 0.5, 1.0)
CHECKED_POINTS = 20
ORIGINAL = "the original under TensorFlow"
STORAGES = ("float32", "bfloat16")
NEVER = -1e4  # the end state's logit where no sketch is to end


def run(plan: Plan) -> list[Record]:
    torch.manual_seed(0)
    sizes = QUICK_MODEL if plan.quick else ModelConfig()
    records = []
    for cell in CELLS:
        model = random_model(cell, sizes)
        check(model, "native")
        with contextlib.ExitStack() as stack:
            original = None
            if plan.magenta is not None and plan.magenta_python is not None:
                hparams = original_process.hparams(model.config)
                task = ("sample", str(POINTS))
                original = stack.enter_context(
                    original_process.start(plan.magenta, plan.magenta_python, hparams, task)
                )
            records += one_sketch_records(plan, model, original)
    records += over_lengths(plan, random_model("layer_norm", sizes), "native")
    records += over_temperatures(plan, random_model("layer_norm", sizes), "native")
    return records + sample_many.records(plan, sizes)


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
    """The same z [count, Z] at each call; None for an unconditional model."""
    config = model.config
    if not config.conditional:
        return None
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(count, config.z_size, generator=generator)
    return z.to(model.scale_factor.device)


def check(model: SketchRNN, engine: str) -> None:
    """Refuse an engine, or an eager loop, whose parameters are not the reference's.

    An engine that gives no parameters (`cuda`) is checked by its drawings alone (`gpu`).
    """
    strokes = torch.zeros(CHECKED_POINTS, 3, 5)
    strokes[..., :2].normal_()
    strokes[..., 2] = 1.0
    strokes, z = strokes.to(model.scale_factor.device), prior(model, 3)
    weights = model.decoder_weights()
    expected = Sampler(weights, backend="reference").parameters(strokes, z)
    most, cell = agreement.tolerance(strokes).output, model.config.dec_model
    for storage in STORAGES if engine != "cuda" else ():
        found = Sampler(weights, storage=storage, backend=engine).parameters(strokes, z)
        name = f"our {engine} engine with a {cell} decoder in {storage}"
        at_most = agreement.IN_16_BIT.output if storage == "bfloat16" else most
        agreement.check_close(name, "a parameter", expected, found, at_most, "the reference")
    peer = EagerSampler(model).parameters(strokes, z)
    name = f"{EAGER.name} of a {cell} decoder"
    agreement.check_close(name, "a parameter", expected, peer, most, "the reference")


def points_of(plan: Plan) -> int:
    return QUICK_POINTS if plan.quick else POINTS


def effort(plan: Plan) -> Effort:
    """More turns than usual, since each takes milliseconds."""
    return plan.scale.effort if plan.quick else Effort(least=5, most=15, seconds=4.0)


def one_sketch_records(
    plan: Plan, model: SketchRNN, original: Callable[[], object] | None
) -> list[Record]:
    """Both storages beside their peers, and the floor."""
    model, points = with_end_logit(model, NEVER), points_of(plan)
    z, seeds = prior(model, 1), torch.zeros(1, dtype=torch.int64)
    eager = EagerSampler(model)
    samplers = {
        storage: Sampler(model.decoder_weights(), storage=storage, backend="native")
        for storage in STORAGES
    }

    def draw(storage: str) -> Callable[[], object]:
        sampler = samplers[storage]
        return lambda: sampler.draw(seeds, z=z, limit=points)

    def read(storage: str) -> Callable[[], object]:
        engine, threads = samplers[storage].engine, torch.get_num_threads()
        assert isinstance(engine, NativeEngine)
        return lambda: engine.read_weights(points, threads)

    cases: dict[str, Callable[[], object]] = {}
    for storage in STORAGES:
        cases[storage] = draw(storage)
        cases[f"reading {storage}"] = read(storage)
    cases[EAGER.name] = lambda: eager.draw(1, points, z, 1.0)
    if original is not None:
        cases[ORIGINAL] = original
    cell = model.config.dec_model
    what = f"{SUITE}: one sketch, {cell}"
    seconds = plan.measure(what, cases, rehearse=not plan.quick, effort=effort(plan))
    compared = [
        ("float32", EAGER.name, EAGER.name),
        ("float32", ORIGINAL, ORIGINAL),
        ("bfloat16", EAGER.name, f"{EAGER.name} in float32"),
        ("bfloat16", "float32", "ours in float32"),
    ]
    return [
        record(
            SUITE,
            f"one sketch of {points} points, {cell}, {storage}",
            title,
            seconds[storage],
            seconds[peer],
            seconds[f"reading {storage}"],
            work=(points, "points"),
        )
        for storage, peer, title in compared
        if peer in seconds
    ]


def over_lengths(plan: Plan, model: SketchRNN, engine: str, suite: str = SUITE) -> list[Record]:
    """One sketch, at several lengths."""
    lengths = (5, 10) if plan.quick else LENGTHS
    return [
        drawing_record(plan, model, engine, 1, points, 1.0, suite, ("points", points))
        for points in lengths
    ]


def over_temperatures(
    plan: Plan, model: SketchRNN, engine: str, suite: str = SUITE
) -> list[Record]:
    """A hundred sketches at once, at several temperatures."""
    count, temperatures = (4, (0.5,)) if plan.quick else (100, TEMPERATURES)
    return [
        drawing_record(
            plan, model, engine, count, points_of(plan), value, suite, ("temperature", value)
        )
        for value in temperatures
    ]


def drawing_record(
    plan: Plan,
    model: SketchRNN,
    engine: str,
    count: int,
    points: int,
    temperature: float,
    suite: str,
    axis: tuple[str, float],
) -> Record:
    """Sketches that never end by themselves, beside the eager loop."""
    model = with_end_logit(model, NEVER)
    z, seeds = prior(model, count), torch.arange(count)
    sampler = Sampler(model.decoder_weights(), backend=engine)
    eager, cell = EagerSampler(model), model.config.dec_model
    cases = {
        "ours": lambda: sampler.draw(
            seeds, z=z, limit=points, temperature=Temperature(temperature)
        ),
        "eager": lambda: eager.draw(count, points, z, temperature),
    }
    sketches = "one sketch" if count == 1 else f"{count} sketches"
    case = f"{sketches} of {points} points at temperature {temperature:g}, {cell}"
    rehearse = not plan.quick and count == 1
    seconds = plan.measure(f"{suite}: {case}", cases, rehearse=rehearse, effort=effort(plan))
    return record(
        suite,
        case,
        EAGER.name,
        seconds["ours"],
        seconds["eager"],
        work=(count * points, "points"),
        sweep=(f"{sketches}, {cell}", *axis),
    )
