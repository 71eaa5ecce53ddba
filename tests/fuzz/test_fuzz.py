"""No input that a fuzzer makes up crashes a reader, hangs it, or makes it take endless memory."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
FUZZERS = sorted(
    file.stem for file in FOLDER.glob("*.py") if file.stem not in ("fuzzing", "test_fuzz")
)


def run(name: str, seconds: int, folder: Path, *corpus: Path) -> str:
    """What a fuzzer prints; a finding fails the test, and its file is quoted."""
    if importlib.util.find_spec("atheris") is None:
        message = "atheris is not installed; it exists for Linux"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", str(seconds), *corpus],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = {file.name: file.read_bytes()[:2000] for file in folder.iterdir()}
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-3000:]}{found}"
    return done.stderr


@pytest.mark.parametrize("name", FUZZERS)
def test_a_reader_survives_seconds_of_fuzzing(name: str, tmp_path: Path) -> None:
    printed = run(name, 4, tmp_path)
    executed = int(printed.split("stat::number_of_executed_units:")[1].split()[0])
    assert executed > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", FUZZERS)
def test_a_reader_survives_ten_minutes_of_fuzzing(name: str, tmp_path: Path) -> None:
    found, corpus = tmp_path / "found", tmp_path / "corpus"
    found.mkdir()
    corpus.mkdir()
    # In parts: atheris itself takes a kilobyte more with each call of the reader of lines, which
    # 186,000 calls with the same inputs in a process without it do not.
    for _ in range(6):
        run(name, 100, found, corpus)
