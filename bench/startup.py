"""Suite `startup`: how long the package takes to import and the command line to answer.

Each sample is a new Python process; the peer is `import torch` (for the help: `import typer`).
"""

from __future__ import annotations

import subprocess
import sys

from timing import interleaved, record

REPEATS = 9


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def run() -> list[dict[str, object]]:
    use = "import sketchrnn_fast; sketchrnn_fast.SketchRNN; sketchrnn_fast.nn.LayerNormLSTM"
    seconds = interleaved(
        {
            "package": lambda: python("-c", "import sketchrnn_fast"),
            "package and model": lambda: python("-c", use),
            "torch": lambda: python("-c", "import torch"),
            "help": lambda: python("-m", "sketchrnn_fast", "--help"),
            "typer": lambda: python("-c", "import typer"),
        },
        REPEATS,
    )
    return [
        record("startup", case, f"import {peer}", seconds[case], seconds[peer])
        for case, peer in (("package", "torch"), ("package and model", "torch"), ("help", "typer"))
    ]
