"""Suite `data`: loading and batching, at a thousand, a hundred thousand and a million sketches.

Loading is timed in a new process each time, and how far it raises that process's memory stands
beside. Ours is timed on an npz and on a memory-mapped store of the same sketches; the peer is
NumPy's own reading of the npz, with its pickle, unchecked, neither sorted nor scaled. The sketches
are made up: int16, 5 to 75 points.

A batch of 100 with both augmentations stands beside the rest of the training step that it feeds, at
default sizes, and what the host does for a step whose batch the device makes (`training/graphs.py`)
beside the making of that batch on the host; a batch without augmentation beside a loop over its
sketches, as the original makes it, to the same values.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from sketchrnn_fast.data import Dataset, Splits, batch, load
from sketchrnn_fast.data.ragged import Sketches
from sketchrnn_fast.data.store_writing import StoreWriter
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.philox import choose, derive_seed
from sketchrnn_fast.training import Optimiser
from sketchrnn_fast.training.device_data import DeviceSketches
from sketchrnn_fast.training.graphs import StepInputs
from sketchrnn_fast.training.seeds import Place

SUITE = "data"
NUMPY = "numpy.load with its pickle"
COUNTS = {"quick": (1_000,), "tour": (1_000, 100_000), "full": (1_000, 100_000, 1_000_000)}
LENGTHS = (5, 75)
BATCH, BATCH_TURNS = 100, 5
DISAGREES = 3  # how a new process ends in which something does not agree
LOOP = "a loop over sketches in memory"

Child = dict[str, Any]  # what a new process found: `seconds`, `mib`, and samples `batch`, `loop`


def run(plan: Plan) -> Iterator[Record]:
    for count in COUNTS[plan.scale.name]:
        plan.show(f"{SUITE}: making {count:,} sketches")
        with tempfile.TemporaryDirectory() as folder:
            yield from records_of(plan, *make_files(Path(folder), count), count)
    if not plan.quick:
        yield share_of_a_step(plan)
        yield inputs_of_a_static_step(plan)


def make_files(folder: Path, count: int) -> tuple[Path, Path]:
    """So many sketches in the train split and a tenth of them in the others: an npz and a store."""
    random = np.random.default_rng(count)
    splits, store_folder = {}, folder / f"made-up-{count}.store"
    store_folder.mkdir()
    writer = StoreWriter(store_folder, np.dtype(np.int16))
    for split, of_split in (("train", count), ("valid", count // 10), ("test", count // 10)):
        lengths = random.integers(*LENGTHS, of_split, endpoint=True)
        points = random.integers(-80, 81, (int(lengths.sum()), 3), dtype=np.int16)
        points[:, 2] = random.random(len(points)) < 0.1
        sketches = np.empty(of_split, object)
        sketches[:] = np.split(points, np.cumsum(lengths)[:-1])
        splits[split] = sketches
        writer.append(split, Sketches(points, lengths), np.zeros(of_split, np.int32))
    writer.finish(["made-up"], {})
    npz = folder / f"made-up-{count}.npz"
    np.savez(npz, **splits)
    return npz, store_folder


def records_of(plan: Plan, npz: Path, store: Path, count: int) -> list[Record]:
    """Seconds and memory of loading each way, taken in turn, and of batches of what was loaded."""
    turns = 1 if count >= 1_000_000 or plan.quick else 3
    ways = {"an npz": ("load", npz), "a store": ("load", store), NUMPY: ("numpy", npz)}
    found: dict[str, list[Child]] = {name: [] for name in ways}
    for turn in range(turns):
        for name, (way, path) in ways.items():
            plan.show(f"{SUITE}: {count:,} sketches, {name}, turn {turn + 1}")
            found[name].append(in_new_process(way, path))

    def samples(name: str, what: str) -> list[float]:
        return [float(child[what]) for child in found[name]]

    def batches(name: str, what: str) -> list[float]:
        return [one for child in found[name] for one in child[what]]

    records = []
    for name in ("an npz", "a store"):
        load = f"load {count:,} sketches of {name}"
        for case, what, unit in ((load, "seconds", "s"), (f"{load}, peak memory", "mib", "mib")):
            both = samples(name, what), samples(NUMPY, what)
            work = (count * 1.2, "sketches") if unit == "s" else None
            records.append(record(SUITE, case, NUMPY, *both, unit=unit, work=work))
        case = f"batch of {BATCH} of {count:,} sketches of {name}, no augmentation"
        both = batches(name, "batch"), batches(name, "loop")
        work = (BATCH, "sketches")
        records.append(record(SUITE, case, LOOP, *both, work=work))
    return records


def in_new_process(way: str, path: Path) -> Child:
    command = [sys.executable, __file__, way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=same_package())
    if done.returncode == DISAGREES:
        raise DisagreementError(done.stderr.strip())
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise SuiteError(
            f"loading {path.name} by {way} ended early ({done.returncode}); "
            f"its last word: {last[0]}"
        )
    found: Child = json.loads(done.stdout)
    return found


# In the new process ---------------------------------------------------------------------------


def numpy_load(file: Path) -> list[NDArray[np.object_]]:
    """What the original does. It trusts the file, which the package never would."""
    with np.load(file, allow_pickle=True, encoding="latin1") as archive:
        return [archive[split] for split in ("train", "valid", "test")]


WAYS: dict[str, Callable[[Path], object]] = {
    "load": lambda path: load([path.name], path.parent),
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


def batch_seconds(dataset: Dataset) -> Child:
    """A batch without augmentation and a loop over its sketches, in turn; equal, or refused.

    The loop is given the sketches; ours has to get them.
    """
    most, random = dataset.max_seq_len, np.random.default_rng(0)
    found: Child = {"batch": [], "loop": []}
    for turn in range(BATCH_TURNS + 1):
        indices = random.choice(len(dataset), BATCH, replace=False)
        sketches = [np.array(dataset[index]) for index in indices]
        start = time.perf_counter()
        ours = batch(dataset, indices, most).strokes
        between = time.perf_counter()
        by_loop = loop_batch(sketches, most)
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


def inputs_of_a_static_step(plan: Plan) -> Record:
    """What the host does for a step whose batch the device makes, beside making that batch."""
    name, config = datasets.name(), TrainConfig()
    splits, device = datasets.splits(name), torch.device("cpu")
    inputs, seed = StepInputs(BATCH, device), derive_seed(config.seed, 0, Place.BATCH)

    def draw() -> None:
        inputs.fill(config, 0, choose(seed, len(splits.train), BATCH))

    def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
        return datasets.batch_of(splits, BATCH, seed)

    draw()
    made = DeviceSketches(splits.train, device).batch(
        inputs.indices,
        inputs.batch_seed,
        most_points=splits.max_seq_len,
        max_seq_len=splits.max_seq_len,
        random_scale_factor=config.random_scale_factor,
        augment_stroke_prob=config.augment_stroke_prob,
    )
    if not all(map(torch.equal, made, make_batch())):
        raise DisagreementError("the device makes another batch of these inputs than the host")
    case = f"inputs of a static step, {BATCH} of {name}"
    seconds = plan.measure(f"{SUITE}: {case}", {"inputs": draw, "batch": make_batch})
    work = (BATCH, "sketches")
    return record(SUITE, case, "the batch", seconds["inputs"], seconds["batch"], work=work)


def main() -> None:
    try:
        print(json.dumps(one_load(sys.argv[1], Path(sys.argv[2]))))
    except DisagreementError as error:
        print(error, file=sys.stderr)
        raise SystemExit(DISAGREES) from None


if __name__ == "__main__":
    main()
