"""Suite `memory`: how far a pass of a layer, or a training step, raises the process's memory.

Each sample is a new process, which imports, makes its inputs and warms up on a few steps of time;
then it takes one forward and backward pass. What counts is the highest resident memory over that
from before the pass (Linux). The peer is the eager loop. Sizes as in `ops` and `train`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import layers
import train
from eager_model import CELLS
from environment import same_package
from layers import DECODER, KEEP_PROB, OPS, Sizes, make_inputs
from peers import torch_eager
from peers.torch_eager import EAGER
from plan import Plan, SuiteError
from records import Record, record

from sketchrnn_fast.config import ModelConfig
from sketchrnn_fast.nn import SketchRNN

SUITE = "memory"
MIB = 2**20
OURS = "ours"
WARM_UP_STEPS = 2
SIZES = {"small": Sizes(T=50, B=32, N=128), "decoder": DECODER}


def run(plan: Plan) -> Iterator[Record]:
    if not Path("/proc/self/clear_refs").exists():
        raise SuiteError("the peak of memory is read from Linux's /proc, which is not here")
    sizes = "small" if plan.quick else "decoder"
    subjects = ["lstm"] if plan.quick else [*OPS, "step-layer_norm"]
    if plan.full:
        subjects = [*OPS, *(f"step-{cell}" for cell in CELLS)]
    for subject in subjects:
        samples: dict[str, list[float]] = {OURS: [], EAGER.name: []}
        # What a pass allocates hardly varies, and a step in eager PyTorch takes long.
        for turn in range(2 if plan.full and subject in OPS else 1):
            for who, of_who in samples.items():
                plan.show(f"{SUITE}: {subject}, {who}, turn {turn + 1}")
                of_who.append(in_new_process(subject, who, sizes))
        case = f"{title(subject, sizes)}, peak"
        yield record(SUITE, case, EAGER.name, samples[OURS], samples[EAGER.name], unit="mib")


def title(subject: str, sizes: str) -> str:
    if subject.startswith("step-"):
        return f"training step, {subject.removeprefix('step-')}, B=100 of {datasets.name()}"
    return f"{subject} {SIZES[sizes]}"


def in_new_process(subject: str, who: str, sizes: str) -> float:
    command = [sys.executable, __file__, subject, who, sizes]
    done = subprocess.run(command, capture_output=True, text=True, env=same_package())
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise SuiteError(
            f"the process of {subject}, {who} ended early ({done.returncode}); its last word: "
            f"{last[0]}"
        )
    return float(done.stdout.split()[-1])


def rise(subject: str, who: str, sizes: str) -> float:
    """MiB that a pass adds to this process."""
    take_pass = prepare(subject, who, sizes)
    before = resident()
    # Forgets the peak so far; a new process inherits even that of the one that started it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    take_pass()
    return max(peak() - before, resource.getpagesize()) / MIB


def prepare(subject: str, who: str, sizes: str) -> Callable[[], object]:
    """The pass, its inputs made and its code warm."""
    if subject.startswith("step-"):
        cell = subject.removeprefix("step-")
        strokes, lengths = datasets.batch_of(datasets.splits(datasets.name()), 100)
        model = SketchRNN(
            ModelConfig(enc_model=cell, dec_model=cell, max_seq_len=strokes.shape[1] - 1)
        )
        few = strokes[:, : WARM_UP_STEPS + 1], lengths.clamp(max=WARM_UP_STEPS)
        if who == OURS:
            train.our_step(model, few, "magenta")()
            return train.our_step(model, (strokes, lengths), "magenta")
        train.eager_step(model, few)()
        return train.eager_step(model, (strokes, lengths))
    one_pass = layers.ours if who == OURS else torch_eager.run
    of = SIZES[sizes]
    inputs = make_inputs(subject, of)
    one_pass(subject, make_inputs(subject, of._replace(T=WARM_UP_STEPS)), KEEP_PROB)
    return lambda: one_pass(subject, inputs, KEEP_PROB)


def resident() -> int:
    """Bytes of resident memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    """The most bytes that were resident since the peak was last forgotten."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(rise(*sys.argv[1:4]))
