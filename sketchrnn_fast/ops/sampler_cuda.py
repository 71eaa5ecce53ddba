"""The CUDA engine of the sampler: csrc/cuda, on the current stream of the weights' device.

Untested on a GPU, as all of `csrc/cuda` is (docs/cuda.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import native
from sketchrnn_fast.ops.backends import BackendError
from sketchrnn_fast.ops.decoder_weights import CELLS, DecoderWeights
from sketchrnn_fast.ops.sampler import Request, register

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
        stream = self.current_stream()
        packed = torch.empty(self.sampler.packed_size, dtype=torch.uint8, device=self.device)
        self.sampler.pack(packed, stream.cuda_stream)
        self.packed = stream.record_event()

    def current_stream(self) -> torch.cuda.Stream:
        return torch.cuda.current_stream(self.device)

    def begin(self, request: Request) -> CudaRun:
        """See `ops.sampler.Engine`; the GPU's size decides how many sketches are side by side."""
        return CudaRun(self, request)

    def parameters(self, strokes: Tensor, z: Tensor | None, params: Tensor, threads: int) -> None:
        """Refused: the kernel keeps its parameters to itself."""
        raise BackendError(
            "the cuda backend gives no parameters for given strokes; backend='reference' does"
        )


class CudaRun:
    """A run of `ops.sampler`; each `advance` is one launch, and waits for it.

    All of it stays on the stream that was the current one when it began.
    """

    def __init__(self, engine: CudaEngine, request: Request) -> None:
        self.engine = engine
        self.ended, self.lengths = request.ended, request.lengths
        self.stream = engine.current_stream()
        self.stream.wait_event(engine.packed)
        seeds, temperature = request.seeds, request.temperature
        self.outcome = torch.full_like(seeds, _UNKNOWN, dtype=torch.uint8)
        size = engine.sampler.workspace_size(len(seeds))
        has_prefixes = len(request.prefix_points) > 0
        self.arguments = (
            seeds,
            request.z,
            request.prefix_points if has_prefixes else None,
            request.prefix_offsets if has_prefixes else None,
            temperature.softmax,
            temperature.sigma,
            temperature.value == 0.0,
            request.points,
            request.lengths,
            self.outcome,
            torch.empty(size, dtype=torch.uint8, device=engine.device),
            self.stream.cuda_stream,
        )
        self.begun = False

    def advance(self, steps: int | None) -> bool:
        with torch.cuda.stream(self.stream):
            rounds = 0 if steps is None else steps
            self.engine.sampler.draw(*self.arguments, rounds=rounds, resume=self.begun)
            self.begun = True
            self.ended.copy_(self.outcome == _ENDED)
            failed = (self.outcome == _FAILED).nonzero()
            if len(failed):
                sketch = int(failed[0])
                raise UserError(
                    "the decoder's parameters, or an offset drawn from them, are not finite in "
                    f"step {int(self.lengths[sketch])} of sketch {sketch}"
                )
            return bool((self.outcome == _UNKNOWN).any())


if native.INSTALLED and "sampler" in _native.build_report()["cuda_kernels"]:
    register("cuda", CudaEngine)
