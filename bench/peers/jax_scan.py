"""JAX: the cells of `eager` in `jax.numpy`, `lax.scan` over time, the whole pass under `jit`.

The products of x and the masks are made within the step, which XLA on a CPU prefers to reading them
from memory.

XLA uses all cores that the process may use and cannot be told otherwise while it runs; so this peer
is left out where PyTorch has another number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from environment import usable_cores
from layers import Inputs, Pass
from torch import Tensor

from peers import Peer, Running, not_installed

EPSILON = 1e-3
OPS = ("lstm", "layer_norm_lstm", "hyper_lstm")


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    import jax

    run_pass = jitted(op, keep_prob)
    x, grad_hidden = to_jax(inputs.x), to_jax(inputs.grad_hidden)
    trained = tuple(to_jax(tensor) for tensor in inputs.trained)
    key = [jax.random.key(0)]

    def run() -> Any:
        key[0], now = jax.random.split(key[0])
        return jax.block_until_ready(run_pass(trained, x, grad_hidden, now))

    def as_ours() -> Pass:
        hidden, gradients = run()
        return to_torch(hidden), tuple(map(to_torch, gradients))

    return Running(run, as_ours)


def jitted(op: str, keep_prob: float) -> Callable[..., Any]:
    """From what has a gradient, x, the gradient of hidden, and a key, to hidden and gradients."""
    import jax
    from jax import numpy as jnp

    step = {"lstm": lstm_step, "layer_norm_lstm": layer_norm_step, "hyper_lstm": hyper_step}[op]
    states = 4 if op == "hyper_lstm" else 2

    def forward(trained: tuple[Any, ...], x: Any, key: Any) -> Any:
        static, weights, state = trained[0], trained[1:-states], trained[-states:]
        w_x, constant = input_weights(op, x.shape[-1], static, weights)
        prepared = prepare_hyper(weights) if op == "hyper_lstm" else weights

        def one_step(carry: Any, now: Any) -> Any:
            x_now, key_now = now
            kept = jax.random.bernoulli(key_now, keep_prob, carry[0].shape)
            mask = jnp.where(kept, 1.0 / keep_prob, 0.0).astype(x.dtype)
            carry = step(x_now @ w_x + constant, carry, mask, prepared)
            return carry, carry[0]

        keys = jax.random.split(key, len(x))
        return jax.lax.scan(one_step, tuple(state), (x, keys))[1]

    def run_pass(trained: tuple[Any, ...], x: Any, grad_hidden: Any, key: Any) -> Any:
        hidden, pull = jax.vjp(lambda given: forward(given, x, key), trained)
        return hidden, pull(grad_hidden)[0]

    def in_full_precision(*arguments: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return compiled(*arguments)

    compiled = jax.jit(run_pass)
    return in_full_precision


def input_weights(op: str, width: int, static: Any, weights: tuple[Any, ...]) -> tuple[Any, Any]:
    """The weights of x, and what a step adds to x's product: z's, and the bias if there is one."""
    from jax import numpy as jnp

    w_xh = weights[0]
    if op == "hyper_lstm":  # the inner cell reads [x, h], and its products stand beside
        inner = weights[HYPER.index("hyper_w_xh")]
        w_xh = jnp.concatenate([w_xh, inner[: len(w_xh)]], axis=1)
    constant = static @ w_xh[width:]
    if op == "lstm":
        constant = constant + weights[2]
    return w_xh[:width], constant


def update(gates: Any, c: Any, mask: Any, gamma: Any = None, beta: Any = None) -> tuple[Any, Any]:
    """The new (h, c) from i, j, f, o."""
    from jax import nn
    from jax import numpy as jnp

    i, j, f, o = gates
    candidate = jnp.tanh(j) if mask is None else jnp.tanh(j) * mask
    c = c * nn.sigmoid(f + 1.0) + nn.sigmoid(i) * candidate
    inner = c if gamma is None else norm(c) * gamma + beta
    return jnp.tanh(inner) * nn.sigmoid(o), c


def norm(values: Any) -> Any:
    from jax import lax

    centred = values - values.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)


def normalised(gates: Any, gamma: Any, beta: Any) -> Any:
    rows, width = gates.shape
    return norm(gates.reshape(rows, 4, width // 4)).reshape(rows, width) * gamma + beta


def lstm_step(products: Any, state: Any, mask: Any, weights: Any) -> Any:
    h, c = state
    return update(four(products + h @ weights[1]), c, mask)


def layer_norm_step(products: Any, state: Any, mask: Any, weights: Any) -> Any:
    h, c = state
    _, w_hh, gamma, beta, c_gamma, c_beta = weights
    return update(four(normalised(products + h @ w_hh, gamma, beta)), c, mask, c_gamma, c_beta)


def four(gates: Any) -> Any:
    from jax import numpy as jnp

    return jnp.split(gates, 4, axis=1)


def _hyper_fields() -> tuple[str, ...]:
    from sketchrnn_fast.ops import HyperLSTMWeights

    return HyperLSTMWeights._fields


HYPER = _hyper_fields()


def prepare_hyper(weights: tuple[Any, ...]) -> dict[str, Any]:
    """A HyperLSTM's weights with all that can be one product side by side."""
    from jax import numpy as jnp

    w = dict(zip(HYPER, weights, strict=True))
    inner_w_xh = w["hyper_w_xh"][len(w["w_xh"]) :]
    embeddings = jnp.concatenate([w["x_embedding"], w["h_embedding"], w["b_embedding"]])
    biases = [w["x_embedding_bias"], w["h_embedding_bias"], jnp.zeros_like(w["x_embedding_bias"])]
    return {
        **w,
        "w_h": jnp.concatenate([w["w_hh"], inner_w_xh], axis=1),
        "embeddings": embeddings.transpose(1, 0, 2).reshape(embeddings.shape[1], -1),
        "embedding_bias": jnp.concatenate(biases).reshape(-1),
        "projections": jnp.concatenate([w["x_alpha"], w["h_alpha"], w["b_beta"]]),
    }


def hyper_step(products: Any, state: Any, mask: Any, w: dict[str, Any]) -> Any:
    h, c, h_hyper, c_hyper = state
    rows, units = h.shape
    h_products = h @ w["w_h"]
    inner = products[:, 4 * units :] + h_products[:, 4 * units :] + h_hyper @ w["hyper_w_hh"]
    h_hyper, c_hyper = update(
        four(normalised(inner, w["hyper_ln_all_gamma"], w["hyper_ln_all_beta"])),
        *(c_hyper, None, w["hyper_ln_c_gamma"], w["hyper_ln_c_beta"]),
    )
    codes = (h_hyper @ w["embeddings"] + w["embedding_bias"]).reshape(rows, 12, -1)
    factors = codes.transpose(1, 0, 2) @ w["projections"]
    x_scale, h_scale, shift = factors.reshape(3, 4, rows, units)

    def by_gate(values: Any) -> Any:
        return values[:, : 4 * units].reshape(rows, 4, units).transpose(1, 0, 2)

    gates = x_scale * by_gate(products) + h_scale * by_gate(h_products) + shift
    gates = norm(gates + w["bias"].reshape(4, 1, units))
    gates = gates * w["ln_all_gamma"].reshape(4, 1, units) + w["ln_all_beta"].reshape(4, 1, units)
    h, c = update(gates, c, mask, w["ln_c_gamma"], w["ln_c_beta"])
    return h, c, h_hyper, c_hyper


def to_jax(tensor: Tensor) -> Any:
    from jax import numpy as jnp

    values = jnp.asarray(tensor.detach().cpu().float().numpy())
    return values.astype(jnp.bfloat16) if tensor.dtype == torch.bfloat16 else values


def to_torch(values: Any) -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(values, dtype=np.float32))


def threads_differ(device: torch.device) -> str | None:
    """Why the times of XLA and PyTorch would not be comparable here."""
    threads, cores = torch.get_num_threads(), len(usable_cores())
    if device.type == "cpu" and threads != cores:
        return f"XLA uses all {cores} cores that this process may use, PyTorch {threads} threads"
    return None


def _missing(device: torch.device) -> str | None:
    absent = not_installed("jax")(device) or threads_differ(device)
    if absent is None and device.type == "cuda":
        import jax

        if jax.default_backend() != "gpu":
            return "this JAX has no GPU"
    return absent


JAX = Peer(
    "JAX lax.scan",
    {name: name for name in OPS},
    _build,
    missing=_missing,
    is_core=False,
    in_quick=False,
)
