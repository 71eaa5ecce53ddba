"""The reference engine of the sampler: `reference.sampler` over the reference cells.

It runs on any device. Batches follow one another, each until its last sketch has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sketchrnn_fast.ops.decoder_weights import STROKE_SIZE, DecoderWeights
from sketchrnn_fast.ops.sampler import STEPS_AT_A_TIME, Request, register
from sketchrnn_fast.reference.hyper_lstm import hyper_lstm
from sketchrnn_fast.reference.layer_norm_lstm import layer_norm_lstm
from sketchrnn_fast.reference.lstm import Options, lstm
from sketchrnn_fast.reference.sampler import Prefixes, State, walk

# Sketches that are drawn side by side unless the caller says otherwise.
BATCH = 100

_SEQUENCES: dict[str, Any] = {"lstm": lstm, "layer_norm": layer_norm_lstm, "hyper": hyper_lstm}


class ReferenceEngine:
    """An engine of `ops.sampler` in plain PyTorch."""

    steps_at_a_time: int | None = STEPS_AT_A_TIME

    def __init__(self, decoder: DecoderWeights, storage: str) -> None:
        # Copies: a model that is trained on must not change a sampler made before.
        self.decoder = rounded(decoder) if storage == "bfloat16" else decoder.map(_copy)

    @torch.no_grad()
    def begin(self, request: Request) -> ReferenceRun:
        """See `ops.sampler.Engine`; the threads are torch's, whatever `threads` says."""
        return ReferenceRun(self._steps(request, request.batch or BATCH))

    @torch.no_grad()
    def parameters(self, strokes: Tensor, z: Tensor | None, params: Tensor, threads: int) -> None:
        """See `ops.sampler.Engine`."""
        params.copy_(self._decode(strokes, z, self._start(z, strokes.shape[1]))[0])

    def _steps(self, job: Request, batch: int) -> Iterator[None]:
        """Draw all batches; one yield a step."""
        for first in range(0, len(job.seeds), batch):
            rows = slice(first, first + batch)
            z = None if job.z is None else job.z[rows]

            def step(stroke: Tensor, state: State | None, z: Tensor | None = z) -> Any:
                assert state is not None
                params, state = self._decode(stroke[None], z, state)
                return params[0], state

            seeds = job.seeds[rows]
            start = self._start(z, len(seeds))
            dtype, given = self.decoder.head[0].dtype, _prefixes(job, rows)
            strokes = walk(step, start, seeds, job.limit, job.temperature, dtype, given)
            for t, (stroke, ended) in enumerate(strokes):
                is_drawn = ~ended & (given.lengths <= t)
                point = stroke[:, [0, 1, 3]].to(job.points.dtype)
                job.points[rows, t] = torch.where(is_drawn[:, None], point, job.points[rows, t])
                job.lengths[rows] += is_drawn
                job.ended[rows] = ended
                yield

    def _decode(
        self, strokes: Tensor, z: Tensor | None, state: State
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Raw parameters [T, B, 6K+3] and the final state from strokes [T, B, 5]."""
        decoder = self.decoder
        options = Options(forget_bias=decoder.forget_bias)
        sequence = _SEQUENCES[decoder.cell]
        hidden, state, _ = sequence(strokes, z, decoder.weights, state, options=options)
        weight, bias = decoder.head
        return hidden @ weight + bias, state

    def _start(self, z: Tensor | None, rows: int) -> State:
        """The state before the first step, each part [rows, ·]."""
        decoder = self.decoder
        if z is None or decoder.initial is None:
            zeros = decoder.head[0].new_zeros
            return tuple(zeros(rows, width) for width in decoder.state_widths)
        weight, bias = decoder.initial
        parts: State = torch.tanh(z @ weight + bias).split(decoder.state_widths, dim=-1)
        return parts


class ReferenceRun:
    """A run of `ops.sampler`: as many steps at a time as are asked for."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps = steps
        self._unfinished = True

    @torch.no_grad()
    def advance(self, steps: int | None) -> bool:
        assert steps is not None
        for _ in range(steps):
            if not self._unfinished:
                break
            self._unfinished = next(self._steps, self) is None
        return self._unfinished


def _prefixes(request: Request, rows: slice) -> Prefixes:
    """The prefixes of some sketches as stroke-5; `points` holds them already."""
    lengths = request.prefix_offsets.diff()[rows]
    dx, dy, pen = request.points[rows, : int(lengths.max())].unbind(-1)
    strokes = torch.stack([dx, dy, 1 - pen, pen, torch.zeros_like(pen)], dim=-1)
    return Prefixes(strokes.transpose(0, 1), lengths)


def rounded(decoder: DecoderWeights) -> DecoderWeights:
    """What bfloat16 storage makes of a decoder: the matrices that every step reads are rounded.

    Biases, gains, what multiplies z, the map to the initial state, and a HyperLSTM's W_x, which is
    small, stay in float32.
    """
    names = {"head weight", "w_hh", "hyper_w_hh"}
    names |= {"x_alpha", "h_alpha", "b_beta", "x_embedding", "h_embedding", "b_embedding"}
    inputs = "hyper_w_xh" if decoder.cell == "hyper" else "w_xh"

    def change(name: str, weight: Tensor) -> Tensor:
        if name in names:
            return weight.bfloat16().float()
        if name != inputs:
            return weight.clone()
        of_z = slice(STROKE_SIZE, STROKE_SIZE + decoder.z_size)
        changed = weight.bfloat16().float()
        changed[of_z] = weight[of_z]
        return changed

    return decoder.map(change)


def _copy(_: str, weight: Tensor) -> Tensor:
    return weight.clone()


register("reference", ReferenceEngine)
