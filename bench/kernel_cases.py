"""The launches of the Triton kernels for given sizes, as the ops would make them on a given
chip."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from machine_code import Compiled, Launch, compile_launch, recorded

from sketchrnn_fast.ops import triton as glue
from sketchrnn_fast.ops import triton_hyper_lstm as hyper_glue
from sketchrnn_fast.ops.backends import BackendError
from sketchrnn_fast.ops.recurrent_call import Call, ResultGradients
from sketchrnn_fast.reference.hyper_lstm import HyperLSTMWeights
from sketchrnn_fast.reference.layer_norm_lstm import LayerNormLSTMWeights
from sketchrnn_fast.reference.lstm import LSTMWeights

FORMS = ("sequence", "step", "persistent")

# Sketch-RNN's: input and static input, batch, the hyper cell and its embedding.
X, S, B, HYPER, EMBEDDING = 5, 128, 100, 256, 32


@contextmanager
def on_chip(target: str, form: str | None = None) -> Iterator[None]:
    """Inside the block plans are made for `target`, and for a form if one is named."""
    from sketchrnn_fast.kernels import tuning

    environment = dict(os.environ)
    environment.pop(tuning.FORM_VARIABLE, None)
    if form is not None:
        environment[tuning.FORM_VARIABLE] = form
    with (
        mock.patch.object(tuning, "architecture", return_value=target),
        mock.patch.dict(os.environ, environment, clear=True),
    ):
        yield


def recurrent_launches(
    op: str, units: int, dtype: torch.dtype, target: str, form: str | None = None
) -> list[Launch]:
    """Of one step with everything switched on, forward and backward, each kernel once."""
    from sketchrnn_fast.kernels import hyper_lstm, philox, sequence

    call = _call(op, units, dtype)
    with on_chip(target, form), recorded(sequence, hyper_lstm, philox) as launches:
        if op == "hyper_lstm":
            weights = HyperLSTMWeights(*call.weights)
            results = hyper_glue._forward(call, weights, save=True)
            hyper_glue._backward(call, weights, results, _gradients(results), grad_x_wanted=True)
        else:
            weights = _weights_type(op)(*call.weights)
            results = glue._forward(op, call, weights, save=True)
            glue._backward(op, call, weights, results, _gradients(results), grad_x_wanted=True)
    unique: dict[Any, Launch] = {}
    for launch in launches:
        unique.setdefault((launch.name, *sorted(launch.keywords.items())), launch)
    return list(unique.values())


class CompiledCase(NamedTuple):
    """A kernel compiled as an op would launch it."""

    op: str
    units: int  # K of the mixture density
    dtype: torch.dtype
    target: str
    form: str
    launch: Launch
    compiled: Compiled

    @property
    def _phase(self) -> str:
        """Of a HyperLSTM's kernel that has one; else empty."""
        from sketchrnn_fast.kernels.hyper_phases import PHASES

        number = self.launch.keywords.get("PHASE")
        return "" if number is None else PHASES[number - 1]

    @property
    def kernel(self) -> str:
        """Its name, with what tells it from others of that name."""
        name = self.launch.name.removesuffix("_kernel").strip("_")
        if self._phase:
            return f"{name} {self._phase}"
        if "ADD" in self.launch.keywords:
            return f"{name} {'backward' if self.launch.keywords['ADD'] else 'forward'}"
        return name

    @property
    def multiplies(self) -> bool:
        """Whether it multiplies matrices, and so must do it on the chip's units for that.

        AMD's take no float32 in the precision that is asked for here, `ieee`.
        """
        if self.target == "gfx942" and self.dtype == torch.float32:
            return False
        from sketchrnn_fast.kernels.hyper_phases import ROW_PHASES

        return self._phase not in ROW_PHASES and (
            "BLOCK_K" in self.launch.keywords or self.form == "persistent"
        )


def compiled_cases(
    op: str, units: int, dtype: torch.dtype, target: str, forms: Sequence[str] | None = None
) -> Iterator[CompiledCase]:
    """The kernels of a recurrent op in the form that it takes and in the others that it can."""
    for form in FORMS if forms is None else forms:
        try:
            launches = recurrent_launches(op, units, dtype, target, form)
        except BackendError:
            continue
        for launch in launches:
            if launch.name != "keep_bits_kernel":
                compiled = compile_launch(launch, target)
                yield CompiledCase(op, units, dtype, target, form, launch, compiled)


def default_form(op: str, units: int, dtype: torch.dtype, target: str) -> str:
    from sketchrnn_fast.kernels import tuning

    return tuning.plan_for(op, units, dtype, target).form


def mixture_cases(mixtures: int, dtype: torch.dtype, target: str) -> Iterator[CompiledCase]:
    """The kernels of the mixture density, with its gradient, without, and backward."""
    from sketchrnn_fast.kernels import mixture_density as kernels

    rows, width = 25_000, 6 * mixtures + 3

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    compute = torch.promote_types(dtype, torch.float32)
    loss, gradient = empty(rows, dtype=compute), empty(rows, width, dtype=compute)
    inputs = (empty(rows, width), empty(rows, 5), empty(rows), empty(rows))
    with recorded(kernels) as launches:
        kernels.mixture_density(*inputs, loss, loss, gradient)
        kernels.mixture_density(*inputs, loss, loss, None)
        kernels.mixture_density_backward(loss, loss, gradient, gradient)
    for launch in launches:
        compiled = compile_launch(launch, target)
        yield CompiledCase("mixture_density", mixtures, dtype, target, "", launch, compiled)


def budget_key(case: CompiledCase) -> str:
    """A line of the committed budget."""
    parts = (case.op, case.units, str(case.dtype).removeprefix("torch."), case.target, case.form)
    return " ".join(map(str, (*parts, case.kernel)))


def _weights_type(op: str) -> Any:
    return LSTMWeights if op == "lstm" else LayerNormLSTMWeights


def _gradients(results: Any) -> ResultGradients:
    return ResultGradients(
        torch.empty_like(results.hidden), [torch.empty_like(part) for part in results.final]
    )


def _call(op: str, N: int, dtype: torch.dtype) -> Call:
    """One step, on tensors without memory."""

    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    weights = [empty(X + S, 4 * N), empty(N, 4 * N)]
    state = [empty(B, N), empty(B, N, dtype=torch.float32)]
    if op == "lstm":
        weights += [empty(4 * N)]
    else:
        norms = [empty(4 * N), empty(4 * N), empty(N), empty(N)]
        weights += norms if op == "layer_norm_lstm" else [empty(4 * N), *norms]
    if op == "hyper_lstm":
        H, E = HYPER, EMBEDDING
        weights += [empty(X + S + N, 4 * H), empty(H, 4 * H)]
        weights += [empty(4 * H), empty(4 * H), empty(H), empty(H)]
        embedding = [empty(4, H, E), empty(4, E), empty(4, E, N)]
        weights += [*embedding, *embedding, empty(4, H, E), empty(4, E, N)]
        state += [empty(B, H), empty(B, H, dtype=torch.float32)]
    return Call(
        x=empty(1, B, X),
        static_input=empty(B, S),
        weights=weights,
        state=state,
        lengths=empty(B, dtype=torch.int64),
        seed=empty(1, dtype=torch.int64),
        reverse=False,
        forget_bias=1.0,
        keep_prob=0.9,
        row_offset=0,
        backend="triton",
    )
