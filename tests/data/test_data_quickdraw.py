"""QuickDraw's .bin and .ndjson, and plain JSON lines: read exactly, and refused by name."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quickdraw_files import bin_record, ndjson_line, write_bin, write_ndjson

from sketchrnn_fast.data import DatasetError, json_lines, quickdraw_bin
from sketchrnn_fast.data.ragged import Lines
from sketchrnn_fast.data.simplification import Simplification

byte = st.integers(0, 255)
line = st.lists(st.tuples(byte, byte), min_size=1, max_size=6).map(
    lambda points: ([x for x, _ in points], [y for _, y in points])
)
drawing = st.lists(line, min_size=1, max_size=4)


def as_lists(drawings: Lines):
    """Each drawing as lists of lines ([x, …], [y, …])."""
    lines = np.split(drawings.points, np.cumsum(drawings.line_lengths)[:-1])
    ends = np.cumsum(drawings.line_counts)
    return [
        [(line[:, 0].tolist(), line[:, 1].tolist()) for line in lines[end - count : end]]
        for count, end in zip(drawings.line_counts, ends, strict=True)
    ]


def read_all(module, path, target=1 << 20, only_recognized=False):
    chunks = [
        module.read(path, start, stop, "cat", only_recognized)
        for start, stop in module.ranges(path, target)
    ]
    return chunks, [drawing for chunk in chunks for drawing in as_lists(chunk.drawings)]


def real_drawings(folder):
    """Real recordings, simplified: lists of drawings of bytes."""
    for file in sorted((folder / "quickdraw_raw").glob("*.ndjson")):
        drawings = Simplification()(json_lines.read(file, 0, 1 << 20, "", False).drawings)
        whole = Lines(
            np.rint(drawings.points).astype(int), drawings.line_lengths, drawings.line_counts
        )
        yield from as_lists(whole)


@pytest.mark.parametrize("target", [1, 50, 1 << 20])
@given(st.lists(drawing, min_size=1, max_size=6))
def test_both_formats_give_back_what_was_written(tmp_path_factory, target, drawings):
    folder = tmp_path_factory.mktemp("drawings")
    for module, path in (
        (quickdraw_bin, write_bin(folder / "a.bin", drawings)),
        (json_lines, write_ndjson(folder / "a.ndjson", drawings)),
    ):
        chunks, found = read_all(module, path, target)
        assert found == drawings
        assert sum(chunk.records for chunk in chunks) == len(drawings)
        assert not any(chunk.is_raw.any() or chunk.problems for chunk in chunks)


def test_real_recordings_come_back_from_both_formats(real_data, tmp_path):
    drawings = list(real_drawings(real_data))
    assert len(drawings) > 1000
    for module, path in (
        (quickdraw_bin, write_bin(tmp_path / "a.bin", drawings)),
        (json_lines, write_ndjson(tmp_path / "a.ndjson", drawings)),
    ):
        assert read_all(module, path, 10_000)[1] == drawings


def test_a_bin_file_that_ends_within_a_drawing_is_refused_wherever_it_ends(tmp_path):
    records = [bin_record([([1, 2], [3, 4]), ([5], [6])]), bin_record([([7], [8])])]
    ends = {0, len(records[0]), len(records[0]) + len(records[1])}
    content = b"".join(records)
    path = tmp_path / "a.bin"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        if length in ends:
            list(quickdraw_bin.ranges(path, 1 << 20))
            continue
        with pytest.raises(DatasetError, match=r"ends within the drawing at byte \d+; it is cut"):
            list(quickdraw_bin.ranges(path, 1 << 20))
        with pytest.raises(DatasetError, match="ends within the drawing"):
            quickdraw_bin.read(path, 0, length, "", False)


def test_a_bin_record_that_claims_gigabytes_is_refused_at_once(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(struct.pack("<Q2sbIH", 1, b"CH", 1, 0, 65_535) + b"\xff" * 1000)
    with pytest.raises(DatasetError, match="ends within the drawing at byte 0"):
        list(quickdraw_bin.ranges(path, 1 << 20))
    path.write_bytes(struct.pack("<Q2sbIH", 1, b"CH", 1, 0, 65_535) + b"\x00\x40" * (1 << 21))
    with pytest.raises(DatasetError, match="at byte 0 claims more than 1048576 bytes"):
        list(quickdraw_bin.ranges(path, 1 << 20))


def test_drawings_without_points_are_named_and_the_others_read(tmp_path):
    drawings = [[([1], [2])], [], [([], []), ([3], [4])], [([], [])]]
    for module, path in (
        (quickdraw_bin, write_bin(tmp_path / "a.bin", drawings)),
        (json_lines, write_ndjson(tmp_path / "a.ndjson", drawings)),
    ):
        (chunk,), found = read_all(module, path)
        assert found == [[([1], [2])], [([3], [4])]]
        assert chunk.places.tolist() == [0, 2]
        assert [tuple(problem) for problem in chunk.problems] == [
            (1, "has no points"),
            (3, "has no points"),
        ]


def test_unrecognized_drawings_can_be_left_out(tmp_path):
    drawings = [[([k], [k])] for k in range(4)]
    bin_path, json_path = tmp_path / "a.bin", tmp_path / "a.ndjson"
    bin_path.write_bytes(b"".join(bin_record(d, k % 2 == 0) for k, d in enumerate(drawings)))
    json_path.write_text(
        "\n".join(ndjson_line(d, recognized=k % 2 == 0) for k, d in enumerate(drawings))
    )
    for module, path in ((quickdraw_bin, bin_path), (json_lines, json_path)):
        (chunk,), found = read_all(module, path, only_recognized=True)
        assert found == [drawings[0], drawings[2]]
        assert chunk.unrecognized == 2
        assert read_all(module, path)[1] == drawings


GOOD = '{"word":"cat","drawing":[[[1,2],[3,4]]]}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("12", "has no list drawing, lines or strokes"),
        ('{"word":"cat"}', "has no list drawing, lines or strokes"),
        ('{"drawing":3}', "has no list drawing, lines or strokes"),
        ('{"drawing":[[[1],[2]]],"word":7}', "has the word 7; it must be text of one line"),
        ('{"drawing":[]}', "has no points"),
        ('{"drawing":[5]}', "has a line 0 that is not [[x, …], [y, …]]"),
        ('{"drawing":["ab"]}', "has a line 0 that is not [[x, …], [y, …]]"),
        ('{"drawing":[{"0":[1]}]}', "has a line 0 that is not [[x, …], [y, …]]"),
        ('{"drawing":[[[1]]]}', "has a line 0 that is not [[x, …], [y, …]]"),
        ('{"drawing":[[[1,2],[3]]]}', "has a line 0 of 2 x and 1 y"),
        ('{"drawing":[[[1],[2]],[["a"],[3]]]}', "has a line 1 with 'a', which is no number"),
        ('{"drawing":[[[-9223372036854775808],[3]]]}', "coordinates are within ±10000000"),
        ('{"drawing":[[[null],[3]]]}', "has a line 0 with None, which is no number"),
        ('{"drawing":[[[[1]],[[3]]]]}', "has a line 0 with [1], which is no number"),
        ('{"drawing":[[[1e300],[3]]]}', "has a line 0 with 1e+300; coordinates are within"),
        ('{"drawing":[[[99999999999999999999999],[3]]]}', "coordinates are within"),
        ('{"lines":[[[1,2]]]}', "has lines, those before it have drawing; one form a file"),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_beside_it_are_read(tmp_path, text, sentence):
    path = tmp_path / "a.ndjson"
    path.write_text(f"{GOOD}\n{text}\n\n{GOOD}")
    (chunk,), found = read_all(json_lines, path)
    assert found == [[([1, 2], [3, 4])]] * 2
    assert chunk.places.tolist() == [0, 3]
    assert [problem.record for problem in chunk.problems] == [1]
    assert sentence in chunk.problems[0].what
    path.write_text(text)
    assert read_all(json_lines, path)[1] == [] or text.startswith('{"lines"')


def test_words_are_classes_and_a_file_without_them_is_one(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_text(f'{GOOD}\n{GOOD.replace("cat", "dög")}\n{{"drawing":[[[1],[1]]]}}\n{GOOD}')
    (chunk,), _ = read_all(json_lines, path)
    assert [chunk.names[code] for code in chunk.codes] == ["cat", "dög", "cat", "cat"]
    path.write_text('{"drawing":[[[1],[1]]]}')
    chunk = json_lines.read(path, 0, 100, "stem", False)
    assert chunk.names == ("stem",)


@pytest.mark.parametrize("as_object", [True, False])
def test_stroke_3_and_stroke_5_lines_are_read_as_they_are(tmp_path, as_object):
    stroke3 = [[1, 2, 0], [3.5, -4, 1]]
    stroke5 = [[1, 2, 1, 0, 0], [3.5, -4, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]
    path = tmp_path / "a.jsonl"
    values = [{"strokes": rows} if as_object else rows for rows in (stroke3, stroke5)]
    path.write_text("\n".join(map(json.dumps, values)))
    chunk = json_lines.read(path, 0, 1 << 20, "", False)
    assert [sketch.tolist() for sketch in chunk.drawings.split()] == [stroke3, stroke3]
    assert not chunk.is_raw.any()


def test_polylines_are_recordings(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"lines": [[[1, 2], [3, 4]], [], [[5, 6]]]}\n{"lines": [[[1, 2, 3]]]}')
    (chunk,), found = read_all(json_lines, path)
    assert found == [[([1, 3], [2, 4]), ([5], [6])]]
    assert chunk.is_raw.all()
    assert "no list of rows of 2 numbers" in chunk.problems[0].what


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[1, 2, 2]], "has the pen 2 at point 0; it must be 0 or 1"),
        ([[1, 2, 1, 1, 0]], "has pens that are not one-hot"),
        ([[0, 0, 0, 0, 1]], "has no points"),
        ([[1, 2]], "no list of rows of 3 or 5 numbers"),
        ([[1, 2, 3], [1]], "no list of rows of 3 or 5 numbers"),
        ([], "has no points"),
    ],
)
def test_bad_strokes_are_named(tmp_path, rows, sentence):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"strokes": rows}))
    chunk = json_lines.read(path, 0, 1 << 20, "", False)
    assert len(chunk.drawings) == 0
    assert sentence in chunk.problems[0].what


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "MOST_LINE", 1000)
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"[" * 5000)
    with pytest.raises(DatasetError, match="is longer than 1000 bytes; a line is one drawing"):
        list(json_lines.ranges(path, 100))


def test_times_tell_recordings_from_simplified_drawings(real_data):
    file = real_data / "quickdraw_raw" / "ant.ndjson"
    assert json_lines.read(file, 0, 1 << 20, "", False).is_raw.all()


@pytest.mark.parametrize("form", ["lines", "strokes"])
def test_the_least_integer_is_beyond_bounds_too(tmp_path, form):
    rows = {"lines": [[[-(2**63), 3]]], "strokes": [[-(2**63), 3, 1]]}[form]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({form: rows}) + "\n")
    chunk = json_lines.read(path, 0, path.stat().st_size, "", False)
    assert "with numbers outside of ±10000000" in chunk.problems[0].what
