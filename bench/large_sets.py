"""Conversion and training data at a million drawings: speed of a core, peak memory, start-up.

    python bench/large_sets.py FOLDER [--drawings 1000000] [--repeats 3]

Makes a .bin and an .ndjson of random drawings in FOLDER (0.5 GB for a million), converts each in a
process of its own, and draws batches from the store in another. Speeds are drawings for each
second of processor time, user and system, of the one process, so that a busy machine changes them
little; peak memory is the kernel's (VmHWM), which counts mapped pages of files, droppable at any
time; `anonymous` is what is not droppable. What is printed are medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

BATCHES = 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--drawings", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", choices=("convert", "train"))
    parser.add_argument("--source")
    arguments = parser.parse_args()
    if arguments.run == "convert":
        print(json.dumps(convert(arguments.folder / arguments.source)))
        return
    if arguments.run == "train":
        print(json.dumps(train(arguments.folder)))
        return
    make(arguments.folder, arguments.drawings)
    for source in ("drawings.bin", "drawings.ndjson"):
        runs = [in_process(arguments.folder, "convert", source) for _ in range(arguments.repeats)]
        report(f"convert {source}", runs, arguments.drawings)
    runs = [in_process(arguments.folder, "train", "") for _ in range(arguments.repeats)]
    report("load and draw batches", runs, None)


def make(folder: Path, count: int) -> None:
    """Random walks: 1 to 12 lines of 2 to 14 points, about as large as QuickDraw's drawings."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "drawings.bin").open("wb") as bins, (folder / "drawings.ndjson").open("w") as js:
        for key in range(count):
            lines = []
            for length in rng.integers(2, 15, rng.integers(1, 13)).tolist():
                lines.append(rng.integers(0, 256, (2, length), np.uint8))
            head = struct.pack("<Q2sbIH", key, b"CH", 1, 1_490_000_000, len(lines))
            body = [struct.pack("<H", line.shape[1]) + line.tobytes() for line in lines]
            bins.write(head + b"".join(body))
            record = {
                "word": "walk",
                "countrycode": "CH",
                "timestamp": "2017-03-28 07:09:01.69625 UTC",
                "recognized": True,
                "key_id": str(key),
                "drawing": [line.tolist() for line in lines],
            }
            js.write(json.dumps(record, separators=(",", ":")) + "\n")


def in_process(folder: Path, run: str, source: str) -> dict[str, float]:
    if run == "convert":
        shutil.rmtree(folder / "store", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, __file__, str(folder), "--run", run, "--source", source],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def convert(source: Path) -> dict[str, float]:
    from sketchrnn_fast.data import conversion

    before, started = processor_seconds(), time.perf_counter()
    conversion.convert([source], source.with_name("store"))
    return {
        "processor_s": processor_seconds() - before,
        "wall_s": time.perf_counter() - started,
        **memory(),
    }


def train(folder: Path) -> dict[str, float]:
    started = time.perf_counter()
    from sketchrnn_fast.data import load, random_batch

    splits = load(["store"], folder)
    ready = time.perf_counter()
    for seed in range(BATCHES):
        random_batch(
            splits.train,
            100,
            splits.max_seq_len,
            seed=seed,
            random_scale_factor=0.15,
            augment_stroke_prob=0.1,
        )
    return {
        "start_s": ready - started,
        "batch_ms": (time.perf_counter() - ready) / BATCHES * 1000,
        **memory(),
    }


def processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory() -> dict[str, float]:
    """MiB: the peak of everything, and what is neither file nor shared now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.endswith("kB"))
    return {
        "peak_mib": int(fields["VmHWM"].split()[0]) / 1024,
        "anonymous_mib": int(fields["RssAnon"].split()[0]) / 1024,
    }


def report(what: str, runs: list[dict[str, float]], drawings: int | None) -> None:
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if drawings is not None:
        medians["drawings_per_processor_s"] = drawings / medians["processor_s"]
    figures = ", ".join(f"{name} {value:,.4g}" for name, value in medians.items())
    print(f"{what}: {figures}", flush=True)


if __name__ == "__main__":
    main()
