"""Make sketch_rnn.ipynb from sketch_rnn.py, and run it: the pictures in it are its own.

    python examples/notebook.py examples/sketch_rnn.ipynb

`# %%` begins a cell of code, `# %% [markdown]` one of text. Needs nbformat, nbclient and ipykernel.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbclient
import nbformat

SOURCE = Path(__file__).with_name("sketch_rnn.py")
TIMEOUT = 600  # seconds for a cell


def build() -> nbformat.NotebookNode:
    """The notebook of the source, not run."""
    cells = []
    parts = re.split(r"^# %%( \[markdown\])?\n", SOURCE.read_text(encoding="utf-8"), flags=re.M)
    for number, (kind, text) in enumerate(zip(parts[1::2], parts[2::2], strict=True)):
        if kind:
            lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().split("\n")]
            cell = nbformat.v4.new_markdown_cell("\n".join(lines))
        else:
            cell = nbformat.v4.new_code_cell(text.strip())
        cell["id"] = f"cell-{number}"  # nbformat's own are random
        cells.append(cell)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Run it from top to bottom; an error of a cell is raised."""
    return nbclient.NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3").execute()


if __name__ == "__main__":
    made = run(build())
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # the times of day
    nbformat.write(made, sys.argv[1])
