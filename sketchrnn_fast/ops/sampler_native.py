"""The native engine of the sampler: csrc/cpu/sampler_drawing.h, called on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import native
from sketchrnn_fast.ops.decoder_weights import CELLS, DecoderWeights
from sketchrnn_fast.ops.sampler import STEPS_AT_A_TIME, Request, register

if native.INSTALLED:
    from sketchrnn_fast import _native


class NativeEngine:
    """An engine of `ops.sampler` on the CPU.

    The weights are packed at once and never read again where they came from.
    """

    steps_at_a_time: int | None = STEPS_AT_A_TIME

    def __init__(self, decoder: DecoderWeights, storage: str) -> None:
        initial_weight, initial_bias = decoder.initial or (None, None)
        head_weight, head_bias = decoder.head
        self.decoder = _native.SamplerDecoder(
            CELLS[decoder.cell].name,
            list(decoder.weights),
            decoder.forget_bias,
            initial_weight,
            initial_bias,
            head_weight,
            head_bias,
            storage == "bfloat16",
        )

    def begin(self, request: Request) -> NativeRun:
        """See `ops.sampler.Engine`."""
        seeds, temperature, batch = request.seeds, request.temperature, request.batch
        run = _native.SamplerRun(
            self.decoder,
            seeds,
            request.z,
            request.prefix_points,
            request.prefix_offsets,
            temperature.softmax,
            temperature.sigma,
            temperature.value == 0.0,
            request.points,
            request.lengths,
            request.ended.view(torch.uint8),
            len(seeds) if batch is None else batch,
            request.threads,
        )
        return NativeRun(run)

    def parameters(self, strokes: Tensor, z: Tensor | None, params: Tensor, threads: int) -> None:
        """See `ops.sampler.Engine`."""
        _native.sampler_parameters(self.decoder, strokes, z, params, threads)

    @property
    def bytes_of_step(self) -> int:
        """Bytes of weights that a step reads."""
        return self.decoder.bytes_of_step

    def read_weights(self, times: int, threads: int) -> None:
        """Read those bytes so many times and do nothing else: the floor of a benchmark."""
        self.decoder.read_panels(threads, times)


class NativeRun:
    """A run of `ops.sampler`; the GIL is free while it draws."""

    def __init__(self, run: _native.SamplerRun) -> None:
        self.run = run

    def advance(self, steps: int | None) -> bool:
        assert steps is not None
        try:
            return self.run.advance(steps)
        except ValueError as error:
            raise UserError(str(error)) from None


if native.INSTALLED:
    register("native", NativeEngine)
