"""Where the project's real data lies: test data only, never part of the project."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data(shared: Path) -> Path:
    """The folder of real datasets."""
    return shared / "data"
