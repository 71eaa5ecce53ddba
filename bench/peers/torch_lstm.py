"""`torch.nn.LSTM` (oneDNN or MKL on a CPU, cuDNN on a GPU), z concatenated to x."""

from __future__ import annotations

import torch
from layers import Inputs, Pass

from peers import Peer, Running
from peers.eager import fill_torch_lstm, torch_gates


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    w_xh, w_hh = inputs.weights.w_xh, inputs.weights.w_hh
    module = torch.nn.LSTM(len(w_xh), len(w_hh)).to(w_hh.device, w_hh.dtype)
    fill_torch_lstm(module, inputs.weights)
    static, state = inputs.static, inputs.state

    def run() -> Pass:
        """Gradients as torch lays them out."""
        x = torch.cat([inputs.x, static.expand(len(inputs.x), -1, -1)], dim=-1)
        hidden, _ = module(x, tuple(part[None] for part in state))
        trained = (static, *module.parameters(), *state)
        return hidden, torch.autograd.grad(hidden, trained, inputs.grad_hidden)

    def as_ours() -> Pass:
        """In the order and layout of ours; torch's second bias has no counterpart."""
        hidden, (grad_static, w_ih, w_hh, bias_ih, _, *grad_state) = run()
        weights = (torch_gates(w_ih.T), torch_gates(w_hh.T), torch_gates(bias_ih))
        return hidden, (grad_static, *weights, *grad_state)

    return Running(run, as_ours)


# Beside layer norm it is another function, and less work; it is held against our plain LSTM.
TORCH_LSTM = Peer(
    "torch.nn.LSTM",
    {"lstm": "lstm", "layer_norm_lstm": "lstm"},
    _build,
    has_dropout=False,
)
