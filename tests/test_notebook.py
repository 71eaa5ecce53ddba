"""The notebook runs from top to bottom, and is the one that its source makes."""

from __future__ import annotations

import importlib.util
import resource
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
    assert (len(pictures(committed, "svg+xml")), len(pictures(committed, "png"))) == (9, 1)
    assert not any("/tmp/" in str(cell.get("outputs")) for cell in committed.cells)


def test_the_notebook_runs_from_top_to_bottom_in_under_three_minutes(
    notebook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where it trains
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = notebook.run(notebook.build())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of one processor: a busy machine takes longer, and says nothing of the notebook.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 180
    drawn = pictures(done, "svg+xml")
    assert (len(drawn), len(pictures(done, "png"))) == (9, 1)
    assert all(picture.count("<path") > 0 for picture in drawn)
    text = "\n".join(cell.source for cell in done.cells if cell.cell_type == "markdown")
    for section in SECTIONS:
        assert f"## {section}" in text


def pictures(notebook: nbformat.NotebookNode, kind: str) -> list[str]:
    """The pictures of a kind in a notebook's outputs."""
    return [
        output.data[f"image/{kind}"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if f"image/{kind}" in output.get("data", {})
    ]
