"""Suite `gpu`: the ops on the triton backend and the cuda sampler, on one GPU, under ten minutes.

The ops beside eager PyTorch, `torch.compile`, `torch.nn.LSTM` (cuDNN) and whatever other peers are
installed, in float32 and bfloat16, with the floor (the matrix products alone, through torch); over
N, B and T; and the peak of the device's memory. The sampler beside an eager loop. Times are the
GPU's own (events on its stream). TF32 is off everywhere, so that float32 means the same for all.

Nothing here was ever run on a GPU: untested there. The same functions run on the CPU in
`tests/test_bench_peers.py`, and but for the clock and the peak of memory they are those of the
other suites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import layers
import ops
import sample
import sample_many
import scaling
import torch
from agreement import DisagreementError
from layers import DECODER, KEEP_PROB, OPS, SMALL, Sizes
from peers import Peer, torch_eager
from peers.flash_rnn import FLASH_RNN
from peers.known import LAYER_PEERS
from peers.torch_eager import EAGER
from peers.torch_lstm import TORCH_LSTM
from plan import Plan, SuiteError
from records import Record, record

import sketchrnn_fast as srf
from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.ops import Sampler, backends

SUITE = "gpu"
# What can run in 16-bit storage as it stands.
PEERS_IN_BFLOAT16 = (EAGER, TORCH_LSTM, FLASH_RNN)
CHECKED_SKETCHES, CHECKED_LIMIT, MOST_ERROR, LEAST_EQUAL = 64, 2, 1e-3, 0.9


def run(plan: Plan) -> list[Record]:
    if not torch.cuda.is_available():
        raise SuiteError("it needs a GPU, and PyTorch finds none here")
    return run_on(plan.on(torch.device("cuda")), "triton", "cuda")


def run_on(plan: Plan, backend: str, engine: str) -> list[Record]:
    """All of it, on the plan's device with that backend of the ops and engine of the sampler."""
    torch.manual_seed(0)
    with full_precision():
        records = op_records(plan, backend)
        return records + sampler_records(plan, engine)


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 while the context lives."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


# The ops --------------------------------------------------------------------------------------


def op_records(plan: Plan, backend: str) -> list[Record]:
    with srf.backend(backend):
        records = []
        if has(plan, "mixture_density", backend):
            records += ops.mixture_density_records(
                plan, 100 if plan.quick else ops.ROWS, suite=SUITE
            )
        sizes = SMALL if plan.quick else DECODER
        peers = [peer for peer in LAYER_PEERS if peer.in_quick or not plan.quick]
        for op in OPS:
            if has(plan, op, backend):
                records += layer_records(plan, op, sizes, peers)
    return records


def has(plan: Plan, op: str, backend: str) -> bool:
    """Whether the backend has that op; says so if not."""
    if op in backends.implemented(backend):
        return True
    plan.say(f"{SUITE}: without {op}, which the {backend} backend does not have")
    return False


def layer_records(plan: Plan, op: str, sizes: Sizes, peers: Sequence[Peer]) -> list[Record]:
    """One layer at both storages, on real lengths, over its sizes, and its memory."""
    records = ops.layer_records(plan, op, sizes, peers, suite=SUITE)
    in_16_bit = [peer for peer in peers if peer in PEERS_IN_BFLOAT16]
    if plan.device.type == "cuda":
        records += ops.layer_records(plan, op, sizes, in_16_bit, dtype=torch.bfloat16, suite=SUITE)
        records.append(memory_record(plan, op, sizes))
    records.append(ops.lengths_record(plan, op, sizes, suite=SUITE))
    axes = scaling.QUICK_AXES if plan.quick else scaling.AXES
    base = SMALL if plan.quick else scaling.BASE
    for axis, values in axes.items():
        points = scaling.swept(plan, op, base, axis, values, suite=SUITE)
        records += points + scaling.exponents(op, axis, points, suite=SUITE)
    return records


def memory_record(plan: Plan, op: str, sizes: Sizes) -> Record:
    """How far a pass raises the device's memory, ours and the eager loop's."""
    inputs = layers.make_inputs(op, sizes, plan.device)
    rises = [
        device_rise(plan.device, one_pass)
        for one_pass in (
            lambda: layers.ours(op, inputs, KEEP_PROB),
            lambda: torch_eager.run(op, inputs, KEEP_PROB),
        )
    ]
    case = f"{op} {sizes}, peak of the device's memory"
    return record(SUITE, case, EAGER.name, rises[:1], rises[1:], unit="mib")


def device_rise(device: torch.device, one_pass: Callable[[], object]) -> float:
    """MiB that a warm pass adds to what is allocated before it."""
    one_pass()
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    one_pass()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


# The sampler ----------------------------------------------------------------------------------


def sampler_records(plan: Plan, engine: str) -> list[Record]:
    """One sketch, many, over lengths and temperatures; each cell is checked first."""
    if engine not in backends.BACKENDS or "sampler" not in backends.implemented(engine):
        plan.say(f"{SUITE}: without the sampler, which was built without {engine}")
        return []
    sizes = sample.QUICK_MODEL if plan.quick else ModelConfig()
    records = []
    for cell in sample.CELLS:
        model = sample.random_model(cell, sizes).to(plan.device)
        sample.check(model, engine)
        check_drawings(model, engine)
        records += sample.over_lengths(plan, model, engine, SUITE)
        records += sample.over_temperatures(plan, model, engine, SUITE)
        mean, limit, count = (
            (sample_many.QUICK_MEAN, sample.QUICK_POINTS, sample_many.QUICK_SKETCHES)
            if plan.quick
            else (sample_many.MEAN_LENGTH, sample.POINTS, sample_many.SKETCHES)
        )
        drawn = sample_many.random_ending(cell, sizes, mean, limit)
        drawn = drawn._replace(model=drawn.model.to(plan.device))
        records += sample_many.of_model(plan, drawn, count, engine, SUITE)
    return records


def check_drawings(model: srf.SketchRNN, engine: str) -> None:
    """Hold an engine's first points against the reference's, seed by seed.

    Where a uniform number falls between two cumulative probabilities that differ in their last
    digits, engines may choose differently; so a few sketches may be others.

    Raises:
        DisagreementError: more than a few are.
    """
    weights, seeds = model.decoder_weights(), torch.arange(CHECKED_SKETCHES)
    z = sample.prior(model, CHECKED_SKETCHES)
    found, expected = (
        torch.from_numpy(
            Sampler(weights, backend=name).draw(seeds, z=z, limit=CHECKED_LIMIT).points
        )
        for name in (engine, "reference")
    )
    error = (found - expected).abs().amax(dim=(1, 2))
    size = expected.abs().amax(dim=(1, 2)).clamp(min=1e-3)
    equal = float((error <= MOST_ERROR * size).float().mean())
    if not equal >= LEAST_EQUAL:
        raise DisagreementError(
            f"our {engine} engine with a {model.config.dec_model} decoder draws {equal:.0%} of "
            f"{CHECKED_SKETCHES} sketches as the reference does, less than {LEAST_EQUAL:.0%}"
        )
