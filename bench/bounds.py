"""What a step of a recurrent layer costs on a GPU at the least: **an estimate**, nothing was run.

For each phase of a step the larger of two times: its products at the chip's matrix rate, and what
its programs read and write in the L2 cache, at the rate of the cache and of the multiprocessors
that take part. Phases follow one another, so their times add. Launches, barriers, latencies and all
arithmetic but the products are left out: they come on top.

    python bench/bounds.py          the table of docs/triton.md
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from kernel_cases import EMBEDDING, HYPER, B

from sketchrnn_fast.kernels.tuning import Plan, plan_for

T = 250


class Gpu(NamedTuple):
    """Attributes: flops by bits of storage (float32 as three products of tf32), a second; cycles a
    second; bytes a cycle of the L2 cache, and of one multiprocessor's path to it."""

    name: str
    chip: str
    processors: int
    hertz: float
    flops: dict[int, float]
    l2_bytes: int = 5120
    path_bytes: int = 64


# NVIDIA's data sheets and white papers of the A100 SXM and the H100 SXM; for the H100's L2 cache
# the A100's width is assumed, since none is published.
GPUS = (
    Gpu("A100", "sm_80", 108, 1.41e9, {16: 312e12, 32: 156e12 / 3}),
    Gpu("H100", "sm_90", 132, 1.755e9, {16: 989e12, 32: 495e12 / 3}),
)


class Phase(NamedTuple):
    """The work of a phase: programs, floating-point operations, and bytes in the L2 cache."""

    programs: int
    flops: float
    bytes: float

    def seconds(self, gpu: Gpu, bits: int) -> float:
        share = min(1.0, self.programs / gpu.processors)
        by_flops = self.flops / (gpu.flops[bits] * share)
        of_path = gpu.path_bytes * min(self.programs, gpu.processors)
        return max(by_flops, self.bytes / (gpu.hertz * min(gpu.l2_bytes, of_path)))


def product(plan: Plan, depth: int, columns: int, size: int) -> Phase:
    """A product phase of `step`: every tile reads its columns of W and its rows of h."""
    tile = plan.forward
    row_tiles, column_tiles = math.ceil(B / tile.rows), math.ceil(columns / tile.columns)
    read = row_tiles * column_tiles * depth * (tile.rows + tile.columns) * size
    return Phase(row_tiles * column_tiles, 2.0 * B * depth * columns, read + 4.0 * B * columns)


def rows(plan: Plan, units: int, size: int, gates: int = 3) -> Phase:
    """A row phase: the gates read, their products read and what is saved written; c, h and cell."""
    of_row = 4 * units * (gates * size + 4) + units * (12 + 3 * size)
    return Phase(math.ceil(B / plan.row_tile), 0.0, float(B * of_row))


def forward_phases(op: str, units: int, bits: int, chip: str) -> list[Phase]:
    """Of one step forward in the form that the op takes."""
    dtype, size = (torch.bfloat16, 2) if bits == 16 else (torch.float32, 4)
    plan = plan_for(op, units, dtype, chip)
    if plan.form == "sequence":
        programs = math.ceil(B / plan.forward.rows)
        width = 4 * units * units
        if op == "hyper_lstm":
            width += 4 * HYPER * (units + HYPER) + 12 * EMBEDDING * (HYPER + units)
        return [
            Phase(
                programs, 2.0 * B * width, programs * width * size + rows(plan, units, size).bytes
            )
        ]
    if op != "hyper_lstm":
        return [product(plan, units, 4 * units, size), rows(plan, units, size)]
    scale = product(plan, 3 * EMBEDDING, 4 * units, size)
    return [
        product(plan, units + HYPER, 4 * units + 4 * HYPER, size),
        rows(plan, HYPER, size),
        product(plan, HYPER, 12 * EMBEDDING, size),
        scale._replace(bytes=scale.bytes + 4.0 * B * units * (3 * size + 4)),
        rows(plan, units, size, gates=1),
    ]


def microseconds(op: str, units: int, bits: int, gpu: Gpu) -> float:
    """The least time of a step forward."""
    return 1e6 * sum(
        phase.seconds(gpu, bits) for phase in forward_phases(op, units, bits, gpu.chip)
    )


def main() -> None:
    names = ["op", "N", "bits", "form", "phases", "MFLOP", "MB in L2"]
    names += [f"{gpu.name} {unit}" for unit in ("µs", "ms") for gpu in GPUS]
    print("| " + " | ".join(names) + " |")
    print("|---" * len(names) + "|")
    for op in ("lstm", "layer_norm_lstm", "hyper_lstm"):
        for units in (256, 512, 1024, 2048):
            for bits in (16, 32):
                print("| " + " | ".join(row(op, units, bits)) + " |")


def row(op: str, units: int, bits: int) -> list[str]:
    dtype = torch.bfloat16 if bits == 16 else torch.float32
    phases = forward_phases(op, units, bits, "sm_80")
    times = [microseconds(op, units, bits, gpu) for gpu in GPUS]
    return [
        *(op, str(units), str(bits), plan_for(op, units, dtype, "sm_80").form, str(len(phases))),
        f"{sum(phase.flops for phase in phases) / 1e6:.0f}",
        f"{sum(phase.bytes for phase in phases) / 1e6:.1f}",
        *(f"{time:.1f}" for time in times),
        *(f"{time * T / 1e3:.2f}" for time in times),
    ]


if __name__ == "__main__":
    main()
