"""Suite `memory`: how far one forward and backward pass of a layer raises the process's memory.

Each sample is a new process, which imports, makes its inputs and warms up with two steps of time;
then it takes one pass. What counts is the highest resident memory over that from before the pass
(Linux). The peer is the eager loop. Sizes as in the suite `ops`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import layers
from layers import DECODER, make_inputs
from ops import EAGER, KEEP_PROB
from timing import record

REPEATS = 3
MIB = 2**20
IMPLEMENTATIONS = {"ours": layers.ours, "eager": layers.eager}


def run(repeats: int = REPEATS) -> list[dict[str, object]]:
    records = []
    for op in ("lstm", "layer_norm_lstm", "hyper_lstm"):
        samples: dict[str, list[float]] = {name: [] for name in IMPLEMENTATIONS}
        for _ in range(repeats):
            for name, of_name in samples.items():
                of_name.append(_in_new_process(op, name))
        case = f"{op} {DECODER}, peak"
        records.append(record("memory", case, EAGER, samples["ours"], samples["eager"], unit="mib"))
    return records


def _in_new_process(op: str, implementation: str) -> float:
    command = [sys.executable, __file__, op, implementation]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def rise(op: str, implementation: str) -> float:
    """MiB that a pass adds to this process."""
    take_pass = IMPLEMENTATIONS[implementation]
    inputs = make_inputs(op, DECODER)
    take_pass(op, make_inputs(op, DECODER._replace(T=2)), KEEP_PROB)
    before = resident()
    # Forgets the peak so far; a new process inherits even that of the one that started it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    take_pass(op, inputs, KEEP_PROB)
    return (peak() - before) / MIB


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
    print(rise(*sys.argv[1:3]))
