"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# The tensors here are tiny, and on a busy machine threads that wait for each other cost a hundred
# times more than they bring. A test of threads sets their number itself.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder of data and golden files, which a stranger's clone lacks."""
    named = os.environ.get("SKETCHRNN_FAST_SHARED")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        message = f"there is no folder {folder}; SKETCHRNN_FAST_SHARED can name another"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
