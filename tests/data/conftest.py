"""Where the project's real data lies: test data only, never part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets; without it tests are skipped, but on CI they fail."""
    shared = Path(os.environ.get("SKETCHRNN_FAST_SHARED") or _ROOT.parent / "shared")
    folder = shared / "data"
    if not folder.is_dir():
        message = "the real datasets are not here; SKETCHRNN_FAST_SHARED names their folder"
        if os.environ.get("CI"):
            pytest.fail(f"{message} ({folder} does not exist)")
        pytest.skip(message)
    return folder
