"""Write what the recurrent Triton kernels take, as compiled, to tests/kernel_budget.json.

    python bench/budget.py                  every target, half an hour
    python bench/budget.py sm_80 sm_90      these again, the others kept

The file is a limit for `tests/test_triton_recurrent.py`: look at its difference before you commit
it. Each line is op, units, dtype, target, form and kernel, then registers of a thread and bytes of
shared memory of a program.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from kernel_cases import budget_key, compiled_cases
from machine_code import SHARED_LIMIT

FILE = Path(__file__).parents[1] / "tests" / "kernel_budget.json"
OPS = ("lstm", "layer_norm_lstm", "hyper_lstm")
SIZES = [
    (units, dtype) for units in (256, 512, 1024, 2048) for dtype in (torch.bfloat16, torch.float32)
]
SIZES += [(512, torch.float16)]


def entries(target: str) -> Iterator[tuple[str, list[int]]]:
    for units, dtype in SIZES:
        for op in OPS:
            for case in compiled_cases(op, units, dtype, target):
                kernel = case.compiled
                if kernel.spills:
                    print(f"{budget_key(case)} spills {kernel.spills} bytes a thread")
                yield budget_key(case), [kernel.registers, kernel.shared_bytes]


def text(budget: dict[str, list[int]]) -> str:
    lines = [f" {json.dumps(key)}: {json.dumps(budget[key])}" for key in sorted(budget)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    budget = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for target in sys.argv[1:] or SHARED_LIMIT:
        budget = {key: value for key, value in budget.items() if f" {target} " not in key}
        budget |= dict(entries(target))
    FILE.write_text(text(budget), encoding="utf-8")


if __name__ == "__main__":
    main()
