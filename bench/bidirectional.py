"""Suite `bidirectional`: both directions of an LSTM in one call, beside one call for each.

In one call they run side by side, each on half of the threads; one after another, each has all
threads. Without dropout, by forward passes alone and with the gradients of all weights.
"""

from __future__ import annotations

from collections.abc import Callable

import agreement
import torch
from layers import Pass
from plan import Plan
from records import Record, record
from torch import Tensor

from sketchrnn_fast import nn, ops

SUITE = "bidirectional"
T, X = 250, 5
UNITS = (64, 256)
ROWS = (1, 2, 4, 8, 16, 32, 100)
PEER = "one after another"


def run(plan: Plan) -> list[Record]:
    torch.manual_seed(0)
    time_steps, units, rows = (8, (16,), (2,)) if plan.quick else (T, UNITS, ROWS)
    records = []
    for width in units:
        layer = nn.LSTM(X, width, bidirectional=True)
        for count in rows:
            records += layer_records(plan, layer, torch.randn(time_steps, count, X))
    return records


def layer_records(plan: Plan, layer: nn.LSTM, x: Tensor) -> list[Record]:
    weights = tuple(cell.weights for cell in layer.cells)
    directions = (ops.Options(), ops.Options(reverse=True))
    trained = tuple(layer.parameters())
    grad = torch.randn(*x.shape[:2], layer.hidden_size)

    def side_by_side() -> list[Tensor]:
        return [hidden for hidden, _ in ops.lstm_bidirectional(x, weights)]

    def one_after_another() -> list[Tensor]:
        return [
            ops.lstm(x, of_one, options=options)[0]
            for of_one, options in zip(weights, directions, strict=True)
        ]

    def with_gradients(hidden: Callable[[], list[Tensor]]) -> Pass:
        outputs = hidden()
        return torch.cat(outputs), torch.autograd.grad(outputs, trained, [grad, grad])

    sizes = f"T={len(x)} B={x.shape[1]} N={layer.hidden_size}"
    expected, found = with_gradients(side_by_side), with_gradients(one_after_another)
    agreement.check(f"{PEER}, {sizes}", expected, found)
    records = []
    for what, ours, peer in (
        ("forward", torch.no_grad()(side_by_side), torch.no_grad()(one_after_another)),
        (
            "forward and backward",
            lambda: with_gradients(side_by_side),
            lambda: with_gradients(one_after_another),
        ),
    ):
        case = f"lstm {sizes}, {what}"
        cases = {"ours": ours, "peer": peer}
        seconds = plan.measure(f"{SUITE}: {case}", cases, warm_up=3)
        records.append(record(SUITE, case, PEER, seconds["ours"], seconds["peer"]))
    return records
