"""The speeds and the memory that docs/data.md promises, with room for slower machines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "bench" / "large_sets.py"


@pytest.mark.slow
def test_conversion_is_fast_and_takes_little_memory(tmp_path: Path) -> None:
    found = run(tmp_path / "drawings", 60_000)
    assert found["convert drawings.bin", "drawings_per_processor_s"] >= 50_000
    assert found["convert drawings.ndjson", "drawings_per_processor_s"] >= 10_000
    assert found["load and draw batches", "start_s"] < 5
    # From about one piece of the input on, a million drawings take no more (docs/data.md).
    assert found["convert drawings.bin", "peak_mib"] < 200
    assert found["convert drawings.ndjson", "peak_mib"] < 200
    assert found["load and draw batches", "anonymous_mib"] < 60


def run(folder: Path, count: int) -> dict[tuple[str, str], float]:
    """What the benchmark prints: (what was done, name of the figure) -> figure."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), str(folder), "--drawings", str(count), "--repeats", "1"],
        check=True,
        capture_output=True,
        text=True,
    )
    figures = {}
    for line in done.stdout.splitlines():
        what, _, rest = line.partition(": ")
        for name, value in re.findall(r"(\w+) ([\d.,e+]+)(?:, |$)", rest):
            figures[what, name] = float(value.replace(",", ""))
    return figures
