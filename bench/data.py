"""Suite `data`: loading and batching, at a thousand, a hundred thousand and a million sketches.

Loading is timed in a new process each time, and how far it raises that process's memory stands
beside. The peer of loading is NumPy's own reading of the same file, with its pickle, unchecked,
neither sorted nor scaled. The files are made up: int16 sketches of 5 to 75 points, as NumPy writes
them.

A batch of 100 with both augmentations stands beside the rest of the training step that it feeds, at
default sizes; a batch without augmentation beside a loop over its sketches, as the original makes
it, to the same values.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from agreement import DisagreementError
from environment import same_package
from memory import MIB, peak, resident
from numpy.typing import NDArray
from plan import Plan, SuiteError
from records import Record, record

from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import SketchDataset, Splits, batch, load
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import Optimiser

SUITE = "data"
NUMPY = "numpy.load with its pickle"
COUNTS = {"quick": (1_000,), "tour": (1_000, 100_000), "full": (1_000, 100_000, 1_000_000)}
LENGTHS = (5, 75)
BATCH, BATCH_TURNS = 100, 5

Child = dict[str, Any]  # what a new process found: `seconds`, `mib`, and samples `batch`, `loop`


def run(plan: Plan) -> list[Record]:
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in COUNTS[plan.scale.name]:
            plan.show(f"{SUITE}: making {count:,} sketches")
            file = make_file(Path(folder), count)
            records += records_of(plan, file, count)
            file.unlink()
    if not plan.quick:
        records.append(share_of_a_step(plan))
    return records


def make_file(folder: Path, count: int) -> Path:
    """A dataset of so many sketches in its train split, a tenth of them in the others."""
    random = np.random.default_rng(count)
    splits = {}
    for split, of_split in (("train", count), ("valid", count // 10), ("test", count // 10)):
        lengths = random.integers(*LENGTHS, of_split, endpoint=True)
        points = random.integers(-80, 81, (int(lengths.sum()), 3), dtype=np.int16)
        points[:, 2] = random.random(len(points)) < 0.1
        sketches = np.empty(of_split, object)
        sketches[:] = np.split(points, np.cumsum(lengths)[:-1])
        splits[split] = sketches
    path = folder / f"made-up-{count}.npz"
    np.savez(path, **splits)
    return path


def records_of(plan: Plan, file: Path, count: int) -> list[Record]:
    """Seconds and memory of loading both ways, taken in turn, and of a batch of what was loaded."""
    turns = 1 if count >= 1_000_000 else 2 if plan.quick else 3
    found: dict[str, list[Child]] = {way: [] for way in WAYS}
    for turn in range(turns):
        for way in WAYS:
            plan.show(f"{SUITE}: {count:,} sketches, {way}, turn {turn + 1}")
            found[way].append(in_new_process(way, file))

    def both(name: str) -> list[list[float]]:
        return [[float(child[name]) for child in found[way]] for way in WAYS]

    batches = [
        [one for child in found["load"] for one in child[name]] for name in ("batch", "loop")
    ]
    load = f"load {count:,} sketches"
    batch_case = f"batch of {BATCH} of {count:,} sketches, no augmentation"
    work = (BATCH, "sketches")
    return [
        record(SUITE, load, NUMPY, *both("seconds"), work=(count * 1.2, "sketches")),
        record(SUITE, f"{load}, peak memory", NUMPY, *both("mib"), unit="mib"),
        record(SUITE, batch_case, "a loop over sketches", *batches, work=work),
    ]


def in_new_process(way: str, file: Path) -> Child:
    command = [sys.executable, __file__, way, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=same_package())
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise SuiteError(f"loading {file.name} by {way} ended early; its last word: {last[0]}")
    found: Child = json.loads(done.stdout)
    return found


# In the new process ---------------------------------------------------------------------------


def numpy_load(file: Path) -> list[NDArray[np.object_]]:
    """What the original does. It trusts the file, which the package never would."""
    with np.load(file, allow_pickle=True, encoding="latin1") as archive:
        return [archive[split] for split in ("train", "valid", "test")]


WAYS: dict[str, Callable[[Path], object]] = {
    "load": lambda file: load([file.name], file.parent),
    "numpy": numpy_load,
}


def one_load(way: str, file: Path) -> Child:
    """Seconds, MiB that this process's memory rises by, and then seconds of batches."""
    before = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    start = time.perf_counter()
    loaded = WAYS[way](file)
    seconds = time.perf_counter() - start
    found: Child = {"seconds": seconds, "mib": max(peak() - before, 1) / MIB}
    if isinstance(loaded, Splits):
        found |= batch_seconds(loaded.train)
    return found


def batch_seconds(dataset: SketchDataset) -> Child:
    """A batch without augmentation and a loop over its sketches, in turn; equal, or refused."""
    most, random = dataset.max_seq_len, np.random.default_rng(0)
    found: Child = {"batch": [], "loop": []}
    for turn in range(BATCH_TURNS + 1):
        indices = random.choice(len(dataset), BATCH, replace=False)
        start = time.perf_counter()
        ours = batch(dataset, indices, most).strokes
        between = time.perf_counter()
        by_loop = loop_batch([dataset[index] for index in indices], most)
        end = time.perf_counter()
        if not np.array_equal(ours, by_loop):
            raise DisagreementError("a loop over sketches makes another batch than ours")
        if turn > 0:  # the first was the warm-up
            found["batch"].append(between - start)
            found["loop"].append(end - between)
    return found


def loop_batch(sketches: Sequence[NDArray[np.float32]], most: int) -> NDArray[np.float32]:
    """Stroke-5 [B, T+1, 5] with the start token first."""
    result = np.zeros((len(sketches), most + 1, 5), np.float32)
    for row, sketch in enumerate(sketches):
        length = len(sketch)
        result[row, 1 : length + 1, :2] = sketch[:, :2]
        result[row, 1 : length + 1, 3] = sketch[:, 2]
        result[row, 1 : length + 1, 2] = 1 - sketch[:, 2]
        result[row, length + 1 :, 4] = 1
        result[row, 0, 2] = 1
    return result


def share_of_a_step(plan: Plan) -> Record:
    """A batch with both augmentations beside the rest of the step that it feeds."""
    name, config = datasets.name(), TrainConfig()
    splits = datasets.splits(name)

    def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
        return datasets.batch_of(splits, BATCH)

    strokes, lengths = make_batch()
    model = SketchRNN(ModelConfig(max_seq_len=splits.max_seq_len))
    optimiser = Optimiser(model.parameters(), config.grad_clip)

    def step() -> None:
        model.loss(strokes, lengths).total.backward()
        optimiser.step(config.learning_rate)

    case = f"batch of {BATCH} of {name}, augmented"
    seconds = plan.measure(f"{SUITE}: {case}", {"batch": make_batch, "step": step})
    work = (BATCH, "sketches")
    return record(SUITE, case, "rest of the step", seconds["batch"], seconds["step"], work=work)


if __name__ == "__main__":
    print(json.dumps(one_load(sys.argv[1], Path(sys.argv[2]))))
