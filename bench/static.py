"""Suite `static`: what the Triton kernels take of GPUs that are not here, as compiled for them.

Nothing is run. For each kernel and target: registers and spilled bytes of a thread, shared memory,
programs that a multiprocessor holds at once (by calculation), matrix instructions in the machine
code, and the cycles that a warp needs to issue each instruction once, loops' bodies once (NVIDIA;
it knows nothing of latencies).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from kernel_cases import (
    CompiledCase,
    budget_key,
    compiled_cases,
    default_form,
    mixture_cases,
)
from machine_code import SHARED_LIMIT, ToolError, issue_cycles, programs_at_once
from plan import Plan, Record, SuiteError
from records import static

from sketchrnn_fast.ops.backends import TRITON_INSTALLED

OPS = ("lstm", "layer_norm_lstm", "hyper_lstm")
UNITS = (256, 512, 1024, 2048)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def run(plan: Plan) -> list[Record]:
    if not TRITON_INSTALLED:
        raise SuiteError("triton is not installed (pip install 'sketchrnn-fast[triton]')")
    warnings.filterwarnings("ignore", category=UserWarning, module="triton")
    try:
        return [record_of(case) for case in cases(plan)]
    except ToolError as error:
        raise SuiteError(str(error)) from None


def cases(plan: Plan) -> Iterator[CompiledCase]:
    """Everything that users run; in a quick run two kernels, in a tour two GPUs' in bfloat16."""
    targets, units, dtypes, ops = list(SHARED_LIMIT), UNITS, DTYPES, OPS
    if plan.quick:
        targets, units, dtypes, ops = ["sm_80"], (512,), DTYPES[:1], ("lstm",)
    elif not plan.full:
        targets, units, dtypes = ["sm_80", "sm_90"], (256, 512), DTYPES[:1]
    for target in targets:
        for dtype in dtypes:
            if not plan.quick:
                yield from mixture_cases(20, dtype, target)
            for op in ops:
                for width in units if dtype != torch.float16 else (512,):
                    plan.show(f"static: {op} of {width} units for {target}")
                    yield from compiled_cases(op, width, dtype, target)


def record_of(case: CompiledCase) -> Record:
    kernel, target = case.compiled, case.target
    result = static(
        budget_key(case).replace(f" {target}", ""),
        target,
        spills=kernel.spills,
        registers=kernel.registers,
        shared_bytes=kernel.shared_bytes,
    )
    result["threads"] = kernel.threads
    result["programs_at_once"] = programs_at_once(kernel, target)
    result["matrix_instructions"] = kernel.matrix_instructions
    result["issue_cycles"] = issue_cycles(kernel)
    result["default"] = case.op == "mixture_density" or case.form == default_form(
        case.op, case.units, case.dtype, target
    )
    return result
