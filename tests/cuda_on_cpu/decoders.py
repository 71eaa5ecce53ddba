"""Random decoders, what the reference draws with them, and the CUDA sampler on the CPU."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sketchrnn_fast.reference.hyper_lstm import HyperLSTMWeights, hyper_lstm
from sketchrnn_fast.reference.layer_norm_lstm import LayerNormLSTMWeights, layer_norm_lstm
from sketchrnn_fast.reference.lstm import LSTMWeights, Options, lstm
from sketchrnn_fast.reference.sampler import START_TOKEN, Temperature, draw

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SHIM = HERE / "shim"
SOURCES = [
    SHIM / "cuda_on_cpu.cpp",
    HERE / "draw.cpp",
    ROOT / "csrc" / "cuda" / "decoder.cpp",
    ROOT / "csrc" / "cuda" / "sampler_call.cpp",
]
INPUTS = 5
CELLS = ("lstm", "layer_norm", "hyper")
STORAGES = (torch.float32, torch.bfloat16, torch.float16)
WEIGHTS = {"lstm": LSTMWeights, "layer_norm": LayerNormLSTMWeights, "hyper": HyperLSTMWeights}
OPS: dict[str, Any] = {"lstm": lstm, "layer_norm": layer_norm_lstm, "hyper": hyper_lstm}
LIMIT, ENDED, FAILED = 0, 1, 2
UNKNOWN = 255


@dataclass
class Decoder:
    """A decoder's weights in float32, in the layout of the op, and its sizes."""

    cell: str
    units: int
    hyper_units: int
    embedding: int
    z_size: int
    mixtures: int
    forget_bias: float
    weights: Any
    start: Tensor | None  # [Z, 2 N + 2 H]
    start_bias: Tensor | None
    head: Tensor  # [N, 6 K + 3]
    head_bias: Tensor

    @property
    def state_widths(self) -> list[int]:
        main = [self.units, self.units]
        return main + [self.hyper_units] * 2 if self.cell == "hyper" else main

    def rounded(self, storage: torch.dtype) -> Decoder:
        """With the matrices of a step as the storage type has them.

        Vectors, what is used once a sketch, and a HyperLSTM's W_x stay as they are.
        """

        def round_matrix(name: str, weight: Tensor) -> Tensor:
            vector = weight.dim() == 1 or name.endswith("embedding_bias")
            if vector or (name == "w_xh" and self.cell == "hyper"):
                return weight
            rounded = weight.to(storage).float()
            if name in ("w_xh", "hyper_w_xh"):
                of_z = slice(INPUTS, INPUTS + self.z_size)
                rounded[of_z] = weight[of_z]
            return rounded

        weights = type(self.weights)(
            *(round_matrix(name, weight) for name, weight in self.weights._asdict().items())
        )
        return replace(self, weights=weights, head=self.head.to(storage).float())


def random_decoder(
    cell: str, units: int = 17, z_size: int = 6, mixtures: int = 3, seed: int = 0
) -> Decoder:
    """Weights of a size at which every gate matters, and sketches end after some ten points."""
    generator = torch.Generator().manual_seed(seed)
    hyper_units, embedding = (units // 2 + 1, 6) if cell == "hyper" else (0, 0)

    def matrix(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[-2] ** 0.5

    def vector(*shape: int, mean: float = 0.0) -> Tensor:
        return mean + 0.3 * torch.randn(shape, generator=generator)

    def norms(units: int) -> tuple[Tensor, ...]:
        return vector(4 * units, mean=1), vector(4 * units), vector(units, mean=1), vector(units)

    N, H, E, inputs = units, hyper_units, embedding, INPUTS + z_size
    w = [matrix(inputs, 4 * N), matrix(N, 4 * N)]
    if cell != "layer_norm":
        w.append(vector(4 * N))
    if cell != "lstm":
        w += norms(N)
    if cell == "hyper":
        w += [matrix(inputs + N, 4 * H), matrix(H, 4 * H), *norms(H)]
        scale = [matrix(4, H, E), vector(4, E, mean=1), matrix(4, E, N)]
        w += [*scale, matrix(4, H, E), vector(4, E, mean=1), matrix(4, E, N)]
        w += [matrix(4, H, E), matrix(4, E, N)]
    head_bias = vector(6 * mixtures + 3)
    head_bias[2] -= 2.0
    conditional = z_size > 0
    return Decoder(
        cell,
        units,
        hyper_units,
        embedding,
        z_size,
        mixtures,
        0.7,
        WEIGHTS[cell](*w),
        matrix(z_size, 2 * N + 2 * H) if conditional else None,
        vector(2 * N + 2 * H) if conditional else None,
        matrix(N, 6 * mixtures + 3),
        head_bias,
    )


@dataclass
class Request:
    """What to draw; prefixes are stroke-3, one a sketch."""

    seeds: Tensor
    z: Tensor | None
    limit: int
    temperature: Temperature = Temperature(0.8)
    prefixes: Sequence[Tensor] | None = None

    @property
    def count(self) -> int:
        return len(self.seeds)

    def laid_prefixes(self) -> tuple[Tensor | None, Tensor | None]:
        """All prefixes laid end to end [P, 3], and where each begins, int64 [count + 1]."""
        if self.prefixes is None:
            return None, None
        ends = torch.tensor([len(strokes) for strokes in self.prefixes]).cumsum(0)
        return torch.cat(list(self.prefixes)), torch.cat([ends.new_zeros(1), ends])

    def only(self, rows: Sequence[int]) -> Request:
        index = list(rows)
        return Request(
            self.seeds[index],
            None if self.z is None else self.z[index],
            self.limit,
            self.temperature,
            None if self.prefixes is None else [self.prefixes[i] for i in index],
        )


def random_request(
    decoder: Decoder,
    count: int,
    limit: int,
    temperature: Temperature = Temperature(0.8),
    prefixes: bool = False,
    seed: int = 1,
) -> Request:
    """Seeds, z and, if asked, prefixes of every length from 0 to the limit."""
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(-(2**62), 2**62, (count,), generator=generator)
    z = torch.randn((count, decoder.z_size), generator=generator) if decoder.z_size else None
    strokes = None
    if prefixes:
        strokes = []
        for i in range(count):
            stroke = torch.randn((i % (limit + 1), 3), generator=generator)
            stroke[:, 2] = (stroke[:, 2] > 0.5).float()
            strokes.append(stroke)
    return Request(seeds, z, limit, temperature, strokes)


@dataclass
class Drawn:
    """points [count, limit, 3] of which `lengths` are meant, and what became of each sketch."""

    points: np.ndarray[Any, Any]
    lengths: list[int]
    outcomes: list[int]

    def sketch(self, row: int) -> np.ndarray[Any, Any]:
        return self.points[row, : self.lengths[row]]


def draw_by_reference(decoder: Decoder, request: Request) -> Drawn:
    """Every sketch by the reference's equations in float64."""
    weights = type(decoder.weights)(*(weight.double() for weight in decoder.weights))
    count, limit = request.count, request.limit
    z = None if request.z is None else request.z.double()
    if z is None:
        state = tuple(torch.zeros(count, width).double() for width in decoder.state_widths)
    else:
        assert decoder.start is not None
        assert decoder.start_bias is not None
        start = torch.tanh(z @ decoder.start.double() + decoder.start_bias.double())
        state = start.split(decoder.state_widths, dim=-1)
    stroke = torch.tensor(START_TOKEN).double().expand(count, -1)
    points = np.zeros((count, limit, 3))
    lengths, outcomes = [limit] * count, [LIMIT] * count
    running = set(range(count))
    for t in range(limit):
        options = Options(forget_bias=decoder.forget_bias)
        _, state, _ = OPS[decoder.cell](stroke[None], z, weights, state, options=options)
        params = state[0] @ decoder.head.double() + decoder.head_bias.double()
        stroke = draw(params, request.seeds, t, request.temperature)
        for row, prefix in enumerate(request.prefixes or []):
            if t < len(prefix):
                dx, dy, lifted = prefix[t].double()
                stroke[row] = torch.stack([dx, dy, 1 - lifted, lifted, 0 * dx])
        for row in sorted(running):
            if stroke[row, 4] == 1:
                lengths[row], outcomes[row] = t, ENDED
                running.discard(row)
            else:
                points[row, t] = stroke[row, [0, 1, 3]]
    return Drawn(points, lengths, outcomes)


class _Arguments(ctypes.Structure):
    """`DrawArguments` of draw.h."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("cell", "storage", "units", "hyper_units")),
        *((name, ctypes.c_int) for name in ("embedding", "z_size", "mixtures")),
        ("forget_bias", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("weights", "start", "start_bias")),
        *((name, ctypes.c_void_p) for name in ("head", "head_bias")),
        *((name, ctypes.c_int) for name in ("blocks", "threads", "slots", "stage_rows")),
        *((name, ctypes.c_int) for name in ("resident", "count", "limit")),
        *((name, ctypes.c_void_p) for name in ("seeds", "z", "prefix", "prefix_offsets")),
        *((name, ctypes.c_float) for name in ("softmax", "sigma")),
        ("greedy", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("points", "lengths", "outcome")),
        *((name, ctypes.c_int) for name in ("launches", "rounds")),
    ]


@dataclass
class Grid:
    """How the kernel is launched."""

    blocks: int = 3
    threads: int = 64
    slots: int = 3
    stage_rows: int = 2
    resident: bool = True  # must be false for a hyper decoder

    @classmethod
    def of(cls, cell: str, **choices: Any) -> Grid:
        """With resident weights where the cell can have them."""
        return cls(**{"resident": cell != "hyper", **choices})


class PlanArguments(ctypes.Structure):
    """`PlanArguments` of draw.h: a decoder and a GPU, and how it would draw."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("cell", "storage", "units", "hyper_units")),
        *((name, ctypes.c_int) for name in ("embedding", "z_size", "mixtures")),
        *((name, ctypes.c_int) for name in ("multiprocessors", "count")),
        ("shared_limit", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("blocks", "slots", "stage_rows", "resident")),
        *((name, ctypes.c_int64) for name in ("shared_bytes", "workspace_bytes", "packed_bytes")),
    ]


class SamplerOnCPU:
    """The kernel's source, compiled by g++ against the shim."""

    def __init__(self, folder: Path) -> None:
        self.library = ctypes.CDLL(
            str(compile_shim(folder, "libdraw.so", [], ["-fPIC", "-shared"]))
        )
        self.library.draw_on_cpu.restype = None
        self.library.plan_for_gpu.restype = ctypes.c_bool

    def draw(
        self,
        decoder: Decoder,
        request: Request,
        grid: Grid,
        storage: torch.dtype = torch.float32,
        launches: int = 1,
        rounds: int = 0,
    ) -> Drawn:
        kept: list[Tensor] = []

        def pointer(tensor: Tensor | None) -> int | None:
            if tensor is None:
                return None
            kept.append(tensor.contiguous())
            return kept[-1].data_ptr()

        weights = (ctypes.c_void_p * len(decoder.weights))(*map(pointer, decoder.weights))
        prefix, offsets = request.laid_prefixes()
        points = torch.full((request.count, request.limit, 3), float("nan"))
        lengths = torch.full((request.count,), -1, dtype=torch.int64)
        outcomes = torch.full((request.count,), UNKNOWN, dtype=torch.uint8)
        temperature = request.temperature
        arguments = _Arguments(
            cell=CELLS.index(decoder.cell),
            storage=STORAGES.index(storage),
            units=decoder.units,
            hyper_units=decoder.hyper_units,
            embedding=decoder.embedding,
            z_size=decoder.z_size,
            mixtures=decoder.mixtures,
            forget_bias=decoder.forget_bias,
            weights=ctypes.cast(weights, ctypes.c_void_p),
            start=pointer(decoder.start),
            start_bias=pointer(decoder.start_bias),
            head=pointer(decoder.head),
            head_bias=pointer(decoder.head_bias),
            blocks=grid.blocks,
            threads=grid.threads,
            slots=grid.slots,
            stage_rows=grid.stage_rows,
            resident=grid.resident,
            count=request.count,
            limit=request.limit,
            seeds=pointer(request.seeds),
            z=pointer(request.z),
            prefix=pointer(prefix),
            prefix_offsets=pointer(offsets),
            softmax=temperature.softmax,
            sigma=temperature.sigma,
            greedy=temperature.value == 0.0,
            points=pointer(points),
            lengths=pointer(lengths),
            outcome=pointer(outcomes),
            launches=launches,
            rounds=rounds,
        )
        self.library.draw_on_cpu(ctypes.byref(arguments))
        return Drawn(points.numpy(), lengths.tolist(), outcomes.tolist())

    def plan(self, cell: str, storage: torch.dtype, **sizes: int) -> PlanArguments | None:
        """How a GPU would draw, or None where it cannot."""
        arguments = PlanArguments(cell=CELLS.index(cell), storage=STORAGES.index(storage), **sizes)
        return arguments if self.library.plan_for_gpu(ctypes.byref(arguments)) else None


def compile_shim(
    folder: Path, name: str, sources: Sequence[Path], flags: Sequence[str] = ()
) -> Path:
    """The kernel on the CPU as a program or library in `folder`."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.fail("no C++ compiler: the CUDA sampler's source cannot be checked on the CPU")
    target = folder / name
    command = [compiler, "-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    command += ["-Wno-unknown-pragmas", "-include", "cuda_on_cpu.h", f"-I{SHIM}"]
    command += [f"-I{ROOT / 'csrc'}", *flags, *map(str, [*SOURCES, *sources]), "-o", str(target)]
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout
    return target
