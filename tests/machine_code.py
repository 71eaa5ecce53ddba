"""Triton kernels compiled with no GPU present, and what their machine code takes of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# What GPUTarget takes: A100, H100, B200, RTX 50; MI300.
TARGETS: dict[str, tuple[str, int | str, int]] = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "sm_120": ("cuda", 120, 32),
    "gfx942": ("hip", "gfx942", 64),
}


class Resources(NamedTuple):
    """Of one thread, and of one program.

    Attributes:
        registers: of a thread (AMD: vector registers).
        spills: bytes of a thread's stack and local memory (AMD: of its scratch, and the number of
            registers that were spilled anywhere).
        shared_bytes: shared memory of a program.
    """

    registers: int
    spills: int
    shared_bytes: int


def missing(what: str) -> None:
    """A developer may lack it; the project's own CI has it."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def find_cuobjdump() -> Path:
    triton = find_spec("triton")
    folders = [] if triton is None else map(Path, triton.submodule_search_locations or [])
    bundled = [folder / "backends" / "nvidia" / "bin" for folder in folders]
    path = os.pathsep.join([*map(str, bundled), os.environ.get("PATH", "")])
    found = shutil.which("cuobjdump", path=path)
    if found is None:
        missing("there is no cuobjdump, which comes with CUDA and with Triton")
    assert found is not None
    return Path(found)


def compile_kernel(
    kernel: Any,
    pointers: Mapping[str, str],
    constants: Mapping[str, Any],
    target: str,
    warps: int,
    folder: Path,
) -> Resources:
    """Compile a kernel whose only other argument is `rows`, int32.

    Args:
        pointers: names of the pointer arguments, in order, with the types that they point at.
        constants: the values of the tl.constexpr arguments.
        target: a name in TARGETS.
        folder: for the compiler's output.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: f"*{to}" for name, to in pointers.items()}
    signature |= {"rows": "i32", **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(kernel, signature, dict(constants))
    compiled = triton.compile(source, GPUTarget(*TARGETS[target]), {"num_warps": warps})
    if target.startswith("gfx"):
        return _amd_resources(compiled.asm["amdgcn"], compiled.metadata.shared)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    return _nvidia_resources(cubin, compiled.metadata.shared)


def _nvidia_resources(cubin: Path, shared_bytes: int) -> Resources:
    command = [find_cuobjdump(), "-res-usage", cubin]
    result = subprocess.run(command, text=True, capture_output=True, check=True)
    text = result.stdout + result.stderr
    ((registers, stack, local),) = re.findall(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", text)
    return Resources(int(registers), int(stack) + int(local), shared_bytes)


def _amd_resources(assembly: str, shared_bytes: int) -> Resources:
    """From the kernel's metadata, which the assembler's text ends with."""

    def number(name: str) -> int:
        (found,) = re.findall(rf"^ +\.{name}: +(\d+)$", assembly, re.MULTILINE)
        return int(found)

    names = ("private_segment_fixed_size", "vgpr_spill_count", "sgpr_spill_count")
    return Resources(number("vgpr_count"), sum(map(number, names)), shared_bytes)
