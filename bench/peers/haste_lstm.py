"""haste's LayerNorm-LSTM (lmnt-com/haste), on a GPU alone. Untested: no GPU was at hand.

Speed only: it normalises the products of x and of h apart, all four gates together, which is
another function than ours, so there is nothing to check; its name in the tables says so. It starts
from zeros, and z is concatenated to x.
"""

from __future__ import annotations

import torch
from layers import Inputs, Pass

from peers import Peer, Running, gpu_only


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    import haste_pytorch

    w_xh, w_hh = inputs.weights.w_xh, inputs.weights.w_hh
    module = haste_pytorch.LayerNormLSTM(len(w_xh), len(w_hh)).to(inputs.device)

    def run() -> Pass:
        x = torch.cat([inputs.x, inputs.static.expand(len(inputs.x), -1, -1)], dim=-1)
        hidden, _ = module(x)
        trained = (inputs.static, *module.parameters())
        return hidden, torch.autograd.grad(hidden, trained, inputs.grad_hidden)

    return Running(run, None)


HASTE = Peer(
    "haste, another layer norm",
    {"layer_norm_lstm": "layer_norm_lstm"},
    _build,
    has_dropout=False,
    missing=gpu_only("haste_pytorch"),
    is_core=False,
)
