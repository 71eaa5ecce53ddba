"""Pictures: what is drawn where, and what is refused."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchrnn_fast import render

SVG = "{http://www.w3.org/2000/svg}"
CORNER = [[5, 5, 0], [10, 0, 0], [0, 10, 1]]  # right, then down
TWO_LINES = [[0, 0, 0], [10, 0, 1], [0, 10, 0], [-10, 0, 1]]
CURVES = [
    {"step": step, "split": split, "cost": 1 / step, "reconstruction": 0.5, "kl": 0.1}
    for step in (1, 2, 3)
    for split in ("train", "valid", "test")
]


def paths(document: str) -> list[str]:
    return [path.attrib["d"] for path in ET.fromstring(document).iter(f"{SVG}path")]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path)]


def pixels(path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)[:, :, 0]


def test_the_first_offset_is_a_move_and_y_points_down():
    [path] = paths(render.svg(CORNER, size=100))
    assert points(path) == [(10, 10), (90, 10), (90, 90)]


def test_a_lifted_pen_starts_a_new_line():
    [path] = paths(render.svg(TWO_LINES))
    assert path.count("M") == 2


def test_a_last_line_without_a_lift_is_drawn():
    [path] = paths(render.svg([[0, 0, 0], [1, 1, 0]]))
    assert len(points(path)) == 2


def test_a_wide_drawing_keeps_its_proportions_and_lies_in_the_middle():
    [path] = paths(render.svg([[0, 0, 0], [40, 0, 0], [0, 10, 1]], size=100))
    assert points(path) == [(10, 40), (90, 40), (90, 60)]


def test_the_background_is_white_and_the_caps_are_round():
    root = ET.fromstring(render.svg(CORNER))
    assert root.find(f"{SVG}rect").attrib["fill"] == "white"
    assert root.find(f"{SVG}g").attrib["stroke-linecap"] == "round"


def test_a_grid_goes_row_by_row():
    drawn = paths(render.svg_grid([CORNER] * 3, columns=2, cell=100))
    assert [points(path)[0] for path in drawn] == [(10, 10), (110, 10), (10, 110)]
    root = ET.fromstring(render.svg_grid([CORNER] * 3, columns=2, cell=100))
    assert root.attrib["viewBox"] == "0 0 200 200"


def test_numbers_have_two_decimals_at_most():
    [path] = paths(render.svg([[0, 0, 0], [1 / 3, 2 / 7, 0], [0.1, -1 / 9, 1]]))
    assert not re.search(r"\d\.\d{3}|\.0\b|-0\b|e", path)


@pytest.mark.parametrize("sketch", [np.zeros((0, 3)), [[3, 4, 1]], [[0, 0, 0], [0, 0, 1]]])
def test_empty_sketches_and_single_points_are_drawn_without_complaint(sketch, tmp_path):
    ET.fromstring(render.svg(sketch))
    render.png_grid([sketch], tmp_path / "one.png")


def test_a_single_point_is_a_dot_in_the_middle(tmp_path):
    [path] = paths(render.svg([[3, 4, 1]], size=100))
    assert path == "M50 50h0"
    render.png_grid([[[3, 4, 1]]], tmp_path / "dot.png", line_width=6)
    drawn = pixels(tmp_path / "dot.png")
    assert drawn[50, 50] < 0.1 < drawn[10, 10]


def test_no_sketches_make_an_empty_picture(tmp_path):
    assert paths(render.svg_grid([])) == []
    render.png_grid([], tmp_path / "none.png")


finite = st.floats(-1e6, 1e6)
sketch = st.lists(st.tuples(finite, finite, st.sampled_from([0, 1])), min_size=1, max_size=20)


@given(sketch)
def test_every_drawing_lies_within_the_margins_of_its_cell(rows):
    for path in paths(render.svg(rows, size=100)):
        for x, y in points(path):
            assert 9.99 <= x <= 90.01
            assert 9.99 <= y <= 90.01


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value, tmp_path):
    for draw in (render.svg_grid, lambda s: render.png_grid(s, tmp_path / "bad.png")):
        with pytest.raises(render.RenderError, match="sketch 1 has a value that is not finite"):
            draw([CORNER, [[value, 0, 0]]])
    assert not list(tmp_path.iterdir())


def test_a_png_shows_what_the_svg_draws(tmp_path):
    render.png_grid([CORNER, TWO_LINES], tmp_path / "grid.png", columns=2, line_width=4)
    drawn = pixels(tmp_path / "grid.png")
    assert drawn.shape == (100, 200)
    assert drawn[10, 50] < 0.1  # the upper side of the corner
    assert drawn[50, 90] < 0.1  # its right side
    assert drawn[90, 30] == 1.0  # nothing at the lower left
    assert drawn[90, 150] < 0.1  # the second line of the second drawing


def test_the_suffix_chooses_the_form(tmp_path):
    render.write_grid([CORNER], tmp_path / "grid.svg")
    render.write_grid([CORNER], tmp_path / "grid.png")
    assert (tmp_path / "grid.svg").read_text() == render.svg_grid([CORNER])
    assert (tmp_path / "grid.png").read_bytes()[1:4] == b"PNG"
    for name in ("grid.pdf", "grid"):
        with pytest.raises(render.RenderError, match=r"a picture is \.svg or \.png"):
            render.write_grid([CORNER], tmp_path / name)


def test_a_grid_without_columns_is_refused():
    with pytest.raises(render.RenderError, match="columns is 0; a grid has at least one"):
        render.svg_grid([CORNER], columns=0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_loss_curves_are_the_same_from_a_file_and_from_its_records(suffix, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("\n".join(map(json.dumps, CURVES)) + "\n")
    render.loss_curves(CURVES, tmp_path / f"records.{suffix}")
    render.loss_curves(metrics, tmp_path / f"file.{suffix}")
    # Ids in matplotlib's SVG are random, so sizes are compared there.
    made = [(tmp_path / f"{name}.{suffix}").read_bytes() for name in ("records", "file")]
    assert len(made[0]) == len(made[1]) > 1000
    assert suffix == "svg" or made[0] == made[1]


def test_metrics_that_cannot_be_drawn_are_refused_by_name(tmp_path):
    picture = tmp_path / "loss.png"
    with pytest.raises(render.RenderError, match="record 0 lacks kl"):
        render.loss_curves([{k: v for k, v in CURVES[0].items() if k != "kl"}], picture)
    with pytest.raises(render.RenderError, match="nothing to draw"):
        render.loss_curves([], picture)
    broken = tmp_path / "metrics.jsonl"
    broken.write_text("{")
    with pytest.raises(render.RenderError, match=r"metrics\.jsonl has a line that is not JSON"):
        render.loss_curves(broken, picture)
    assert not picture.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "grid.svg"
    target.write_text("old")

    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(render.os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is full"):
        render.write_grid([CORNER], target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
