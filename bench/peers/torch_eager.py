"""The eager cells of `eager`, in plain PyTorch and with the step under `torch.compile`."""

from __future__ import annotations

import torch
from layers import Inputs, Pass

from peers import Peer, Running, eager

SAME = {name: name for name in eager.CELLS}


def run(op: str, inputs: Inputs, keep_prob: float, step: eager.Step | None = None) -> Pass:
    """A pass of the eager loop; `step` replaces the cell's own."""
    hidden, _ = eager.layer(
        eager.CELLS[op], inputs.x, inputs.static, inputs.weights, inputs.state, keep_prob, step
    )
    return hidden, torch.autograd.grad(hidden, inputs.trained, inputs.grad_hidden)


def _build_eager(op: str, inputs: Inputs, keep_prob: float) -> Running:
    def one_pass() -> Pass:
        return run(op, inputs, keep_prob)

    return Running(one_pass, one_pass)


def _build_compiled(op: str, inputs: Inputs, keep_prob: float) -> Running:
    step: eager.Step = torch.compile(eager.CELLS[op].step, dynamic=False)

    def one_pass() -> Pass:
        return run(op, inputs, keep_prob, step)

    return Running(one_pass, one_pass)


EAGER = Peer("eager PyTorch", SAME, _build_eager)
COMPILED = Peer("torch.compile of the cell", SAME, _build_compiled, in_quick=False)
