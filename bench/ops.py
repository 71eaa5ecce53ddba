"""Suite `ops`: forward and backward of each op, beside its peers and its floor.

float32, on torch's threads. Ours has recurrent dropout; so have the eager peers, torch.nn.LSTM has
not. Gradients are those that training a decoder needs (`layers`): weights, initial state and static
input, not x. What the peers are allowed is said in `peers`, what the floor is in `floor`. A peer
that does not agree with ours, dropout off, ends the run.
"""

from __future__ import annotations

from collections.abc import Callable

import agreement
import layers
import peers
import sheep
import torch
from floor import floor
from layers import DECODER, Sizes, TorchLSTM, check_layer, make_inputs
from timing import interleaved, record
from torch import Tensor

from sketchrnn_fast import ops

KEEP_PROB = 0.9
REPEATS = 7
ROWS, MIXTURES = 25_000, 20

EAGER, COMPILED = "eager PyTorch", "torch.compile of the cell"
TORCH_LSTM = "torch.nn.LSTM, no layer norm, no dropout"
PEERS = {
    "lstm": (EAGER, TORCH_LSTM),
    "layer_norm_lstm": (EAGER, COMPILED, TORCH_LSTM),
    "hyper_lstm": (EAGER,),
}


def run(
    sizes: Sizes = DECODER, rows: int = ROWS, repeats: int = REPEATS
) -> list[dict[str, object]]:
    torch.manual_seed(0)
    records = mixture_density_records(rows, repeats)
    for op in PEERS:
        records += layer_records(op, sizes, repeats)
    return records


def layer_records(op: str, sizes: Sizes, repeats: int) -> list[dict[str, object]]:
    """A layer against its peers and floor, and on real lengths against itself at full length."""
    inputs, lengths = make_inputs(op, sizes), _lengths(sizes)
    on_lengths = f"ours, lengths of {sheep.name()}"
    cases: dict[str, Callable[[], object]] = {
        "ours": lambda: layers.ours(op, inputs, KEEP_PROB),
        "floor": floor(op, sizes),
        on_lengths: lambda: layers.ours(op, inputs, KEEP_PROB, lengths),
    }
    for name in PEERS[op]:
        cases[name] = _peer(op, name, inputs, sizes)
    seconds = interleaved(cases, repeats)

    case = f"{op} {sizes}"
    found = [
        record("ops", case, name, seconds["ours"], seconds[name], seconds["floor"])
        for name in PEERS[op]
    ]
    mean = f"mean {float(lengths.double().mean()):.0f}"
    case = f"{op}, lengths of {sheep.name()} ({mean})"
    return [*found, record("ops", case, "ours, full length", seconds[on_lengths], seconds["ours"])]


def _peer(op: str, name: str, inputs: layers.Inputs, sizes: Sizes) -> Callable[[], object]:
    """A peer's pass on these inputs, after it was found to agree with ours."""
    if name == TORCH_LSTM:
        # Beside layer norm it is another function, so it is held against our plain LSTM.
        check_layer("lstm", name, sizes, lambda _, some: TorchLSTM(some).run_as_ours())
        return TorchLSTM(make_inputs("lstm", sizes)).run
    step = layers.compiled_step(op) if name == COMPILED else None
    check_layer(op, name, sizes, lambda _, some: layers.eager(op, some, 1.0, step))
    return lambda: layers.eager(op, inputs, KEEP_PROB, step)


def _lengths(sizes: Sizes) -> Tensor:
    """Those of the dataset, in proportion where T is not the dataset's."""
    return (sheep.lengths(sizes.B) * sizes.T) // sheep.MOST_POINTS


def mixture_density_records(rows: int, repeats: int) -> list[dict[str, object]]:
    """Loss and gradient of the parameters, every row counting in full."""
    params = torch.randn(rows, 6 * MIXTURES + 3).requires_grad_()
    pen = torch.nn.functional.one_hot(torch.randint(3, (rows,)), 3)
    target = torch.cat([torch.randn(rows, 2), pen], dim=1)
    ones = torch.ones(rows)

    def loss_and_gradient(losses: tuple[Tensor, Tensor]) -> layers.Pass:
        offset, pen = losses
        return torch.stack(losses), torch.autograd.grad(offset.mean() + pen.mean(), params)

    def ours() -> layers.Pass:
        return loss_and_gradient(ops.mixture_density(params, target, ones, ones))

    def eager() -> layers.Pass:
        return loss_and_gradient(peers.mixture_density(params, target))

    agreement.check(f"{EAGER} of mixture_density", ours(), eager())
    seconds = interleaved({"ours": ours, "eager": eager}, repeats)
    case = f"mixture_density, {rows} rows, K={MIXTURES}"
    return [record("ops", case, EAGER, seconds["ours"], seconds["eager"])]
