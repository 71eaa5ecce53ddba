"""The CUDA sampler with an OS thread for each CUDA thread, under sanitizers.

ThreadSanitizer must find nothing, and must find a race whenever a barrier is left out: so every
barrier is needed, and a missing one would be noticed.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from cuda_on_cpu.decoders import CELLS, HERE, ROOT, compile_shim

PLACES = [("lstm", 1), ("lstm", 0), ("layer_norm", 1), ("layer_norm", 0), ("hyper", 0)]
RACE = 66

_ENUM = re.search(
    r"enum class Barrier \{(.*?)kCount", (ROOT / "csrc/cuda/barriers.cuh").read_text(), re.DOTALL
)
assert _ENUM is not None
BARRIERS = re.findall(r"^\s*(k\w+),", _ENUM[1], re.MULTILINE)
NORMS = {"kGatesMade", "kGatesJoined", "kCellMade", "kCellJoined", "kGateMomentsMade"}
HYPER = {"kHyperGateMomentsMade", "kHyperHiddenMade", "kCodesMade"}
BARRIERS_OF = {
    "lstm": [name for name in BARRIERS if name not in NORMS | HYPER],
    "layer_norm": [name for name in BARRIERS if name not in HYPER],
    "hyper": BARRIERS,
}
# Each barrier once, in the simplest cell that has it; and all that are left.
ONCE = [(next(cell for cell in CELLS if name in BARRIERS_OF[cell]), name) for name in BARRIERS]
OTHERS = [(cell, name) for cell in CELLS for name in BARRIERS_OF[cell] if (cell, name) not in ONCE]


def build(folder: Path, sanitizers: str) -> Path:
    flags = [f"-fsanitize={sanitizers}", "-DCUDA_ON_CPU_THREADS"]
    flags.append("-DSKETCHRNN_TEST_SKIP_BARRIER=cuda_on_cpu::skipped_barrier")
    return compile_shim(folder, "race", [HERE / "race.cpp"], flags)


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("thread_sanitizer"), "thread")


def run(program: Path, *words: str | int, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *map(str, words)],
        env={**os.environ, "TSAN_OPTIONS": f"halt_on_error=1 exitcode={RACE}"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
    )


def assert_race_without(race: Path, cell: str, barrier: str) -> None:
    """Within three runs: ThreadSanitizer remembers four accesses of a place and may forget one.

    Where it does, blocks that read different things may wait for each other for ever.
    """
    words = (CELLS.index(cell), int(cell != "hyper"), BARRIERS.index(barrier))
    for _ in range(3):
        try:
            result = run(race, *words, timeout=40)
        except subprocess.TimeoutExpired:
            continue
        if result.returncode == RACE and "ThreadSanitizer: data race" in result.stdout:
            return
    pytest.fail(f"no race is found without {barrier}")


def test_every_barrier_is_known(race: Path) -> None:
    assert int(run(race, "count").stdout) == len(BARRIERS)


@pytest.mark.parametrize(("cell", "resident"), PLACES)
def test_there_is_no_race(race: Path, cell: str, resident: int) -> None:
    result = run(race, CELLS.index(cell), resident)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("cell", "barrier"), ONCE)
def test_without_a_barrier_there_is_a_race(race: Path, cell: str, barrier: str) -> None:
    assert_race_without(race, cell, barrier)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "barrier"), OTHERS)
def test_every_cell_needs_its_barriers(race: Path, cell: str, barrier: str) -> None:
    assert_race_without(race, cell, barrier)


@pytest.mark.slow
def test_no_access_lies_outside_its_memory(tmp_path: Path) -> None:
    program = build(tmp_path, "address,undefined")
    for cell, resident in PLACES:
        result = run(program, CELLS.index(cell), resident)
        assert result.returncode == 0, result.stdout
