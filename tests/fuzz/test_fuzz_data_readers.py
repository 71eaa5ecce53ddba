"""The readers of data stand up to Atheris: seconds of it in CI, ten minutes each in `check-all`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("atheris") is None and not os.environ.get("CI"):
    pytest.skip("Atheris is not installed: it is not made for this Python", allow_module_level=True)

PROGRAM = Path(__file__).with_name("data_readers.py")
TARGETS = ("bin", "json", "svg", "npz")


def fuzz(target: str, seconds: int, folder: Path) -> None:
    """Run a target; a finding fails with what libFuzzer says of it."""
    corpus = folder / "corpus"
    done = subprocess.run(
        [
            *(sys.executable, str(PROGRAM), target, f"-max_total_time={seconds}", "-max_len=8192"),
            *("-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/", str(corpus)),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    runs = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
    assert runs, done.stderr[-3000:]
    assert int(runs[0].split()[1]) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds_find_nothing(target: str, tmp_path: Path) -> None:
    fuzz(target, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_ten_minutes_find_nothing(target: str, tmp_path: Path) -> None:
    fuzz(target, 600, tmp_path)
