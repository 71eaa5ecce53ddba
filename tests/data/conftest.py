"""Where the project's real data lies (never part of it), and conversion in small pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from sketchrnn_fast.data import sources


@pytest.fixture(scope="session")
def real_data(shared: Path) -> Path:
    """The folder of real datasets."""
    return shared / "data"


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have inputs cut into pieces of a few drawings."""
    monkeypatch.setattr(sources, "BIN_BYTES", 500)
    monkeypatch.setattr(sources, "JSON_BYTES", 2000)
    monkeypatch.setattr(sources, "SVG_FILES", 7)
    monkeypatch.setattr(sources, "STORE_SKETCHES", 11)
