"""What docs/generation.md shows works as it stands there, and so do all documented commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from drawings import polygons
from published import write_decoder
from small_models import make_model

from sketchrnn_fast.cli import app
from sketchrnn_fast.data import write_sketches

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sketches = polygons(3)
    write_sketches("drawn.npz", sketches)
    write_decoder(Path("bear.gen.json"))
    blocks = re.findall(r"```python\n(.*?)```", text(ROOT / "docs" / "generation.md"), re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {"model": make_model(), "sketches": sketches}
    exec(blocks[0], names)
    counts = {"drawn": 8, "copies": 3, "between": 6, "ideas": 4, "bolder": 6}
    assert {name: len(names[name]) for name in counts} == counts
    loaded: dict[str, Any] = {}
    exec(blocks[1], loaded)
    for found, expected in zip(loaded["sketches"], sketches, strict=True):
        np.testing.assert_array_equal(found, expected)
    exec(blocks[2], {})
    exec(blocks[3], names)
    assert names["params"].shape == (10, 4, 21)
    assert len(names["drawings"].sketches()) == 4


def documented() -> list[str]:
    """Every line of a code block that runs our command, continued lines joined."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```\w*\n(.*?)```", text(page), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line for line in lines if line.startswith("sketchrnn-fast ")]
    return found


@pytest.mark.parametrize("line", documented())
def test_every_documented_command_has_its_options(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = line.split()[1:]
    while hasattr(command, "commands"):  # a group, as `data` is
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0].replace("_", "-") in options


def test_every_drawing_command_is_documented() -> None:
    shown = {line.split()[1] for line in documented()}
    assert shown >= {"sample", "reconstruct", "interpolate", "complete", "sweep"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text(page)):
        assert (page.parent / link).exists(), link
