"""Suite `startup`: how long the package takes to import and the command line to answer.

Each sample is a new Python process; the peer is `import torch` (for the help: `import typer`).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from environment import same_package
from plan import Plan
from records import Record, record

SUITE = "startup"
USE = "import sketchrnn_fast; sketchrnn_fast.SketchRNN; sketchrnn_fast.nn.LayerNormLSTM"
CASES = (("package", "torch"), ("package and model", "torch"), ("help", "typer"))


def python(*arguments: str) -> None:
    """A new Python with this process's package."""
    command = [sys.executable, *arguments]
    with tempfile.TemporaryDirectory() as empty:
        variables = same_package()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=variables, cwd=empty)


def run(plan: Plan) -> list[Record]:
    cases = {
        "package": lambda: python("-c", "import sketchrnn_fast"),
        "torch": lambda: python("-c", "import torch"),
        "help": lambda: python("-m", "sketchrnn_fast", "--help"),
        "typer": lambda: python("-c", "import typer"),
    }
    if not plan.quick:
        cases["package and model"] = lambda: python("-c", USE)
    seconds = plan.measure(f"{SUITE}: new processes", cases)
    return [
        record(SUITE, case, f"import {peer}", seconds[case], seconds[peer])
        for case, peer in CASES
        if case in seconds
    ]
