"""The first steps of a run by one process and by several ranks of the same global batch.

    python bench/ranks.py --data_dir sketches --data_set aaron_sheep.npz --batch_size 24

Trains each cell, with Magenta's sizes unless told otherwise, for a few steps under `torchrun` with
1, 2 and 3 processes on this machine, and prints the cost of each step and the largest relative
difference from one process in cost, reconstruction and KL term.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CELLS = ("lstm", "layer_norm", "hyper")
SIZES = (1, 2, 3)
FIGURES = ("cost", "reconstruction", "kl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=24)
    options, rest = parser.parse_known_args()
    print(f"cost of the first {options.steps} steps, batch {options.batch_size}")
    for cell in CELLS:
        alone: list[list[float]] = []
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                found = first_steps(size, cell, options.steps, options.batch_size, folder, rest)
            alone = alone or found
            costs = "  ".join(f"{figures[0]:.7f}" for figures in found)
            print(f"{cell:10} {size}  {costs}  {largest_difference(found, alone):.1e}", flush=True)


def first_steps(
    size: int, cell: str, steps: int, batch_size: int, folder: str, rest: list[str]
) -> list[list[float]]:
    """The figures of each step of a run by so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={size}", "-m", "sketchrnn_fast", "train"]
    command += [f"--enc_model={cell}", f"--dec_model={cell}", f"--batch_size={batch_size}"]
    command += [f"--num_steps={steps}", "--log_every=1", "--pictures=0"]
    command += [f"--log_root={folder}/run", *rest]
    subprocess.run(command, check=True, capture_output=True)
    lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["split"] == "train"]
    return [[record[name] for name in FIGURES] for record in records]


def largest_difference(found: list[list[float]], expected: list[list[float]]) -> float:
    pairs = [pair for rows in zip(found, expected, strict=True) for pair in zip(*rows, strict=True)]
    return max(abs(one - other) / abs(other) for one, other in pairs)


if __name__ == "__main__":
    main()
