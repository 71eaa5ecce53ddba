"""`mixture_density` in Triton: interpreted, compiled for GPUs that are not here, and on a GPU.

What the results must be is in test_ops_mixture_density.py, which runs on the Triton backend where
TRITON_INTERPRET=1 is set; Triton reads it when it is imported, so that takes a process of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_cases import mixture_cases
from machine_code import SHARED_LIMIT
from test_reference_mixture_density import make_rows
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast import ops
from sketchrnn_fast.reference import mixture_density as reference

# Registers of a thread, by the dtype of the arithmetic and K, up to the next 8, which is what a GPU
# hands out; versions of Triton differ by a few. A thread can have 255 before it spills.
MOST_REGISTERS = {
    ("float32", 1): 40,
    ("float32", 20): 96,
    ("float32", 33): 112,
    ("float32", 1024): 80,
    ("float64", 20): 192,
}
MOST_BACKWARD_REGISTERS = {"float32": 64, "float64": 96}
MOST_SHARED_BYTES = 512  # for sums over the warps of a program

COMPILED = [
    *((dtype, 20) for dtype in ("float64", "float32", "bfloat16", "float16")),
    *(("bfloat16", mixtures) for mixtures in (1, 33, 1024)),
]


pytestmark = pytest.mark.usefixtures("triton_installed")


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernels' module; what they compile to goes to a folder of the test's own."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from sketchrnn_fast.kernels import mixture_density

    return mixture_density


def test_every_claim_about_the_op_holds_in_tritons_interpreter(tmp_path: Path) -> None:
    tests = Path(__file__).with_name("test_ops_mixture_density.py")
    command = [sys.executable, "-m", "pytest", "-q", "-k", "triton", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(tests)],
        cwd=tmp_path,  # which -m puts into the path, where the source tree must not be
        env={**os.environ, "TRITON_INTERPRET": "1"},
        text=True,
        capture_output=True,
        timeout=300,  # a kernel that writes outside its memory may hang the process
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (passed,) = re.findall(r"^(\d+) passed(?:, \d+ deselected)? in", result.stdout, re.MULTILINE)
    assert int(passed) > 100


def test_the_kernels_have_the_constants_of_the_reference(kernels: Any) -> None:
    for name in ("LOG_EPSILON", "LEAST_LOG_SIGMA", "MOST_CORRELATION"):
        assert getattr(kernels, name).value == getattr(reference, name)


@pytest.mark.parametrize("mixtures", [1, 2, 3, 20, 32, 33, 512, 513, 5000])
def test_a_tile_holds_a_row_and_a_thread_a_few_elements(kernels: Any, mixtures: int) -> None:
    padded, rows, warps = kernels.tile(mixtures)
    assert padded // 2 < mixtures <= padded
    assert warps in (4, 8, 16)
    assert rows == 1 or rows * padded <= 4 * 32 * warps


@pytest.mark.parametrize(("dtype", "mixtures"), COMPILED)
@pytest.mark.parametrize("target", SHARED_LIMIT)
def test_it_compiles_without_a_gpu_and_spills_nothing(
    target: str, dtype: str, mixtures: int, kernels: Any
) -> None:
    compute = "float64" if dtype == "float64" else "float32"
    with_gradient, without, backward = mixture_cases(mixtures, getattr(torch, dtype), target)
    for case, most in (
        (with_gradient, MOST_REGISTERS[compute, mixtures]),
        (without, MOST_REGISTERS[compute, mixtures]),
        (backward, MOST_BACKWARD_REGISTERS[compute]),
    ):
        print(case.kernel, *case.compiled[:4])
        assert case.compiled.spills == 0
        assert case.compiled.registers <= most
        assert case.compiled.shared_bytes <= MOST_SHARED_BYTES


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str
)
@pytest.mark.parametrize("rows", [0, 1, 7, 25000])
@pytest.mark.parametrize("mixtures", [1, 3, 20, 33])
def test_on_a_gpu_it_equals_the_reference_in_float64(
    mixtures: int, rows: int, dtype: torch.dtype
) -> None:
    arguments = [tensor.cuda() for tensor in make_rows(rows, mixtures, dtype)]
    arguments[2][::3], arguments[3][::2] = 0, 0
    exact = [tensor.double() for tensor in arguments]
    hidden = arguments[2] == 0
    arguments[0][hidden, 3:] = float("nan")
    params = arguments[0].requires_grad_()
    with sketchrnn_fast.backend("triton"):
        offset, pen = ops.mixture_density(params, *arguments[1:])
    (gradient,) = torch.autograd.grad((offset + pen).sum(), params)

    expected_offset, expected_pen = reference.mixture_density(*exact)
    compute = torch.promote_types(dtype, torch.float32)
    assert offset.dtype == pen.dtype == compute
    assert gradient.dtype == dtype
    assert_close(offset, expected_offset, compute, what="offset loss")
    assert_close(pen, expected_pen, compute, what="pen loss")
    expected_gradient = reference.mixture_density_gradient(*exact)
    assert_close(gradient, expected_gradient, dtype, "gradient", what="gradient")
