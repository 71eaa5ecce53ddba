"""Flax: `linen.RNN` over its `OptimizedLSTMCell`, the pass under `jit`; z concatenated to x."""

from __future__ import annotations

from typing import Any

import torch
from layers import Inputs, Pass

from peers import Peer, Running, jax_scan, not_installed

GATES = "igfo"  # Flax's letters in our order i, j, f, o


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    import jax
    from flax import linen
    from jax import numpy as jnp

    units = len(inputs.weights.w_hh)
    layer = linen.RNN(linen.OptimizedLSTMCell(units), time_major=True)

    def forward(trained: tuple[Any, ...], x: Any) -> Any:
        static, w_xh, w_hh, bias, h, c = trained
        x = jnp.concatenate([x, jnp.broadcast_to(static, (*x.shape[:2], static.shape[1]))], axis=-1)
        cell = {}
        for letter, of_x, of_h, of_bias in zip(
            GATES, four(w_xh), four(w_hh), four(bias), strict=True
        ):
            forget = 1.0 if letter == "f" else 0.0
            cell[f"i{letter}"] = {"kernel": of_x}
            cell[f"h{letter}"] = {"kernel": of_h, "bias": of_bias + forget}
        return layer.apply({"params": {"cell": cell}}, x, initial_carry=(c, h))

    def four(values: Any) -> Any:
        return jnp.split(values, 4, axis=-1)

    @jax.jit
    def run_pass(trained: tuple[Any, ...], x: Any, grad_hidden: Any) -> Any:
        hidden, pull = jax.vjp(lambda given: forward(given, x), trained)
        return hidden, pull(grad_hidden)[0]

    x, grad_hidden = jax_scan.to_jax(inputs.x), jax_scan.to_jax(inputs.grad_hidden)
    trained = tuple(map(jax_scan.to_jax, inputs.trained))

    def run() -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.block_until_ready(run_pass(trained, x, grad_hidden))

    def as_ours() -> Pass:
        hidden, gradients = run()
        return jax_scan.to_torch(hidden), tuple(map(jax_scan.to_torch, gradients))

    return Running(run, as_ours)


def _missing(device: torch.device) -> str | None:
    return not_installed("jax", "flax")(device) or jax_scan.JAX.missing(device)


FLAX = Peer(
    "Flax OptimizedLSTMCell",
    {"lstm": "lstm"},
    _build,
    has_dropout=False,
    missing=_missing,
    is_core=False,
    in_quick=False,
)
