"""What the tests of `bench/` share: how a script of it is started, and a made-up environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"cpu": "a CPU", "gpu": None, "threads": 1, "torch": "2", "commit": "c"}
ENVIRONMENT |= {"cores": 2, "level": "v3", "python": "3", "load": 0.1, "time": "now"}
QUICK_SUITES = ("startup", "data", "ops", "sample", "train", "memory", "scaling", "quality")


def bench(*arguments: object, script: str = "run.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ)
