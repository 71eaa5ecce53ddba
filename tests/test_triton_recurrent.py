"""The recurrent ops in Triton: interpreted, compiled for GPUs that are not here, and on a GPU.

What the results must be is in interpreted_recurrent.py, which runs in processes of its own: Triton
reads TRITON_INTERPRET when it is imported, and the form of the kernels comes from the environment
too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cells import VARIANTS, Cell, Variant, each_cell, make_case, run_op, run_reference
from kernel_cases import budget_key, compiled_cases, default_form
from machine_code import SHARED_LIMIT, Compiled
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast.kernels.tuning import FORM_VARIABLE, PlanError, architecture, plan_for

FORMS = ("sequence", "step", "persistent")
UNITS = (256, 512, 1024, 2048)
pytestmark = pytest.mark.usefixtures("triton_installed")
OPS = ("lstm", "layer_norm_lstm", "hyper_lstm")
GPU_SIZES = [(1, 1, 16), (17, 33, 96), (3, 100, 256), (2, 5, 512)]  # T, B, N
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def can_be(form: str, units: int, dtype: torch.dtype) -> bool:
    """Whether this machine's GPU (an A100 where there is none) has a form for so many units."""
    chip = architecture(torch.device("cuda")) if torch.cuda.is_available() else "sm_80"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FORM_VARIABLE, form)
        try:
            return plan_for("lstm", units, dtype, chip).form == form
        except PlanError:
            return False


ON_A_GPU = [
    (form, size, dtype)
    for form in FORMS
    for size in GPU_SIZES
    for dtype in DTYPES
    if can_be(form, size[2], dtype)
]
BUDGET = json.loads(Path(__file__).with_name("kernel_budget.json").read_text())
# Versions of Triton differ by a few registers; a GPU hands them out by eight.
SLACK = 8


def interpreted(form: str, marker: str, folder: Path, timeout_s: int) -> int:
    """Run the claims on a form of the kernels; gives how many passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", marker, "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, str(Path(__file__).with_name("interpreted_recurrent.py"))],
        cwd=folder,  # which -m puts into the path, where the source tree must not be
        env={**os.environ, "TRITON_INTERPRET": "1", FORM_VARIABLE: form},
        text=True,
        capture_output=True,
        timeout=timeout_s,  # a kernel that writes outside its memory may hang the process
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (passed,) = re.findall(r"^(\d+) passed.* in", result.stdout, re.MULTILINE)
    return int(passed)


@pytest.mark.parametrize("form", FORMS)
def test_every_claim_holds_in_tritons_interpreter(form: str, tmp_path: Path) -> None:
    assert interpreted(form, "not slow", tmp_path, 1500) > 60


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_large_sizes_hold_in_tritons_interpreter(form: str, tmp_path: Path) -> None:
    assert interpreted(form, "slow", tmp_path, 5400) == 36


def check_resources(key: str, kernel: Compiled, target: str, multiplies: bool) -> None:
    assert kernel.spills == 0, f"{key} spills {kernel.spills} bytes a thread"
    assert kernel.shared_bytes <= SHARED_LIMIT[target], key
    assert kernel.matrix_instructions > 0 or not multiplies, f"{key} has no matrix instruction"
    registers, shared_bytes = BUDGET[key]
    assert kernel.registers <= registers + SLACK, key
    assert kernel.shared_bytes <= shared_bytes, key


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_it_compiles_without_a_gpu_within_its_budget(
    op: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for units in (256, 512):
        # Of the HyperLSTM, whose kernels are many, the form that is taken; `slow` has the others.
        form = default_form(op, units, torch.bfloat16, target)
        forms = [form] if op == "hyper_lstm" else None
        for case in compiled_cases(op, units, torch.bfloat16, target, forms):
            check_resources(budget_key(case), case.compiled, target, case.multiplies)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("target", list(SHARED_LIMIT))
def test_every_size_that_users_run_compiles_within_its_budget(
    op: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = [(units, dtype) for units in UNITS for dtype in (torch.bfloat16, torch.float32)]
    for units, dtype in [*sizes, (512, torch.float16)]:
        for case in compiled_cases(op, units, dtype, target):
            check_resources(budget_key(case), case.compiled, target, case.multiplies)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@each_cell
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(("form", "size", "dtype"), ON_A_GPU, ids=str)
def test_on_a_gpu_it_equals_the_reference_in_float64(
    cell: Cell,
    form: str,
    variant: Variant,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    T, B, N = size
    monkeypatch.setenv(FORM_VARIABLE, form)
    case = make_case(cell, variant, T=T, B=B, N=N, H=24, E=3, dtype=dtype)
    case = case._replace(
        seed=case.seed.cuda(), lengths=None if case.lengths is None else case.lengths.cuda()
    )
    case = case.with_leaves([leaf.cuda() for leaf in case.leaves]).requiring_gradients()
    with sketchrnn_fast.backend("triton"):
        hidden, final = run_op(cell, case)
    exact = case.with_leaves([leaf.detach().double().requires_grad_() for leaf in case.leaves])
    expected, expected_final = run_reference(cell, exact)
    for part, wanted in zip([hidden, *final], [expected, *expected_final], strict=True):
        assert_close(part, wanted, dtype, cell.kind)
    generator: Any = torch.Generator(device="cpu").manual_seed(0)
    weights = [torch.randn(part.shape, generator=generator).cuda() for part in (hidden, *final)]
    loss = sum((part * w).sum() for part, w in zip((hidden, *final), weights, strict=True))
    exact_loss = sum(
        (part * w.double()).sum()
        for part, w in zip((expected, *expected_final), weights, strict=True)
    )
    grads = torch.autograd.grad(loss, case.leaves)
    wanted_grads = torch.autograd.grad(exact_loss, exact.leaves)
    for index, (grad, wanted) in enumerate(zip(grads, wanted_grads, strict=True)):
        assert_close(grad, wanted, dtype, "gradient", f"gradient of leaf {index}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@each_cell
def test_a_step_can_be_captured_in_a_cuda_graph(cell: Cell) -> None:
    """Forward and backward, replayed with another seed: the masks follow the seed's memory."""
    layer = cell.layer(3, 64, recurrent_keep_prob=0.8, **cell.sizes).cuda()
    x = torch.randn(5, 7, 3, device="cuda")
    seed = torch.tensor([1], device="cuda")

    def step() -> torch.Tensor:
        layer.zero_grad(set_to_none=False)
        hidden: torch.Tensor = layer(x, seed=seed)[0]
        hidden.square().sum().backward()
        return hidden

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    seed.fill_(2)
    graph.replay()
    found = [captured.clone(), *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]
    expected = [step(), *(p.grad for p in layer.parameters() if p.grad is not None)]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
