"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

README = Path(__file__).parents[1] / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_shows_python() -> None:
    assert len(python_blocks()) == 2


@pytest.mark.parametrize("index", [0, 1])
def test_every_example_of_the_readme_runs(index: int) -> None:
    strokes = torch.zeros(4, 11, 5)
    strokes[:, :, 2] = 1
    names: dict[str, Any] = {"strokes": strokes, "lengths": torch.full((4,), 10)}
    block = python_blocks()[index]
    # The example draws a hundred sketches of an untrained model; a few show the same.
    exec(block.replace("count=100", "count=2"), names)
    if "layer" in names:
        assert names["hidden"].shape == (40, 16, 256)
        assert all(parameter.grad is not None for parameter in names["layer"].parameters())
    else:
        assert len(names["sketches"]) == 2


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (README.parent / link).exists(), link
