"""Measure the plans of the recurrent Triton kernels on this machine's GPU, and keep the fastest.

    python bench/tune.py                         prints what it finds
    python bench/tune.py --write                 and writes it to kernels/measured.py
    python bench/tune.py --op lstm --units 512   of one op and width

For each op, width and dtype every form and a few tiles are tried; a plan whose results differ from
those of the rules' own plan by more than rounding is not timed. Untested on a GPU: none was at
hand.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from unittest import mock

import torch
import typer

from sketchrnn_fast import nn
from sketchrnn_fast.kernels import tuning
from sketchrnn_fast.kernels.measured import Measured, Tile
from sketchrnn_fast.kernels.tuning import PlanError, plan_for

LAYERS = {"lstm": nn.LSTM, "layer_norm_lstm": nn.LayerNormLSTM, "hyper_lstm": nn.HyperLSTM}
DTYPES = {16: torch.bfloat16, 32: torch.float32}
T, B, X = 64, 100, 5
MOST_ERROR = {16: 2e-2, 32: 1e-4}  # of the norm, against the rules' own plan
FILE = Path(__file__).parents[1] / "kernels" / "measured.py"


def candidates(op: str, units: int, bits: int, chip: str) -> Iterator[Measured]:
    """The rules' tiles of every form that can be, and others around them."""
    for form in ("sequence", "step", "persistent"):
        try:
            with mock.patch.dict("os.environ", {tuning.FORM_VARIABLE: form}):
                plan = plan_for(op, units, DTYPES[bits], chip)
        except PlanError:
            continue
        yield Measured(form, plan.forward, plan.backward)
        if form == "step":
            sizes = itertools.product((16, 32, 64), (32, 64, 128), (32, 64), (4, 8), (2, 3, 4))
            for rows, columns, depth, warps, stages in sizes:
                tile = Tile(rows, columns, depth, warps, stages)
                yield Measured(form, tile, plan.backward)
                yield Measured(form, plan.forward, tile)


def run(layer: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Forward and backward; the output and all gradients."""
    hidden = layer(x)[0]
    return (hidden, *torch.autograd.grad(hidden.float().square().sum(), tuple(layer.parameters())))


def milliseconds(layer: torch.nn.Module, x: torch.Tensor, repeats: int = 7) -> float:
    """The median of forward and backward, captured in a graph, by CUDA's own clock."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(layer, x)
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def fastest(op: str, units: int, bits: int, chip: str) -> tuple[Measured, float, float]:
    """The best plan, its milliseconds, and those of the rules' own plan."""
    torch.manual_seed(0)
    layer = LAYERS[op](X, units, recurrent_keep_prob=0.9).cuda().to(DTYPES[bits])
    x = torch.randn(T, B, X, device="cuda", dtype=DTYPES[bits])
    found: list[tuple[float, Measured]] = []
    expected: tuple[torch.Tensor, ...] | None = None
    own = plan_for(op, units, DTYPES[bits], chip)
    first = Measured(own.form, own.forward, own.backward)
    for plan in dict.fromkeys([first, *candidates(op, units, bits, chip)]):
        key = (chip, op, tuning.padded(units), bits)
        with mock.patch.dict(tuning.MEASURED, {key: plan}):
            try:
                torch.manual_seed(1)
                results = run(layer, x)
                expected = expected or results
                if disagree(results, expected, MOST_ERROR[bits]):
                    print(f"{op} {units} {bits}: {plan} differs from the rules' plan; left out")
                    continue
                found.append((milliseconds(layer, x), plan))
            except RuntimeError as error:  # more shared memory than there is, and the like
                print(f"{op} {units} {bits}: {plan} cannot run: {str(error).splitlines()[0]}")
    best, plan = min(found, key=lambda one: one[0])
    return plan, best, found[0][0]


def disagree(
    results: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...], most: float
) -> bool:
    return any(
        not float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-30))
        <= most
        for one, other in zip(results, expected, strict=True)
    )


def rewritten(text: str, rows: dict[tuple[str, str, int, int], Measured]) -> str:
    """The file's text with these rows instead of its own."""
    lines = "".join(f"    {key!r}: {row!r},\n" for key, row in sorted(rows.items()))
    dictionary = "{\n" + lines + "}" if rows else "{}"
    pattern = r"(?s)(MEASURED: dict\[[^=]*\] = ).*\Z"
    return re.sub(pattern, lambda match: match.group(1) + dictionary + "\n", text)


def main(
    op: Annotated[list[str] | None, typer.Option(help="lstm, layer_norm_lstm, hyper_lstm")] = None,
    units: Annotated[list[int] | None, typer.Option(help="widths")] = None,
    write: Annotated[bool, typer.Option("--write", help="to kernels/measured.py")] = False,
) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("bench/tune.py: PyTorch finds no GPU, and there is nothing to measure")
    chip = tuning.architecture(torch.device("cuda"))
    print(f"{torch.cuda.get_device_name()}, {chip}")
    rows = dict(tuning.MEASURED)
    for name, width, bits in itertools.product(
        op or LAYERS, units or (64, 128, 256, 512, 1024, 2048), DTYPES
    ):
        plan, best, before = fastest(name, width, bits, chip)
        rows[chip, name, tuning.padded(width), bits] = plan
        print(f"{name} {width} {bits} bits: {best:.3f} ms, the rules' {before:.3f} ms: {plan}")
    if write:
        FILE.write_text(rewritten(FILE.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
