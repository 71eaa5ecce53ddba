"""Suite `startup`: how long the package takes to import and the command line to answer.

Each sample is a new Python process; the peer is `import torch` (for the help: `import typer`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from plan import Plan
from records import Record, record

SUITE = "startup"
USE = "import sketchrnn_fast; sketchrnn_fast.SketchRNN; sketchrnn_fast.nn.LayerNormLSTM"
CASES = (("package", "torch"), ("package and model", "torch"), ("help", "typer"))


def python(*arguments: str) -> None:
    """A new Python with this process's package, installed or not."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


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
