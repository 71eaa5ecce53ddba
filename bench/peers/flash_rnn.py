"""FlashRNN's fused LSTM (NX-AI/flashrnn, one head), on a GPU alone. Untested: no GPU was at hand.

It takes the products of x, reads them batch first, and has the gates in the order i, f, j, o.
"""

from __future__ import annotations

import torch
from layers import Inputs, Pass

from peers import Peer, Running, gpu_only
from peers.eager import input_products, torch_gates

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    from flashrnn import flashrnn

    w_xh, w_hh, bias = inputs.weights
    units = len(w_hh)
    forget = torch.zeros_like(bias)
    forget[units : 2 * units] = 1.0

    def run() -> Pass:
        products = torch_gates(input_products(inputs.x, inputs.static, w_xh))
        T, B = products.shape[:2]
        recurrent = torch_gates(w_hh).T.reshape(4, 1, units, units)
        states, _ = flashrnn(
            products.transpose(0, 1).reshape(B, T, 4, 1, units),
            recurrent,
            (torch_gates(bias) + forget).view(4, 1, units),
            torch.stack([part[:, None, None] for part in inputs.state]),
            function="lstm",
            backend="cuda_fused",
            dtype=DTYPES[inputs.x.dtype],
        )
        hidden = states[0, :, :, 0].transpose(0, 1)
        return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)

    return Running(run, run)


FLASH_RNN = Peer(
    "FlashRNN, fused",
    {"lstm": "lstm"},
    _build,
    has_dropout=False,
    missing=gpu_only("flashrnn"),
    is_core=False,
)
