"""The CUDA sampler as it was built: its resources, its refusals, and, on a GPU, its drawings.

tests/cuda_on_cpu runs the same source on the CPU.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

import pytest
import torch
from cuda_on_cpu.decoders import (
    CELLS,
    STORAGES,
    Decoder,
    Drawn,
    Request,
    draw_by_reference,
    random_decoder,
    random_request,
)
from machine_code import find_tool
from tolerances import assert_close

from sketchrnn_fast import _native
from sketchrnn_fast.reference.sampler import Temperature

TARGETS = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
# Registers of a thread; with 512 threads a block's file holds 128 for each. The stack is the table
# by which sin and cos reduce large arguments; spilled registers would lie there too. From sm_90 on
# the system keeps 1 KiB of a block's shared memory.
MOST_REGISTERS = {"sample": 128, "pack_quads": 40}
MOST_STACK = {"sample": 40, "pack_quads": 0}
OPS = {"lstm": "lstm", "layer_norm": "layer_norm_lstm", "hyper": "hyper_lstm"}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    if "sampler" not in _native.build_report()["cuda_kernels"]:
        if os.environ.get(
            "CI"
        ):  # a developer may lack a CUDA compiler; the project's own CI has it
            pytest.fail("this build has no CUDA kernels")
        pytest.skip("this build has no CUDA kernels")


def test_it_is_built_for_every_target() -> None:
    targets = _native.build_report()["cuda_targets"]
    assert targets
    fewer = "CUDAARCHS" in os.environ or "CUDA_ARCHITECTURES" in os.environ.get("CMAKE_ARGS", "")
    if os.environ.get("CI") and not fewer:
        assert targets == [*TARGETS, "compute_120"]


def test_kernels_spill_nothing() -> None:
    result = subprocess.run(
        [find_tool("cuobjdump"), "-res-usage", _native.__file__],
        text=True,
        capture_output=True,
        check=True,
    )
    text = result.stdout + result.stderr
    usage = re.findall(
        r"arch = (sm_\d+)|Function \S*?(sample|pack_quads)I\S*:\s+REG:(\d+) STACK:(\d+) "
        r"SHARED:(\d+) LOCAL:(\d+)",
        text,
    )
    kernels: dict[str, list[str]] = {}
    target = ""
    for name, kernel, *numbers in usage:
        target = name or target
        if name:
            continue
        registers, stack, shared, local = map(int, numbers)
        where = f"{kernel} for {target}"
        assert registers <= MOST_REGISTERS[kernel], f"{where} uses {registers} registers"
        assert stack <= MOST_STACK[kernel], f"{where} uses {stack} bytes of stack"
        assert shared <= 1024, f"{where} uses static shared memory"
        assert local == 0, f"{where} uses local memory"
        kernels.setdefault(target, []).append(kernel)
    built = [name for name in _native.build_report()["cuda_targets"] if name.startswith("sm_")]
    # Three storage types; weights resident or streamed.
    assert kernels == {name: ["pack_quads"] * 3 + ["sample"] * 6 for name in built}


def native_sampler(decoder: Decoder, storage: torch.dtype, device: str) -> Any:
    def place(tensor: torch.Tensor | None) -> Any:
        return None if tensor is None else tensor.to(device)

    return _native.CudaSampler(
        OPS[decoder.cell],
        [place(weight) for weight in decoder.weights],
        decoder.forget_bias,
        place(decoder.start),
        place(decoder.start_bias),
        place(decoder.head),
        place(decoder.head_bias),
        str(storage).removeprefix("torch."),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"^the CUDA sampler finds no GPU: cudaGetDeviceCount: "):
        native_sampler(random_decoder("lstm"), torch.float32, "cpu")


def test_an_unknown_storage_is_refused() -> None:
    expected = "^cuda sampler: storage is float64; it must be float32, bfloat16 or float16$"
    with pytest.raises(ValueError, match=expected):
        native_sampler(random_decoder("lstm"), torch.float64, "cpu")


def draw_on_gpu(
    decoder: Decoder, request: Request, storage: torch.dtype, launches: int = 1, rounds: int = 0
) -> Drawn:
    sampler = native_sampler(decoder, storage, "cuda")
    stream = torch.cuda.current_stream().cuda_stream
    packed = torch.full((sampler.packed_size,), 255, dtype=torch.uint8, device="cuda")
    sampler.pack(packed, stream)
    size = sampler.workspace_size(request.count)
    workspace = torch.full((size,), 255, dtype=torch.uint8, device="cuda")
    points = torch.full((request.count, request.limit, 3), float("nan"), device="cuda")
    lengths = torch.full((request.count,), -1, dtype=torch.int64, device="cuda")
    outcomes = torch.full((request.count,), 255, dtype=torch.uint8, device="cuda")
    prefix, offsets = request.laid_prefixes()
    temperature = request.temperature
    arguments = (
        request.seeds.cuda(),
        None if request.z is None else request.z.cuda(),
        None if prefix is None else prefix.cuda(),
        None if offsets is None else offsets.cuda(),
        temperature.softmax,
        temperature.sigma,
        temperature.value == 0.0,
        points,
        lengths,
        outcomes,
        workspace,
        stream,
    )
    for launch in range(launches):
        sampler.draw(*arguments, rounds=rounds, resume=launch > 0)
    return Drawn(points.cpu().numpy(), lengths.tolist(), outcomes.tolist())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("cell", CELLS)
def test_on_a_gpu_a_drawing_goes_on_from_launch_to_launch(cell: str) -> None:
    decoder = random_decoder(cell, units=512, z_size=16)
    request = random_request(decoder, 100, 12, prefixes=True)
    whole = draw_on_gpu(decoder, request, torch.float32)
    drawn = draw_on_gpu(decoder, request, torch.float32, launches=20, rounds=5)
    assert (drawn.lengths, drawn.outcomes) == (whole.lengths, whole.outcomes)
    for row in range(request.count):
        assert (drawn.sketch(row) == whole.sketch(row)).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("temperature", [Temperature(0.8), Temperature(0.0)])
@pytest.mark.parametrize("z_size", [0, 16])
@pytest.mark.parametrize("units", [17, 512])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("cell", CELLS)
def test_on_a_gpu_it_draws_what_the_reference_draws(
    cell: str, storage: torch.dtype, units: int, z_size: int, temperature: Temperature
) -> None:
    decoder = random_decoder(cell, units=units, z_size=z_size)
    request = random_request(decoder, 100, 12, temperature, prefixes=True)
    drawn = draw_on_gpu(decoder, request, storage)
    expected = draw_by_reference(decoder.rounded(storage), request)
    assert drawn.lengths == expected.lengths
    assert drawn.outcomes == expected.outcomes
    for row in range(request.count):
        if expected.lengths[row] > 0:
            kind = "hyper" if cell == "hyper" else "value"
            found, wanted = drawn.sketch(row), expected.sketch(row)
            assert_close(found, wanted, torch.float32, kind, f"sketch {row}")
