"""The notebook runs from top to bottom, and is the one that its source makes."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SECTIONS = (
    *("Train", "Load", "Encode and decode", "Interpolate in a grid", "Temperature"),
    *("Complete a half-drawn sketch", "Latent arithmetic", "Unconditional generation"),
)


@pytest.fixture(scope="module")
def notebook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebook", EXAMPLES / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_notebook_is_made_from_its_source(notebook: ModuleType) -> None:
    committed = nbformat.read(EXAMPLES / "sketch_rnn.ipynb", as_version=4)
    nbformat.validate(committed)
    made = notebook.build()
    kinds_and_texts = [
        [(cell.cell_type, cell.source) for cell in one.cells] for one in (committed, made)
    ]
    assert kinds_and_texts[0] == kinds_and_texts[1]
    assert len(pictures(committed)) == 10
    assert not any("/tmp/" in str(cell.get("outputs")) for cell in committed.cells)


def test_the_notebook_runs_from_top_to_bottom_in_under_three_minutes(
    notebook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where it trains
    start = time.perf_counter()
    done = notebook.run(notebook.build())
    assert time.perf_counter() - start < 180
    drawn = pictures(done)
    assert len(drawn) == 10
    assert all(picture.count("<path") > 0 for picture in drawn)
    text = "\n".join(cell.source for cell in done.cells if cell.cell_type == "markdown")
    for section in SECTIONS:
        assert f"## {section}" in text


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    """The SVG pictures in a notebook's outputs."""
    return [
        output.data["image/svg+xml"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/svg+xml" in output.get("data", {})
    ]
