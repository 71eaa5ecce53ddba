"""Suite `sizes`: small batches and other hidden sizes, and single steps of the cells.

As in the suite `ops`: layer_norm_lstm beside an eager loop, lstm beside torch.nn.LSTM without
dropout. From N=1024 on the sequence is shorter, as the case says. A single step is timed without
gradients, as in sampling, a hundred in a row.
"""

from __future__ import annotations

from collections.abc import Callable

import agreement
import layers
import peers
import torch
from layers import Sizes, TorchLSTM, check_layer, make_inputs
from ops import EAGER, KEEP_PROB, TORCH_LSTM
from timing import interleaved, record
from torch import Tensor

from sketchrnn_fast import nn

REPEATS = 5
STEPS = 100
SWEEP = (
    *(Sizes(B=rows) for rows in (1, 8, 32)),
    *(Sizes(N=units) for units in (128, 256)),
    *(Sizes(N=units, T=50) for units in (1024, 2048)),
)


def run(sweep: tuple[Sizes, ...] = SWEEP, repeats: int = REPEATS) -> list[dict[str, object]]:
    torch.manual_seed(0)
    records = []
    for sizes in sweep:
        records += [layer_norm_lstm_record(sizes, repeats), lstm_record(sizes, repeats)]
    for rows in (1, 100):
        records += cell_records(rows, repeats)
    return records


def layer_norm_lstm_record(sizes: Sizes, repeats: int) -> dict[str, object]:
    op = "layer_norm_lstm"
    check_layer(op, EAGER, sizes, lambda _, some: layers.eager(op, some, 1.0))
    inputs = make_inputs(op, sizes)
    return _record(op, sizes, EAGER, inputs, lambda: layers.eager(op, inputs, KEEP_PROB), repeats)


def lstm_record(sizes: Sizes, repeats: int) -> dict[str, object]:
    op = "lstm"
    check_layer(op, TORCH_LSTM, sizes, lambda _, some: TorchLSTM(some).run_as_ours())
    inputs = make_inputs(op, sizes)
    return _record(op, sizes, TORCH_LSTM, inputs, TorchLSTM(inputs).run, repeats)


def _record(
    op: str,
    sizes: Sizes,
    name: str,
    inputs: layers.Inputs,
    peer: Callable[[], object],
    repeats: int,
) -> dict[str, object]:
    cases = {"ours": lambda: layers.ours(op, inputs, KEEP_PROB), "peer": peer}
    seconds = interleaved(cases, repeats)
    return record("sizes", f"{op} {sizes}", name, seconds["ours"], seconds["peer"])


@torch.no_grad()
def cell_records(rows: int, repeats: int) -> list[dict[str, object]]:
    """One-step cells of 512 units, without dropout."""
    X, N = 5, 512
    x, state = torch.randn(rows, X), (torch.randn(rows, N), torch.randn(rows, N))
    lstm, layer_norm_lstm = nn.LSTMCell(X, N).eval(), nn.LayerNormLSTMCell(X, N).eval()
    torch_lstm = torch.nn.LSTMCell(X, N)
    peers.fill_torch_lstm(torch_lstm, lstm.weights)
    weights = layer_norm_lstm.weights

    def eager_layer_norm_lstm(x: Tensor, state: peers.State) -> peers.State:
        return peers.layer_norm_lstm_step(x @ weights.w_xh, state, None, weights)

    records = []
    for name, ours, peer_name, peer in (
        ("LSTMCell", lstm, "torch.nn.LSTMCell", torch_lstm),
        ("LayerNormLSTMCell", layer_norm_lstm, EAGER, eager_layer_norm_lstm),
    ):
        agreement.check(
            f"{peer_name} for {name}", _one_step(ours(x, state)), _one_step(peer(x, state))
        )
        seconds = interleaved(
            {
                "ours": lambda c=ours: _steps(c, x, state),
                "peer": lambda c=peer: _steps(c, x, state),
            },
            repeats,
        )
        case = f"{name} B={rows} N={N}, {STEPS} steps"
        records.append(record("sizes", case, peer_name, seconds["ours"], seconds["peer"]))
    return records


def _one_step(state: peers.State) -> layers.Pass:
    return torch.cat(tuple(state)), ()


def _steps(
    cell: Callable[[Tensor, peers.State], peers.State], x: Tensor, state: peers.State
) -> None:
    for _ in range(STEPS):
        state = cell(x, state)
