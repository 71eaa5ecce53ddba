"""Benchmarks, side by side with their peers in one run.

    python bench/run.py [SUITE …] [--json FILE] [--magenta PATH --magenta-python PATH]
                        [--sketches LOG_ROOT]

Suites: startup and data, which run by default and take seconds; bidirectional, which takes about a
minute; ops, sizes, memory, train and sampler, which take minutes each. The table shows medians; a
ratio above 1 means that ours takes less than the peer, and the two figures behind it are the 20th
and 80th percentile of the ratio from turn to turn. The floor is the time of the same matrix
products alone, through torch (in `sampler` that of reading the weights alone), and the share is the
floor over ours. With a checkout of Magenta and a Python that has TensorFlow, `train` and `sampler`
run the original too; `sampler` also draws with the model of the training run LOG_ROOT.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from sketchrnn_fast.ops import backends

QUICK = ("startup", "data")
SUITES = (*QUICK, "ops", "sizes", "bidirectional", "memory", "train", "sampler")


def main() -> None:
    arguments = parse()
    original = {name: getattr(arguments, name) for name in ("magenta", "magenta_python")}
    options = {"train": original, "sampler": {**original, "sketches": arguments.sketches}}
    records: list[dict[str, Any]] = []
    for suite in arguments.suites:
        records += importlib.import_module(suite).run(**options.get(suite, {}))
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(machine())
    console.print(table(records))
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    accepted = ", ".join(SUITES)
    parser.add_argument("suites", nargs="*", default=QUICK, metavar="SUITE", help=accepted)
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--magenta", type=Path, help="a checkout of Magenta, for train and sampler")
    parser.add_argument("--magenta-python", type=Path, help="a Python that has TensorFlow 2")
    parser.add_argument("--sketches", type=Path, help="a training run's log root, for sampler")
    arguments = parser.parse_args()
    unknown = set(arguments.suites) - set(SUITES)
    if unknown:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; there are {accepted}")
    if (arguments.magenta is None) != (arguments.magenta_python is None):
        parser.error("--magenta and --magenta-python go together")
    return arguments


def machine() -> str:
    """What the figures were taken on."""
    backend = backends.select("layer_norm_lstm", torch.device("cpu"))
    threads = torch.get_num_threads()
    return f"{cpu()}, {threads} threads, PyTorch {torch.__version__}, backend {backend}"


def cpu() -> str:
    """The CPU's model, where the system tells it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(records: list[dict[str, Any]]) -> Table:
    result = Table("suite", "case", "ours", "peer", "peer's", "ratio", "floor", "share")
    for column in result.columns:
        column.no_wrap = column.header not in ("case", "peer")
    for one in records:
        unit = one["unit"]
        has_floor = one["floor_s"] is not None
        result.add_row(
            one["suite"],
            one["case"],
            amount(one[f"ours_{unit}"], unit),
            one["peer"],
            amount(one[f"peer_{unit}"], unit),
            f"{one['ratio']:.2f} ({one['ratio_p20']:.2f}–{one['ratio_p80']:.2f})",
            amount(one["floor_s"], "s") if has_floor else "",
            f"{one['floor_share']:.0%}" if has_floor else "",
        )
    return result


def amount(value: float, unit: str) -> str:
    return f"{value:.4f} s" if unit == "s" else f"{value:.0f} MiB"


if __name__ == "__main__":
    main()
