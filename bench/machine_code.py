"""Triton kernels compiled with no GPU present, and what their machine code takes of one.

A launcher (`kernels.lstm.forward`, …) is called with tensors that have no memory while its
kernels are replaced by something that takes notes; so what is compiled is what would be launched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

# What GPUTarget takes: A100, H100, B200, RTX 50; MI300.
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "sm_120": ("cuda", 120, 32),
    "gfx942": ("hip", "gfx942", 64),
}

# Bytes of shared memory that a program may have; the compiler does not refuse more.
SHARED_LIMIT = {
    "sm_80": 163 << 10,
    "sm_90": 227 << 10,
    "sm_100": 227 << 10,
    "sm_120": 99 << 10,
    "gfx942": 64 << 10,
}

TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
}

# As nvdisasm and the AMD assembler name what multiplies matrices.
MATRIX_INSTRUCTION = re.compile(r"\b(HMMA|HGMMA|UTCHMMA|UTCQMMA|DMMA|QGMMA|v_mfma\w*)\b")


class ToolError(Exception):
    """A tool that reads machine code is not installed."""


class Launch(NamedTuple):
    """One launch as a launcher asks for it."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)


class Compiled(NamedTuple):
    """What a compiled kernel takes.

    Attributes:
        registers: of a thread (AMD: vector registers).
        spills: bytes of a thread's stack and local memory (AMD: of its scratch, and the number of
            registers that were spilled anywhere).
        shared_bytes: shared memory of a program.
        threads: of a program.
        matrix_instructions: their number in the code.
        code: the disassembly.
    """

    registers: int
    spills: int
    shared_bytes: int
    threads: int
    matrix_instructions: int
    code: str


@contextlib.contextmanager
def recorded(*modules: Any) -> Iterator[list[Launch]]:
    """Inside the block, launches of the modules' kernels are noted instead of done."""
    from triton.runtime.jit import KernelInterface

    notes: list[Launch] = []
    kernels = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, KernelInterface)
    }.values()

    def recorder(kernel: Any) -> Any:
        def run(*arguments: Any, grid: Any, warmup: bool, **keywords: Any) -> None:
            notes.append(Launch(kernel, grid, arguments, keywords))

        return run

    for kernel in kernels:
        kernel.run = recorder(kernel)
    try:
        yield notes
    finally:
        for kernel in kernels:
            del kernel.run


def compile_launch(launch: Launch, target: str) -> Compiled:
    """Compile what a launch asks for, for a target of TARGETS, with Triton's own specialisation."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    parameters = launch.kernel.params
    keywords = dict(launch.keywords)
    values = dict(zip((p.name for p in parameters), launch.arguments, strict=False))
    values |= {p.name: keywords.pop(p.name) for p in parameters if p.name in keywords}
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(parameters):
        value = values[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{TYPES[value.dtype]}"
            attributes[(index,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        elif value == 1 and not parameter.do_not_specialize:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    gpu = GPUTarget(*TARGETS[target])
    compiled = triton.compile(source, gpu, keywords)
    threads = gpu.warp_size * compiled.metadata.num_warps
    if target.startswith("gfx"):
        return _amd(compiled.asm["amdgcn"], compiled.metadata.shared, threads)
    return _nvidia(compiled.asm["cubin"], compiled.metadata.shared, threads)


def _nvidia(cubin: bytes, shared_bytes: int, threads: int) -> Compiled:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage = _output(find_tool("cuobjdump"), "-res-usage", str(file))
        code = _output(find_tool("nvdisasm"), "-hex", "-c", str(file))
    ((registers, stack, local),) = re.findall(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    matrix = len(MATRIX_INSTRUCTION.findall(code))
    return Compiled(int(registers), int(stack) + int(local), shared_bytes, threads, matrix, code)


def _amd(code: str, shared_bytes: int, threads: int) -> Compiled:
    """From the kernel's metadata, which the assembler's text ends with."""

    def number(name: str) -> int:
        (found,) = re.findall(rf"^ +\.{name}: +(\d+)$", code, re.MULTILINE)
        return int(found)

    names = ("private_segment_fixed_size", "vgpr_spill_count", "sgpr_spill_count")
    matrix = len(MATRIX_INSTRUCTION.findall(code))
    spills = sum(map(number, names))
    return Compiled(number("vgpr_count"), spills, shared_bytes, threads, matrix, code)


def _output(*command: str) -> str:
    result = subprocess.run(command, text=True, capture_output=True, check=True)
    return result.stdout + result.stderr


def find_tool(name: str) -> str:
    """Triton brings cuobjdump and nvdisasm; a CUDA toolkit has them too."""
    triton = find_spec("triton")
    folders = [] if triton is None else map(Path, triton.submodule_search_locations or [])
    bundled = [folder / "backends" / "nvidia" / "bin" for folder in folders]
    path = os.pathsep.join([*map(str, bundled), os.environ.get("PATH", "")])
    found = shutil.which(name, path=path)
    if found is None:
        raise ToolError(f"there is no {name}, which comes with CUDA and with Triton")
    return found


class Chip(NamedTuple):
    """Of one multiprocessor.

    Attributes:
        registers: 32-bit ones.
        threads: that can be resident.
        shared_bytes: shared memory for all programs.
        register_unit: registers of a thread are handed out in multiples of this.
    """

    registers: int
    threads: int
    shared_bytes: int
    register_unit: int


# CUDA's programming guide (compute capabilities); AMD's CDNA 3 instruction set, four SIMDs
# together.
CHIPS = {
    "sm_80": Chip(65536, 2048, 164 << 10, 8),
    "sm_90": Chip(65536, 2048, 228 << 10, 8),
    "sm_100": Chip(65536, 2048, 228 << 10, 8),
    "sm_120": Chip(65536, 1536, 100 << 10, 8),
    "gfx942": Chip(4 * 512 * 64, 2048, 64 << 10, 8),
}


def programs_at_once(kernel: Compiled, target: str) -> int:
    """How many programs a multiprocessor holds, by calculation."""
    chip = CHIPS[target]
    of_thread = -(-max(kernel.registers, 1) // chip.register_unit) * chip.register_unit
    by_registers = chip.registers // (of_thread * kernel.threads)
    by_shared = chip.shared_bytes // max(kernel.shared_bytes, 1)
    return min(by_registers, chip.threads // kernel.threads, by_shared, 32)


_INSTRUCTION = re.compile(
    r"/\*([0-9a-f]+)\*/\s+(.*?);\s+/\* 0x([0-9a-f]{16}) \*/\s+/\* 0x([0-9a-f]{16}) \*/"
)


def issue_cycles(kernel: Compiled) -> int | None:
    """The stall counts of all instructions of a warp, summed, each loop's body once.

    Since Volta an instruction's encoding says how many cycles its warp waits before the next one
    (bits 105 to 108). The sum knows nothing of latencies: not of memory's, nor of those that a warp
    waits for by scoreboard.
    """
    stalls = [(int(high, 16) >> 41) & 0xF for *_, high in _INSTRUCTION.findall(kernel.code)]
    return sum(stalls) if stalls else None
