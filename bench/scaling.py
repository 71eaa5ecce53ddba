"""Suite `scaling`: how time grows with hidden size N, batch B, length T, threads and ranks.

Forward and backward of a layer as in `ops`, one size changed at a time from a middling layer,
beside eager PyTorch, torch.nn.LSTM and the floor. The exponent of time ~ size^exponent is fitted by
least squares on logarithms over the points of an axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import ops
import torch
import two_ranks
from environment import usable_cores
from layers import SMALL, Sizes
from peers.torch_eager import EAGER
from peers.torch_lstm import TORCH_LSTM
from plan import Plan
from records import Record, fitted
from timing import Effort

SUITE = "scaling"
BASE = Sizes(T=100, B=32, N=512)
AXES = {
    "N": (64, 128, 256, 512, 1024),
    "B": (1, 4, 16, 64, 256),
    "T": (25, 50, 100, 200, 400),
}
QUICK_AXES = {"N": (16, 32), "B": (2, 4), "T": (4, 8)}
PEERS = (EAGER, TORCH_LSTM)
MOST_THREADS = 64


def run(plan: Plan) -> Iterator[Record]:
    torch.manual_seed(0)
    base, axes = (SMALL, QUICK_AXES) if plan.quick else (BASE, AXES)
    for op in ("lstm", "layer_norm_lstm") if plan.quick or plan.full else ("layer_norm_lstm",):
        for axis, values in axes.items():
            points = swept(plan, op, base, axis, values)
            yield from points
            yield from exponents(op, axis, points)
        yield from over_threads(plan, op, base)
    yield from two_ranks.records(plan)


def effort(plan: Plan) -> Effort:
    """Less than usual: there are many points."""
    return plan.scale.effort if plan.quick else Effort(least=3, most=9, seconds=1.0)


def swept(
    plan: Plan, op: str, base: Sizes, axis: str, values: tuple[int, ...], suite: str = SUITE
) -> list[Record]:
    """A record for each value of one size and each peer."""
    records = []
    for value in values:
        sizes = base._replace(**{axis: value})
        records += ops.layer_records(
            plan.with_effort(effort(plan)),
            op,
            sizes,
            PEERS,
            suite=suite,
            sweep=(op, axis, value),
        )
    return records


def exponents(op: str, axis: str, points: list[Record], suite: str = SUITE) -> list[Record]:
    """Ours and each peer's exponent over the points of an axis."""
    records = []
    for peer in dict.fromkeys(point["peer"] for point in points):
        of_peer = [point for point in points if point["peer"] == peer]
        values = [point["sweep"]["value"] for point in of_peer]
        ours, theirs = (
            exponent(values, [point[name] for point in of_peer]) for name in ("ours_s", "peer_s")
        )
        case = f"{op}: time ~ {axis}^exponent, {axis} from {values[0]} to {values[-1]}"
        records.append(fitted(suite, case, peer, ours, theirs))
    return records


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """The slope of log seconds over log sizes, by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return above / sum((a - x_mean) ** 2 for a in x)


def over_threads(plan: Plan, op: str, sizes: Sizes) -> list[Record]:
    """The same layer with 1, 2, 4, … threads, as far as there are cores."""
    before = torch.get_num_threads()
    records = []
    try:
        for threads in thread_counts(len(usable_cores())):
            torch.set_num_threads(threads)
            points = ops.layer_records(
                plan.with_effort(effort(plan)),
                op,
                sizes,
                PEERS,
                suite=SUITE,
                sweep=(op, "threads", threads),
            )
            for point in points:
                point["case"] += f" on {threads} thread{'s' if threads > 1 else ''}"
            records += points
    finally:
        torch.set_num_threads(before)
    return records


def thread_counts(cores: int) -> Iterator[int]:
    """Powers of two, and all cores."""
    threads = 1
    while threads < min(cores, MOST_THREADS):
        yield threads
        threads *= 2
    yield min(cores, MOST_THREADS)
