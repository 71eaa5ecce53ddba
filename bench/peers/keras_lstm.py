"""Keras 3 on TensorFlow: `keras.layers.LSTM` in a compiled function; z concatenated to x.

Its `recurrent_dropout` drops what the gates read, which is another function, so it runs without.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from layers import Inputs, Pass
from torch import Tensor

from peers import Peer, Running, not_installed
from peers.eager import torch_gates


def _build(op: str, inputs: Inputs, keep_prob: float) -> Running:
    tf, keras = _import()
    w_xh, w_hh, bias = (weight.detach().cpu() for weight in inputs.weights)
    units = len(w_hh)
    layer = keras.layers.LSTM(units, return_sequences=True, unit_forget_bias=False)
    layer.build((inputs.x.shape[1], inputs.x.shape[0], len(w_xh)))
    # Keras has torch's order of the gates: i, f, j, o; the forget bias becomes part of the bias.
    forget = torch.zeros(4 * units)
    forget[units : 2 * units] = 1.0
    layer.set_weights(
        [
            torch_gates(w_xh).numpy(),
            torch_gates(w_hh).numpy(),
            (torch_gates(bias) + forget).numpy(),
        ]
    )

    def tensor(of: Tensor) -> Any:
        return tf.constant(of.detach().cpu().numpy())

    x, grad_hidden = (tensor(part.transpose(0, 1)) for part in (inputs.x, inputs.grad_hidden))
    static, *state = (tensor(part) for part in (inputs.static, *inputs.state))
    weights = layer.trainable_weights

    @tf.function(jit_compile=False)
    def run_pass() -> Any:
        with tf.GradientTape() as tape:
            tape.watch([static, *state])
            steps = tf.shape(x)[1]
            z = tf.tile(static[:, None], [1, steps, 1])
            hidden = layer(tf.concat([x, z], axis=-1), initial_state=state)
        trained = [static, *(weight.value for weight in weights), *state]
        return hidden, tape.gradient(hidden, trained, output_gradients=grad_hidden)

    def run() -> Any:
        hidden, gradients = run_pass()
        hidden.numpy()  # waits
        return hidden, gradients

    def as_ours() -> Pass:
        hidden, (grad_static, *rest) = run()
        grads = [torch.from_numpy(part.numpy()) for part in rest]
        ordered = (*map(torch_gates, grads[:3]), *grads[3:])
        return (
            torch.from_numpy(hidden.numpy()).transpose(0, 1),
            (torch.from_numpy(grad_static.numpy()), *ordered),
        )

    return Running(run, as_ours)


def _import() -> tuple[Any, Any]:
    """TensorFlow and Keras, with PyTorch's number of threads where it can still be set."""
    if importlib.util.find_spec("triton"):  # loaded after TensorFlow, it aborts the process
        importlib.import_module("triton")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    return tf, keras


def _missing(device: torch.device) -> str | None:
    absent = not_installed("keras", "tensorflow")(device)
    if absent is None and device.type == "cuda":
        tf, _ = _import()
        if not tf.config.list_physical_devices("GPU"):
            return "this TensorFlow has no GPU"
    return absent


KERAS = Peer(
    "Keras LSTM on TensorFlow",
    {"lstm": "lstm"},
    _build,
    has_dropout=False,
    missing=_missing,
    is_core=False,
    in_quick=False,
)
