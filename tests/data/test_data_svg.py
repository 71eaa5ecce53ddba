"""SVG in: geometry as the standard says, hostile documents refused; and out: exactly."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sketchrnn_fast.data import DatasetError, svg
from sketchrnn_fast.strokes import lines_to_strokes, strokes_to_lines

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'


def lines(body: str) -> list[list[list[float]]]:
    return [line.tolist() for line in svg.read_lines(f"{HEAD}{body}</svg>".encode())]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '<path d="M1 2L3 4l1 1M5 5h3v4z"/>',
            [[[1, 2], [3, 4], [4, 5]], [[5, 5], [8, 5], [8, 9], [5, 5]]],
        ),
        ('<polyline points="0,0 1,1 2,0"/>', [[[0, 0], [1, 1], [2, 0]]]),
        ('<polygon points="0 0 1 0 1 1"/>', [[[0, 0], [1, 0], [1, 1], [0, 0]]]),
        ('<line x1="1" y1="2" x2="3px" y2="1in"/>', [[[1, 2], [3, 96]]]),
        ('<rect x="1" y="2" width="3" height="4"/>', [[[1, 2], [4, 2], [4, 6], [1, 6], [1, 2]]]),
        (
            '<g transform="translate(10,20)"><g transform="scale(2)"><path d="M0 0L1 1"/></g></g>',
            [[[10, 20], [12, 22]]],
        ),
        ('<path transform="rotate(90)" d="M0 0L1 0"/>', [[[0, 0], [0, 1]]]),
        ('<path transform="translate(5) scale(2)" d="M1 0L2 0"/>', [[[7, 0], [9, 0]]]),
        ('<path transform="matrix(1 2 3 4 5 6)" d="M1 1L0 0"/>', [[[9, 12], [5, 6]]]),
        (
            '<defs><path id="a" d="M0 0L1 1"/></defs><use xlink:href="#a" x="5" y="6"/>'
            '<use href="#a" transform="scale(3)" x="1"/>',
            [[[5, 6], [6, 7]], [[3, 0], [6, 3]]],
        ),
        ('<symbol id="s"><path d="M0 0L1 1"/></symbol><use href="#s"/>', [[[0, 0], [1, 1]]]),
        ('<svg x="2" y="3"><path d="M0 0L1 1"/></svg>', [[[2, 3], [3, 4]]]),
        (
            '<rect width="9" height="9" fill="white"/><g style="fill:#FFF"><rect width="9" '
            'height="9"/><path stroke="red" d="M1 1L2 2"/></g>',
            [[[1, 1], [2, 2]]],
        ),
        # Without fill or line, as bounding boxes are; a class may paint what attributes do not.
        (
            '<path d="M0 0h24v24z" fill="none"/><g fill="none" stroke="none"><path d="M0 0h9"/>'
            '<path stroke="red" d="M1 1L2 2"/></g><path fill="none" class="a" d="M3 3L4 4"/>',
            [[[1, 1], [2, 2]], [[3, 3], [4, 4]]],
        ),
        (
            '<g fill="None" stroke="none"><path d="M0 0h9" style="FILL:inherit"/></g>'
            '<path d="M0 0h9" style="/*x*/fill:none!important; stroke : NONE"/><path d="M1 1h1"/>',
            [[[1, 1], [2, 1]]],
        ),
        (
            '<g visibility="hidden"><path d="M0 0h9"/><path visibility="visible" d="M1 1h1"/></g>',
            [[[1, 1], [2, 1]]],
        ),
        (
            '<switch><foreignObject/><g systemLanguage="de"><path d="M0 0h9"/></g>'
            '<path d="M1 1h1"/><path d="M0 0h9"/></switch>',
            [[[1, 1], [2, 1]]],
        ),
        (
            '<path id="a" d="M1 1h1"/><g fill="none"><path id="a" d="M0 0h9"/></g>'
            '<use xmlns:o="o" o:href="#b" href="#a" xlink:href="#b"/><use href="x.svg#a"/>',
            [[[1, 1], [2, 1]], [[1, 1], [2, 1]]],
        ),
        ('<line xmlns:k="k" x2="5" k:x2="9" k:display="none"/>', [[[0, 0], [5, 0]]]),
        ('<path d="M0 0A0 5 0 0 1 10 10L20 20A0 0 0 0 1 20 20"/>', [[[0, 0], [10, 10], [20, 20]]]),
        (
            '<path d="M0 0h1v1zl2 2zz"/>',
            [[[0, 0], [1, 0], [1, 1], [0, 0]], [[0, 0], [2, 2], [0, 0]]],
        ),
        # Without a size above 0 there is nothing to see.
        (
            '<circle cx="5"/><circle r="-5"/><rect height="9"/><rect width="-5" height="9"/>'
            '<ellipse/><ellipse rx="5" ry="0"/><svg width="0" height="9"><path d="M0 0h9"/></svg>'
            '<svg width="-5" height="9" viewBox="0 0 1 1"><path d="M0 0h9"/></svg>'
            '<path d="M1 1h1"/>',
            [[[1, 1], [2, 1]]],
        ),
        ('<style>path{stroke:red}</style><path fill="none" d="M1 1L2 2"/>', [[[1, 1], [2, 2]]]),
        ('<path d="M9 9z"/>', [[[9, 9]]]),
        ('<path d="M0 0L1 0M1 0L1 1"/>', [[[0, 0], [1, 0]], [[1, 0], [1, 1]]]),
        (
            '<g display="none"><path d="M0 0L1 1"/></g><path style="display: none" d="M0 0L1 1"/>'
            '<clipPath><path d="M0 0L1 1"/></clipPath><text>x</text><path d="M4 4L5 5"/>',
            [[[4, 4], [5, 5]]],
        ),
    ],
)
def test_shapes_and_transforms_give_these_lines(body, expected):
    found = lines(body)
    assert len(found) == len(expected)
    for mine, other in zip(found, expected, strict=True):
        assert_allclose(mine, other, atol=1e-12)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # 10 x 10 into 20 x 40: the smaller scale, 2, and in the middle of the rest.
        ('<svg width="20" height="40" viewBox="0 0 10 10">LINE</svg>', [[0, 10], [2, 12]]),
        (
            '<svg x="5" y="6" width="20" height="40" viewBox="1 1 10 10" '
            'preserveAspectRatio="none">LINE</svg>',
            [[3, 2], [5, 6]],
        ),
        (
            '<svg width="20" height="40" viewBox="0 0 10 10" preserveAspectRatio="xMaxYMin  slice">'
            "LINE</svg>",
            [[-20, 0], [-16, 4]],
        ),
        (
            '<svg width="20" height="40" viewBox="0 0 10 10" preserveAspectRatio="x">LINE</svg>',
            [[0, 10], [2, 12]],
        ),
        (
            '<svg width="20" height="40" viewBox="0 0 10 10" preserveAspectRatio="defer xMinYMin '
            'meet">LINE</svg>',
            [[0, 0], [2, 2]],
        ),
        # Without sizes a viewport is as large as the one around it, here 100 x 50.
        ('<svg viewBox="0 0 10 10">LINE</svg>', [[25, 0], [30, 5]]),
        ('<svg width="50%" viewBox="0 0 50 50">LINE</svg>', [[0, 0], [1, 1]]),
        ('<svg width="20" height="20"><svg viewBox="0 0 10 10">LINE</svg></svg>', [[0, 0], [2, 2]]),
        (
            '<symbol id="s" viewBox="0 0 10 10" width="7">LINE</symbol>'
            '<use href="#s" x="3" width="20" height="20"/>',
            [[3, 0], [5, 2]],
        ),
        ('<symbol id="s" viewBox="0 0 10 10">LINE</symbol><use href="#s"/>', [[25, 0], [30, 5]]),
        ('<symbol id="s">LINE</symbol><use href="#s" width="9"/>', [[0, 0], [1, 1]]),
        ('<line x1="10%" y1="10%" x2="100%" y2="1"/>', [[10, 5], [100, 1]]),
        ('<svg x="10%" y="10%" transform="none">LINE</svg>', [[10, 5], [11, 6]]),
    ],
)
def test_view_boxes_are_fitted_as_the_standard_says(body, expected):
    body = body.replace("LINE", '<path d="M0 0L1 1"/>')
    document = f"{HEAD[:-1]} viewBox='0 0 100 50'>{body}</svg>"
    (found,) = svg.read_lines(document.encode())
    assert_allclose(found, expected, atol=1e-9)


def test_a_view_box_around_everything_that_cannot_be_read_does_not_matter():
    document = b'<svg viewBox="0 0 100% 100%"><path d="M0 0L1 2"/></svg>'
    assert_array_equal(svg.read_lines(document), [[[0, 0], [1, 2]]])


def test_where_no_size_is_known_a_view_box_keeps_its_own():
    assert lines('<svg viewBox="5 5 10 10"><path d="M5 5L6 7"/></svg>') == [[[0, 0], [1, 2]]]


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ('<path d="M0 0Q50 100 100 0"/>', lambda t: (100 * t, 200 * t * (1 - t))),
        (
            '<path d="M0 0C0 100 100 100 100 0"/>',
            lambda t: (100 * (3 * t * t - 2 * t**3), 300 * t * (1 - t)),
        ),
    ],
)
def test_curves_are_followed_closely(body, at):
    (found,) = lines(body)
    t = np.linspace(0, 1, len(found))
    assert_allclose(found, np.stack(at(t), axis=1), atol=1e-9)
    steps = np.hypot(*np.diff(np.array(found), axis=0).T)
    assert steps.max() < 1.5 * 100 / 255 * 2


def test_circles_and_arcs_are_round():
    for body in (
        '<circle cx="5" cy="6" r="20"/>',
        '<ellipse cx="5" cy="6" rx="20" ry="20"/>',
        '<ellipse cx="5" cy="6" ry="20"/>',
        '<ellipse cx="5" cy="6" rx="auto" ry="20"/>',
        '<path d="M25 6A20 20 0 0 1 5 26A20 20 0 0 1 -15 6"/>',
        '<rect x="-15" y="-14" width="40" height="40" rx="auto" ry="20"/>',
        '<rect x="-15" y="-14" width="40" height="40" rx="20"/>',
    ):
        (found,) = lines(body)
        distances = np.hypot(*(np.array(found) - [5, 6]).T)
        assert_allclose(distances, 20, rtol=2e-3)
        assert len(found) > 50


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (b"", "is no XML"),
        (b"<svg", "is no XML"),
        (b"<html/>", "is no SVG: its root is html"),
        (b"<svg/>", "draws nothing"),
        (b'<svg><path d="M0 0"/></svg>', "draws nothing"),
        (b'<svg><path d="M0 0 L nan 3"/></svg>', "has a path that cannot be read"),
        (b'<svg><path d="M0 0 L 1e300 3"/></svg>', "has coordinates outside"),
        (b'<svg><circle cx="50%" r="3"/></svg>', "has cx='50%', which cannot be read"),
        (b'<svg><rect width="x" height="3"/></svg>', "cannot be read"),
        (b'<svg><path fill="none" d="M0 0L1 1"/></svg>', "draws nothing"),
        (b'<svg><polyline points="0 0 1"/></svg>', "points are not pairs of numbers: '0 0 1'"),
        (b'<svg><polygon points="0 0 1 a"/></svg>', "points are not pairs of numbers: '0 0 1 a'"),
        (b'<svg><polygon points="' + b"1.5" * 4096 + b' x"/></svg>', "are not pairs of numbers"),
        (b'<svg><path transform="foo(1)" d="M0 0L1 1"/></svg>', "has a transform that cannot be"),
        (b'<svg><path transform="scale(a)" d="M0 0L1 1"/></svg>', "has a transform that cannot"),
        (b'<svg><path transform="scale(2" d="M0 0L1 1"/></svg>', "has a transform that cannot be"),
        (b'<svg><g transform="scale(1e)"/></svg>', "has a transform that cannot be read"),
        (b'<svg><g transform="rotate(1 2)"/></svg>', "has a transform that cannot be read"),
        (b'<svg><g transform="translate(1 2 3)"/></svg>', "has a transform that cannot be read"),
        (b'<svg><g style="transform: scale(2)"/></svg>', "has a transform in a style"),
        (b'<svg><g style="' + b" " * 4096 + b';fill:a"/></svg>', "draws nothing"),
        (b'<svg><g style="fill:' + b"a" * 4096 + b'"/></svg>', "has a style of 4101 characters"),
        ('<svg><line x2="\u0663"/></svg>'.encode(), "has x2='\u0663', which cannot be read"),
        (b'<svg><svg viewBox="0 0 1e999 9"/></svg>', "has the viewBox '0 0 1e999 9'"),
        (b'<svg><svg viewBox="0 0 1"/></svg>', "has the viewBox '0 0 1'; it is x, y, width and"),
        (b'<svg><svg viewBox="0 0 0 9"/></svg>', "has the viewBox '0 0 0 9'; it is x, y, width"),
        (b'<?xml version="1.0" encoding="no-such"?><svg/>', "in an encoding that cannot be read"),
        (b"<svg>" * 200 + b"</svg>" * 200, "nested more than 100 deep"),
        (b"<svg>" + b"<g/>" * 60_000 + b"</svg>", "has more than 50000 elements"),
        (b'<svg><g id="a"><use href="#a"/></g></svg>', "a use element that uses itself"),
        (b"<svg>" + b" " * (1 << 22) + b"</svg>", "is larger than 4194304 bytes"),
    ],
)
def test_what_is_no_drawing_is_refused_in_one_sentence(document, sentence):
    with pytest.raises(DatasetError) as error:
        svg.read_lines(document)
    assert sentence in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_whatever_their_encoding(encoding):
    entities = "".join(f'<!ENTITY e{k + 1} "{f"&e{k};" * 10}">' for k in range(9))
    bomb = f'<!DOCTYPE svg [<!ENTITY e0 "boom">{entities}]><svg><text>&e9;</text></svg>'
    outside = '<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg><text>&e;</text></svg>'
    for document in (bomb, outside):
        with pytest.raises(DatasetError, match="declares the entity"):
            svg.read_lines(document.encode(encoding))


def test_a_bomb_of_use_elements_is_refused_in_a_moment():
    groups = "".join(f'<g id="g{k + 1}">' + f'<use href="#g{k}"/>' * 10 + "</g>" for k in range(12))
    started = time.process_time()
    with pytest.raises(DatasetError, match="becomes more than 50000 elements"):
        lines(f'<defs><path id="g0" d="M0 0L1 1"/>{groups}</defs><use href="#g12"/>')
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "body",
    [
        '<path d="M0 0' + "l1 1z" * 30_000 + '"/>',
        '<path d="M0 0' + "z" * 200_000 + 'l1 1"/>',
        '<path id="a" d="M0 0h1' + "zM0 0" * 2000 + '"/>' + '<use href="#a"/>' * 2000,
        '<rect width="' + "1" * 200_000 + 'x" height="9"/>',
        '<rect width="' + "0" * 4000 + '1" height="9"/>',
        '<rect width="1' + " " * 4000 + 'x" height="9"/>',
        '<path transform="' + "scale(1) " * 400 + '" d="M0 0h1"/>',
        '<polyline points="' + " " * 400_000 + 'x"/>',
        '<path style="' + "/*" * 2000 + '" d="M0 0h1"/>',
    ],
)
def test_what_is_long_is_read_or_refused_in_a_moment(body):
    started = time.process_time()
    with contextlib.suppress(DatasetError):
        lines(body)
    assert time.process_time() - started < 10


number = st.one_of(
    st.integers(-1000, 1000), st.floats(-1000, 1000).map(lambda value: round(value, 3))
)
rows = st.lists(st.tuples(number, number, st.integers(0, 1)), min_size=1, max_size=12)


@given(rows)
def test_a_sketch_comes_back_from_svg_to_the_last_digit(found):
    sketch = np.array([*found[:-1], (*found[-1][:2], 1)], np.float64)
    back = svg.read_lines(svg.sketch_to_svg(sketch).encode())
    expected = strokes_to_lines(sketch)
    assert len(back) == len(expected)
    for mine, other in zip(back, expected, strict=True):
        assert_array_equal(mine, other)
    whole = np.rint(sketch)
    back = lines_to_strokes(svg.read_lines(svg.sketch_to_svg(whole).encode()))
    assert_array_equal(back, whole)


def test_files_that_are_no_drawing_are_named_and_the_others_read(tmp_path):
    for name, text in (("a", HEAD + '<path d="M1 1L2 2"/></svg>'), ("b", "no"), ("c", HEAD)):
        (tmp_path / f"{name}.svg").write_text(text)
    paths = sorted(tmp_path.glob("*.svg"))
    chunk = svg.read([*paths, tmp_path / "none.svg"], ["x"] * 4)
    assert chunk.places.tolist() == [0]
    assert [problem.record for problem in chunk.problems] == [1, 2, 3]
    assert "cannot be read: No such file" in chunk.problems[2].what
