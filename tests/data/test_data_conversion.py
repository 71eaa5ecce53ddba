"""Conversion: any form to a dataset, exactly, resumably, the same with more processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from quickdraw_files import ndjson_line, write_bin, write_ndjson

from sketchrnn_fast.data import DatasetError, load, open_store, read_npz, sources, write_npz
from sketchrnn_fast.data import conversion as conversion_module
from sketchrnn_fast.data.arrays import encode_names
from sketchrnn_fast.data.arrays import read as read_arrays
from sketchrnn_fast.data.conversion import Options, convert
from sketchrnn_fast.data.inspection import inspect, validate
from sketchrnn_fast.data.json_lines import read as read_json
from sketchrnn_fast.data.simplification import Simplification
from sketchrnn_fast.data.splitting import SplitSizes
from sketchrnn_fast.data.svg import sketch_to_svg
from sketchrnn_fast.errors import UserError

SPLITS = ("train", "valid", "test")


def drawing(k, points=5):
    """A drawing that no other k has."""
    return [
        (
            [(7 * k + j) % 256 for j in range(points)],
            [(k // 256 + 3 * j) % 256 for j in range(points)],
        ),
        ([k % 251], [1]),
    ]


def all_sketches(path):
    """Every sketch of a store or an npz as bytes, with its class, by split."""
    if path.suffix == ".npz":
        return {
            split: [
                (sketch.tobytes(), chunk.names[code])
                for chunk in [read_arrays(path, split, "")]
                for sketch, code in zip(
                    [s.astype(np.int16) for s in chunk.drawings.split()], chunk.codes, strict=True
                )
            ]
            for split in SPLITS
        }
    store = open_store(path)
    return {
        name: [
            (
                split.points[split.offsets[k] : split.offsets[k + 1]].tobytes(),
                store.classes[split.labels[k]],
            )
            for k in range(len(split))
        ]
        for name, split in store.splits.items()
    }


def together(by_split):
    """The sketches of all splits."""
    return [sketch for sketches in by_split.values() for sketch in sketches]


@pytest.mark.usefixtures("small_pieces")
def test_all_forms_of_the_same_drawings_make_the_same_dataset(tmp_path):
    drawings = [drawing(k) for k in range(60)]
    write_bin(tmp_path / "cat.bin", drawings)
    write_ndjson(tmp_path / "cat.ndjson", drawings)
    convert([tmp_path / "cat.bin"], tmp_path / "bin")
    expected = all_sketches(tmp_path / "bin")
    assert {split: len(found) for split, found in expected.items()} == {
        "train": 54,
        "valid": 3,
        "test": 3,
    }
    flat = [np.frombuffer(row, np.int16).reshape(-1, 3) for row, _ in together(expected)]
    (tmp_path / "strokes.jsonl").write_text(
        "\n".join(json.dumps({"word": "cat", "strokes": rows.tolist()}) for rows in flat)
    )
    (tmp_path / "cat").mkdir()
    for k, rows in enumerate(flat):
        (tmp_path / "cat" / f"{k:03}.svg").write_text(sketch_to_svg(rows))
    for source in ("cat.ndjson", "strokes.jsonl", "cat"):
        out = tmp_path / f"from_{source.replace('.', '_')}"
        convert([tmp_path / source], out, Options(simplify="none"))
        assert sorted(together(all_sketches(out))) == sorted(together(expected))
    for source, out in (("bin", "again.npz"), ("again.npz", "store"), ("store", "last.npz")):
        convert([tmp_path / source], tmp_path / out)
        assert all_sketches(tmp_path / out) == expected  # splits and their order too


@pytest.mark.usefixtures("small_pieces")
def test_a_dataset_converted_is_read_by_the_loader_as_the_original(tmp_path, real_data):
    """Of a real file that was published, sketch by sketch, whatever its dtype."""
    for name, dtype in (("short_kanji", "int16"), ("kanji.rdp200", "float32")):
        result = convert([real_data / f"{name}.npz"], tmp_path / f"{name.replace('.', '_')}")
        store = open_store(result.path)
        assert store.dtype == dtype
        original = read_npz(real_data / f"{name}.npz")
        for split, sketches in original.items():
            found = store.splits[split]
            assert len(found) == len(sketches)
            assert_array_equal(
                found.points, np.concatenate(sketches).astype(dtype, casting="unsafe")
            )
        ours = load([result.path.name], tmp_path)
        theirs = load([f"{name}.npz"], real_data)
        assert ours.scale_factor == pytest.approx(theirs.scale_factor, rel=2e-6)


def test_magenta_reads_what_convert_writes(tmp_path):
    write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(40)])
    convert([tmp_path / "cat.bin"], tmp_path / "cat.npz")
    theirs = np.load(tmp_path / "cat.npz", allow_pickle=True, encoding="latin1")
    assert theirs["train"].dtype == object
    assert theirs["train"][0].dtype == np.int16
    assert [len(theirs[split]) for split in SPLITS] == [36, 2, 2]
    assert load(["cat.npz"], tmp_path).max_seq_len == 6


def test_raw_recordings_are_simplified_and_finished_drawings_are_not(tmp_path, real_data):
    file = real_data / "quickdraw_raw" / "sheep.ndjson"
    expected = Simplification()(read_json(file, 0, 1 << 20, "", False).drawings)
    convert([file], tmp_path / "auto", Options(splits=SplitSizes(None, 1, 1)))
    total = sum(split.table.points for split in open_store(tmp_path / "auto").splits.values())
    assert total == len(expected.points)
    convert([file], tmp_path / "none", Options(simplify="none", splits=SplitSizes(None, 1, 1)))
    store = open_store(tmp_path / "none")
    raw = read_json(file, 0, 1 << 20, "", False).drawings
    assert sum(split.table.points for split in store.splits.values()) == len(raw.points)
    write_bin(tmp_path / "b.bin", [[(list(range(50)), list(range(50)))]] * 3)
    convert([tmp_path / "b.bin"], tmp_path / "plain", Options(splits=SplitSizes(None, 1, 1)))
    assert open_store(tmp_path / "plain").splits["train"].table.points == 50
    every = Options(simplify="all", splits=SplitSizes(None, 1, 1))
    convert([tmp_path / "b.bin"], tmp_path / "all", every)
    assert open_store(tmp_path / "all").splits["train"].points.tolist() == [
        [0, 0, 0],
        [255, 255, 1],
    ]


@pytest.mark.usefixtures("small_pieces")
def test_splits_are_exact_disjoint_and_governed_by_the_seed(tmp_path):
    write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(100)])
    found = {}
    for seed in (0, 0, 1):
        options = Options(splits=SplitSizes(None, 20, 0.1), seed=seed)
        out = tmp_path / f"s{seed}{len(found)}"
        convert([tmp_path / "cat.bin"], out, options)
        found[out.name] = all_sketches(out)
    first, again, other = found.values()
    assert [len(first[split]) for split in SPLITS] == [70, 20, 10]
    assert len(set(together(first))) == 100
    assert first == again
    assert first != other
    options = Options(splits=SplitSizes(5, 3, 2))
    result = convert([tmp_path / "cat.bin"], tmp_path / "few", options)
    assert list(result.counts.values()) == [5, 3, 2]
    assert result.left_out == {"are more than the splits take": 90}


@pytest.mark.usefixtures("small_pieces")
def test_limits_on_length_and_repetitions_are_counted(tmp_path):
    drawings = [drawing(k, points=2 + k % 5) for k in range(60)]
    drawings += drawings[:20]
    write_ndjson(tmp_path / "cat.ndjson", drawings)
    write_ndjson(tmp_path / "dog.ndjson", drawings[:30], "dog")
    options = Options(min_points=4, max_points=6, deduplicate=True)
    inputs = [tmp_path / "cat.ndjson", tmp_path / "dog.ndjson"]
    result = convert(inputs, tmp_path / "out", options)
    assert result.left_out == {
        "have fewer than 4 points": 16 + 6,
        "have more than 6 points": 16 + 6,
        "repeat another": 12,
    }
    found = together(all_sketches(tmp_path / "out"))
    assert len(found) == len(set(found)) == 36 + 18
    assert sorted({name for _, name in found}) == ["cat", "dog"]
    assert result.classes == ("cat", "dog")


@pytest.mark.usefixtures("small_pieces")
def test_a_bad_drawing_stops_the_conversion_or_is_left_out_and_named(tmp_path):
    lines = [ndjson_line(drawing(k)) for k in range(60)]
    lines[37] = '{"drawing": 3}'
    path = tmp_path / "cat.ndjson"
    path.write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=r"cat\.ndjson, line 38, has no list drawing"):
        convert([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    result = convert([path], tmp_path / "out", Options(skip_bad=True))
    assert sum(result.counts.values()) == 59
    assert result.left_out == {"cannot be read": 1}
    assert "line 38, has no list drawing" in result.problems[0]
    assert result.reused_parts > 0
    assert "line 38" in open_store(tmp_path / "out").provenance["problems"][0]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["cat.ndjson", "out"]


def test_more_processes_make_the_same_dataset(tmp_path):
    write_bin(tmp_path / "a.bin", [drawing(k) for k in range(300)])
    write_ndjson(tmp_path / "b.ndjson", [drawing(k) for k in range(300, 500)])
    inputs = [tmp_path / "a.bin", tmp_path / "b.ndjson"]
    convert(inputs, tmp_path / "one", jobs=1)
    convert(inputs, tmp_path / "two", jobs=2)
    assert all_sketches(tmp_path / "one") == all_sketches(tmp_path / "two")


PROGRAM = """
import sys
from sketchrnn_fast.data import sources
from sketchrnn_fast.data.conversion import convert
sources.BIN_BYTES = 2000
print("ready", flush=True)
convert([sys.argv[1]], sys.argv[2])
"""


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_conversion_goes_on_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BIN_BYTES", 2000)
    path = write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(6000)])
    convert([path], tmp_path / "whole")
    expected = all_sketches(tmp_path / "whole")
    work = tmp_path / ".out.partial"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "out")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 30
    while len(list(work.glob("part-*.npz"))) < 5 and time.monotonic() < deadline:
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    # What the disk may have made of the last part, too.
    last = max(work.glob("part-*.npz"))
    last.write_bytes(last.read_bytes()[:100])
    result = convert([path], tmp_path / "out")
    assert result.reused_parts >= 4
    assert all_sketches(tmp_path / "out") == expected
    assert not work.exists()


@pytest.mark.usefixtures("small_pieces")
def test_work_of_another_conversion_is_not_taken_over(tmp_path, monkeypatch):
    path = write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(60)])

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(conversion_module, "assemble", full)
        with pytest.raises(OSError, match="No space left"):
            convert([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DatasetError, match="is left from a conversion of other inputs"):
        convert([path], tmp_path / "out", Options(max_points=5))
    write_bin(path, [drawing(k) for k in range(70)])
    with pytest.raises(DatasetError, match="or begin anew by --restart"):
        convert([path], tmp_path / "out")
    result = convert([path], tmp_path / "out", restart=True)
    assert sum(result.counts.values()) == 70


def test_a_failed_conversion_is_not_in_the_way_of_the_next(tmp_path):
    path = tmp_path / "cats.ndjson"
    good = [json.dumps({"drawing": [[[0, k, 5], [1, 2, 3]]]}) for k in range(40)]
    path.write_text("\n".join([*good, "no"]))
    with pytest.raises(DatasetError, match="line 41, is not JSON"):
        convert([path], tmp_path / "out")
    with pytest.raises(DatasetError, match="line 41, is not JSON"):
        convert([path], tmp_path / "out", Options(min_points=2))
    path.write_text("\n".join(good))
    assert sum(convert([path], tmp_path / "out").counts.values()) == 40
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(simplify="some"), "simplify is 'some'; it takes auto, all or none"),
        (Options(dtype="int8"), "dtype is 'int8'; it takes int16 or float32"),
        (Options(min_points=0), "min_points is 0"),
        (Options(min_points=5, max_points=4), "max_points is 4, below min_points, 5"),
        (Options(splits=SplitSizes(valid=1.5)), r"valid is 1\.5"),
        (Options(splits=SplitSizes(None, 50, 50)), "there are 60 sketches; train, valid and test"),
        (Options(splits=SplitSizes(None, 60, 0)), "split train and test would be empty"),
    ],
)
def test_options_that_cannot_be_are_refused_and_nothing_is_written(tmp_path, options, sentence):
    path = write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(60)])
    with pytest.raises(DatasetError, match=sentence):
        convert([path], tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_folders_are_searched_through_and_stores_in_them_are_stores(tmp_path):
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    write_bin(folder / "cat.bin", [drawing(k) for k in range(40)])
    (folder / ".hidden.bin").write_bytes(b"no")
    (folder / "notes.txt").write_text("no")
    convert([write_bin(tmp_path / "dog.bin", [drawing(k) for k in range(30)])], folder / "dogs")
    assert sources.find([tmp_path / "in"]) == [folder / "cat.bin", folder / "dogs"]
    result = convert([tmp_path / "in"], tmp_path / "out")
    assert sum(result.counts.values()) == 70
    assert result.classes == ("cat", "dog")


def test_a_link_to_a_folder_above_is_not_followed(tmp_path):
    folder = tmp_path / "in" / "deeper"
    folder.mkdir(parents=True)
    write_bin(folder / "cat.bin", [drawing(k) for k in range(3)])
    (folder / "again").symlink_to(tmp_path / "in")
    (folder / "here").symlink_to(folder)
    assert sources.find([tmp_path / "in"]) == [folder / "cat.bin"]


def test_a_drawing_too_large_to_be_simplified_is_named_and_may_be_left_out(tmp_path):
    teeth = list(range(200_000))
    path = tmp_path / "cat.ndjson"
    drawings = [[[[0, 9, 3, k + 1], [0, 1, 2, 5], [0, 1, 2, 3]]] for k in range(30)]
    drawings[7] = [[teeth, [k % 2 for k in teeth], teeth]]
    path.write_text("".join(json.dumps({"drawing": one}) + "\n" for one in drawings))
    sentence = r"cat\.ndjson, line 8, goes through 282843 points, simplified; at most 131072"
    with pytest.raises(DatasetError, match=sentence):
        convert([path], tmp_path / "out", Options(simplification=Simplification(size=None)))
    assert list(validate([path])) == []  # in 255 units it is a stroke of some hundred pixels
    convert([path], tmp_path / "all")
    result = convert(
        [path],
        tmp_path / "out",
        Options(simplification=Simplification(size=None), skip_bad=True),
    )
    assert result.left_out == {"cannot be read": 1}
    far = [[0, 1e7] * 140_000, [0, 1e7] * 140_000, [0, 1] * 140_000]
    path.write_text(json.dumps({"drawing": [far]}) + "\n")
    (found,) = validate([path])
    assert "cat.ndjson, line 1, goes through 560001 points, simplified" in found


def test_classes_are_those_that_have_drawings(tmp_path):
    good = [json.dumps({"word": "cat", "drawing": drawing(k)}) for k in range(30)]
    bad = json.dumps({"word": "ant", "drawing": [[[0, 1], [0]]]})
    short = json.dumps({"word": "bee", "drawing": [[[0], [0]]]})
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join([bad, short, *good]))
    result = convert([path], tmp_path / "out", Options(skip_bad=True, min_points=2))
    assert result.classes == ("cat",)
    assert open_store(tmp_path / "out").classes == ("cat",)


def test_inputs_without_drawings_are_named(tmp_path):
    for name in ("a.bin", "b.ndjson"):
        (tmp_path / name).touch()
        with pytest.raises(DatasetError, match=rf"{name} holds no drawing"):
            convert([tmp_path / name], tmp_path / "out")
        assert list(validate([tmp_path / name])) == [f"{tmp_path / name} holds no drawing"]
        with pytest.raises(DatasetError, match=rf"{name}: there is no drawing"):
            inspect([tmp_path / name])
    with pytest.raises(DatasetError, match=r"the 2 files, .*a\.bin the first, hold no drawing"):
        convert([tmp_path], tmp_path / "out")
    write_ndjson(tmp_path / "b.ndjson", [drawing(1)])
    with pytest.raises(
        DatasetError, match=r"no drawing of .* is left: 1 have fewer than 99 points"
    ):
        convert([tmp_path / "b.ndjson"], tmp_path / "out", Options(min_points=99))
    assert list(validate([tmp_path])) == [f"{tmp_path / 'a.bin'} holds no drawing"]


def test_a_class_of_two_lines_is_refused_and_a_file_of_that_name_is_one_of_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"word": "cat\ndog", "drawing": [[[1, 2], [3, 4]]]}))
    with pytest.raises(DatasetError, match="it must be text of one line"):
        convert([path], tmp_path / "out")
    path = write_bin(tmp_path / "cat\ndog.bin", [drawing(k) for k in range(40)])
    assert convert([path], tmp_path / "named").classes == ("cat dog",)
    with pytest.raises(DatasetError, match=r"the class 'cat\\ndog' is of several lines"):
        encode_names(["bird", "cat\ndog"])


def test_reading_json_lines_takes_no_more_memory_each_time(tmp_path):
    """What the fuzzer cannot tell for long, since atheris itself grows."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"drawing":[[[1,2],[3,4]]]}\n[[1,2,0],[3,4,1]]\n{"drawing":[[[1\n{"word":7}')
    grown = []
    for _ in range(3):
        before = int(Path("/proc/self/statm").read_text().split()[1])
        for _ in range(3000):
            read_json(path, 0, path.stat().st_size, "", True)
        grown.append(int(Path("/proc/self/statm").read_text().split()[1]) - before)
    assert min(grown) < 64  # pages; a kilobyte a call would be 750


def test_a_file_whose_name_is_no_text_is_a_class_all_the_same(tmp_path):
    path = write_bin(tmp_path / os.fsdecode(b"ca\xff.bin"), [drawing(k) for k in range(40)])
    assert convert([path], tmp_path / "out").classes == ("ca?",)


def test_outputs_and_inputs_that_cannot_be_are_refused(tmp_path):
    path = write_bin(tmp_path / "cat.bin", [drawing(k) for k in range(60)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "there.npz").write_text("")
    for inputs, out, sentence in (
        ([path], tmp_path / "empty", "exists; a store is written as a new folder"),
        ([path], tmp_path / "a.h5", r"ends in \.h5; a dataset is an \.npz file, or a store"),
        ([path], tmp_path / "no" / "out", "there is no folder"),
        ([path], tmp_path / "no" / "a.npz", "there is no folder"),
        ([path], tmp_path / "there.npz", r"there\.npz exists; delete it first"),
        ([tmp_path / "no.bin"], tmp_path / "out", r"no\.bin does not exist"),
        ([tmp_path / "empty"], tmp_path / "out", "holds no file ending in"),
        ([tmp_path / "a.txt"], tmp_path / "out", r"ends in \.txt; drawings are read from"),
    ):
        with pytest.raises(UserError, match=sentence):
            convert(inputs, out)


@pytest.mark.filterwarnings("error")
def test_offsets_of_half_precision_are_read_and_those_too_large_for_it_named(tmp_path):
    sketches = np.ones((30, 4, 3), np.float16)
    sketches[:, 0, 0] = np.arange(30)
    np.save(tmp_path / "half.npy", sketches)
    assert sum(convert([tmp_path / "half.npy"], tmp_path / "out").counts.values()) == 30
    sketches[7, 2, 1] = np.inf
    np.save(tmp_path / "half.npy", sketches)
    with pytest.raises(DatasetError, match=r"has the offset \(1\.0, inf\) at point 2"):
        convert([tmp_path / "half.npy"], tmp_path / "again")


def test_stroke_5_arrays_and_lists_of_sketches_are_read(tmp_path):
    stroke5 = np.zeros((30, 4, 5))
    stroke5[:, 0] = (1, 2, 1, 0, 0)
    stroke5[:, 1, 0] = np.arange(30)
    stroke5[:, 1, 3] = 1
    stroke5[:, 2:, 4] = 1
    np.save(tmp_path / "five.npy", stroke5)
    points = stroke5[:, :2, [0, 1, 3]].reshape(-1, 3)
    np.savez(tmp_path / "list.npz", points=points, lengths=np.full(30, 2))
    splits = np.split(stroke5, [24, 27])
    write_npz(tmp_path / "set.npz", dict(zip(SPLITS, splits, strict=True)))
    found = []
    for name in ("five.npy", "list.npz", "set.npz"):
        out = tmp_path / f"from_{name.replace('.', '_')}"
        convert([tmp_path / name], out)
        found.append(sorted(row for row, _ in together(all_sketches(out))))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 30


def test_folders_of_svg_are_classes(tmp_path):
    for k in range(40):
        folder = tmp_path / "drawings" / ("cat" if k % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{k}.svg").write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0L{k + 1} 10C9 9 8 8 3 1"/></svg>'
        )
    result = convert([tmp_path / "drawings"], tmp_path / "out")
    assert result.classes == ("cat", "dog")
    found = together(all_sketches(tmp_path / "out"))
    assert sorted(name for _, name in found) == ["cat"] * 20 + ["dog"] * 20
    rows = np.frombuffer(found[0][0], np.int16).reshape(-1, 3)
    positions = np.cumsum(rows[:, :2], axis=0)
    assert positions.min() == 0
    assert positions.max() == 255
