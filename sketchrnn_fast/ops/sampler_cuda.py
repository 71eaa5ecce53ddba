"""The CUDA engine of the sampler: csrc/cuda, on the current stream of the weights' device.

Untested on a GPU, as all of `csrc/cuda` is (docs/cuda.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import native
from sketchrnn_fast.ops.backends import BackendError
from sketchrnn_fast.ops.decoder_weights import CELLS, DecoderWeights
from sketchrnn_fast.ops.sampler import register
from sketchrnn_fast.reference.sampler import Temperature

if native.INSTALLED:
    from sketchrnn_fast import _native

_ENDED, _FAILED, _UNKNOWN = 1, 2, 255  # outcomes


class CudaEngine:
    """An engine of `ops.sampler` on a GPU: one launch draws all sketches."""

    steps_at_a_time: int | None = None  # one launch

    def __init__(self, decoder: DecoderWeights, storage: str) -> None:
        initial_weight, initial_bias = decoder.initial or (None, None)
        head_weight, head_bias = decoder.head
        self.device = head_weight.device
        self.sampler = _native.CudaSampler(
            CELLS[decoder.cell].name,
            list(decoder.weights),
            decoder.forget_bias,
            initial_weight,
            initial_bias,
            head_weight,
            head_bias,
            storage,
        )
        packed = torch.empty(self.sampler.packed_size, dtype=torch.uint8, device=self.device)
        self.sampler.pack(packed, self.stream())

    def stream(self) -> int:
        return torch.cuda.current_stream(self.device).cuda_stream

    def begin(
        self,
        seeds: Tensor,
        z: Tensor | None,
        prefix_points: Tensor,
        prefix_offsets: Tensor,
        limit: int,
        temperature: Temperature,
        points: Tensor,
        lengths: Tensor,
        ended: Tensor,
        batch: int | None,
        threads: int,
    ) -> CudaRun:
        """See `ops.sampler.Engine`; the GPU's size decides how many sketches are side by side."""
        size = self.sampler.workspace_size(len(seeds))
        outcome = torch.full_like(seeds, _UNKNOWN, dtype=torch.uint8)
        workspace = torch.empty(size, dtype=torch.uint8, device=self.device)
        has_prefixes = len(prefix_points) > 0
        arguments = _Arguments(
            seeds,
            z,
            prefix_points if has_prefixes else None,
            prefix_offsets if has_prefixes else None,
            temperature.softmax,
            temperature.sigma,
            temperature.value == 0.0,
            points,
            lengths,
            outcome,
            workspace,
        )
        return CudaRun(self, arguments, ended)

    def parameters(self, strokes: Tensor, z: Tensor | None, params: Tensor, threads: int) -> None:
        """Refused: the kernel keeps its parameters to itself."""
        raise BackendError(
            "the cuda backend gives no parameters for given strokes; backend='reference' does"
        )


class _Arguments(NamedTuple):
    """Of `CudaSampler.draw`, but for the stream; kept until the drawing is done."""

    seeds: Tensor
    z: Tensor | None
    prefix_points: Tensor | None
    prefix_offsets: Tensor | None
    softmax: float
    sigma: float
    greedy: bool
    points: Tensor
    lengths: Tensor
    outcome: Tensor
    workspace: Tensor


class CudaRun:
    """A run of `ops.sampler`; each `advance` is one launch, and waits for it."""

    def __init__(self, engine: CudaEngine, arguments: _Arguments, ended: Tensor) -> None:
        self.engine = engine
        self.arguments = arguments
        self.ended = ended
        self.begun = False

    def advance(self, steps: int | None) -> bool:
        stream = self.engine.stream()
        rounds = 0 if steps is None else steps
        self.engine.sampler.draw(*self.arguments, stream, rounds=rounds, resume=self.begun)
        self.begun = True
        outcome = self.arguments.outcome
        self.ended.copy_(outcome == _ENDED)
        failed = (outcome == _FAILED).nonzero()
        if len(failed):
            sketch = int(failed[0])
            raise UserError(
                "the decoder's parameters are not finite in step "
                f"{int(self.arguments.lengths[sketch])} of sketch {sketch}"
            )
        return bool((outcome == _UNKNOWN).any())


if native.INSTALLED and "sampler" in _native.build_report()["cuda_kernels"]:
    register("cuda", CudaEngine)
