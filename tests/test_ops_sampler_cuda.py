"""The CUDA engine's part in Python, over a stand-in for the kernel.


The kernel itself is checked in tests/cuda_on_cpu, its bindings in tests/test_cuda_sampler.py.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from small_models import make_model

import sketchrnn_fast
from sketchrnn_fast import _native, ops
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import Drawings, Sampler, Temperature, sampler_cuda

LIMIT = 15
SEEDS = torch.arange(9)


class Kernel:
    """Draws on the CPU what `_native.CudaSampler` is to draw on a GPU, by the native engine."""

    packed_size = 8
    nan_from: int | None = None

    def __init__(self, op: str, *arguments: Any) -> None:
        *weights, storage = arguments
        self.decoder = _native.SamplerDecoder(op, *weights, storage == "bfloat16")
        self.run: _native.SamplerRun | None = None
        self.launches: list[tuple[int, bool]] = []

    def pack(self, packed: torch.Tensor, stream: int) -> None:
        assert packed.numel() == self.packed_size

    def workspace_size(self, count: int) -> int:
        return 100 * count

    def draw(self, *arguments: Any, rounds: int = 0, resume: bool = False) -> None:
        *inputs, points, lengths, outcome, workspace, stream = arguments
        assert stream == Stream.cuda_stream
        assert workspace.numel() == 100 * len(inputs[0])
        self.launches.append((rounds, resume))
        if not resume:
            ended = torch.zeros_like(outcome)
            self.ended = ended
            self.run = _native.SamplerRun(
                self.decoder, *inputs, points, lengths, ended, len(inputs[0]), 1
            )
        assert self.run is not None
        if self.nan_from is not None:
            outcome[self.nan_from] = 2
            return
        unfinished = self.run.advance(rounds or 10**6)
        outcome[:] = torch.where(self.ended == 1, 1, 255 if unfinished else 0)


class Stream:
    """A stand-in for a stream: work is done when it is asked for."""

    cuda_stream = 7

    def record_event(self) -> str:
        return "packed"

    def wait_event(self, event: str) -> None:
        assert event == "packed"


@pytest.fixture
def on_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_cuda._native, "CudaSampler", Kernel)
    monkeypatch.setattr(sampler_cuda.CudaEngine, "current_stream", lambda self: Stream())
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)


def draw(engine_type: type[Any], **arguments: Any) -> tuple[Drawings, Any]:
    """By a sampler whose engine was replaced."""
    model = make_model(dec_model="layer_norm", conditional=False)
    sampler = Sampler(model.decoder_weights(), backend="native")
    sampler.engine = engine_type(sampler.decoder, "float32")
    return sampler.draw(SEEDS, limit=LIMIT, **arguments), sampler.engine


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"temperature": Temperature(0.0)},
        {"prefixes": [np.zeros((i % 3, 3), np.float32) for i in range(9)]},
        {"cancelled": lambda: False},
    ],
)
@pytest.mark.usefixtures("on_stand_in")
def test_it_draws_what_the_kernel_leaves(arguments: dict[str, Any]) -> None:
    found, engine = draw(sampler_cuda.CudaEngine, **arguments)
    expected, _ = draw(ops.NativeEngine, **arguments)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    if "cancelled" in arguments:
        assert engine.sampler.launches == [(64, False)]
    else:
        assert engine.sampler.launches == [(0, False)]


@pytest.mark.usefixtures("on_stand_in")
def test_a_stream_goes_on_from_launch_to_launch() -> None:
    model = make_model(dec_model="lstm", conditional=False)
    sampler = Sampler(model.decoder_weights(), backend="native")
    expected = list(sampler.stream(SEEDS, limit=LIMIT))
    sampler.engine = engine = sampler_cuda.CudaEngine(sampler.decoder, "float32")
    assert list(sampler.stream(SEEDS, limit=LIMIT)) == expected
    assert engine.sampler.launches[:2] == [(1, False), (1, True)]


@pytest.mark.usefixtures("on_stand_in")
def test_a_sketch_that_failed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "nan_from", 4)
    with pytest.raises(UserError, match=r"not finite in step 0 of sketch 4$"):
        draw(sampler_cuda.CudaEngine)


@pytest.mark.usefixtures("on_stand_in")
def test_parameters_are_refused() -> None:
    _, engine = draw(sampler_cuda.CudaEngine)
    with pytest.raises(ops.BackendError, match="the cuda backend gives no parameters"):
        engine.parameters(torch.zeros(1, 1, 5), None, torch.zeros(1, 1, 21), 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_backend_says_so() -> None:
    with pytest.raises(ops.BackendError, match=r"^the cuda backend cannot run here: "):
        sketchrnn_fast.backend("cuda")
