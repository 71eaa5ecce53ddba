"""What inspect counts and validate names, in every form."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from quickdraw_files import ndjson_line, write_bin

from sketchrnn_fast.data import DatasetError, load, write_npz
from sketchrnn_fast.data.conversion import convert
from sketchrnn_fast.data.inspection import inspect, validate


def test_figures_of_a_real_dataset_are_those_of_the_specification(real_data):
    findings = inspect([real_data / "aaron_sheep.npz"], pictured=9)
    train = findings.tables["train"]
    assert (train.sketches, train.points) == (7400, 926_652)
    assert (train.lengths[0], train.lengths[-1]) == (20, 250)
    assert findings.scale_factor == pytest.approx(18.519829, rel=1e-6)
    assert findings.classes == {"aaron_sheep": 8000}
    assert findings.problems == []
    assert findings.notes == {}
    assert len(findings.chosen) == 9


def test_a_store_shows_what_its_source_shows(tmp_path, real_data):
    file = real_data / "short_kanji.npz"
    convert([file], tmp_path / "kanji")
    ours, theirs = inspect([tmp_path / "kanji"]), inspect([file])
    for split in ("train", "valid", "test"):
        assert ours.tables[split].to_rows() == theirs.tables[split].to_rows()
    assert ours.scale_factor == theirs.scale_factor
    assert list(validate([tmp_path / "kanji", file])) == []


def test_every_bad_sketch_of_a_dataset_is_named(tmp_path):
    good = np.array([[1, 2, 0], [3, 4, 1]])
    bad = [
        (np.zeros((0, 3)), "has no points"),
        (np.array([[1, 2, 3]]), "has the pen 3 at point 0; it must be 0 or 1"),
        (np.array([[1.0, 2, 0], [np.nan, 4, 1]]), "has the offset (nan, 4.0) at point 1"),
        (np.array([[1.0, np.inf, 0]]), "has the offset (1.0, inf) at point 0"),
        (np.ones((4, 2)), "has shape [4, 2]; it must be [points, 3] or [points, 5]"),
        (np.ones(3), "has shape [3]"),
        (np.array([[1, 2, 1, 1, 0]]), "has the pen [1, 1, 0] at point 0; it must be one-hot"),
        (np.array([[0, 0, 0, 0, 1]]), "has no points"),
        (np.array([[1e9, 0, 1]]), "offsets are within ±10000000"),
    ]
    valid = [good, *(sketch for sketch, _ in bad), good]
    write_npz(tmp_path / "a.npz", {"train": [good], "valid": valid, "test": [good]})
    found = list(validate([tmp_path / "a.npz"]))
    assert len(found) == len(bad)
    for number, (sentence, (_, expected)) in enumerate(zip(found, bad, strict=True)):
        assert f"a.npz, split valid, sketch {number + 1} " in sentence
        assert expected in sentence
    assert inspect([tmp_path / "a.npz"]).problems == found


def test_a_split_without_a_good_sketch_is_named(tmp_path):
    good = [np.array([[1, 2, 1]])]
    write_npz(tmp_path / "a.npz", {"train": good, "valid": [], "test": good})
    assert list(validate([tmp_path / "a.npz"])) == [
        f"{tmp_path / 'a.npz'}, split valid holds no good sketch; a dataset has some in each split"
    ]


def test_lines_and_drawings_are_numbered_through_a_whole_file(tmp_path, monkeypatch):
    from sketchrnn_fast.data import sources

    monkeypatch.setattr(sources, "JSON_BYTES", 300)
    monkeypatch.setattr(sources, "BIN_BYTES", 30)
    lines = [ndjson_line([([k], [k])]) for k in range(50)]
    for k in (3, 20, 49):
        lines[k] = "{}"
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    drawings = [[([k], [k])] for k in range(50)]
    drawings[31] = []
    write_bin(tmp_path / "b.bin", drawings)
    found = list(validate([tmp_path]))
    places = [sentence.split(" has ")[0].rpartition("/")[2] for sentence in found]
    expected = ["a.ndjson, line 4,", "a.ndjson, line 21,", "a.ndjson, line 50,"]
    assert places == [*expected, "b.bin, drawing 31"]


def test_notes_tell_what_training_will_change(tmp_path):
    sketches = [
        np.array([[2000, 0, 1], [1, 1, 1]]),
        np.array([[1, 0, 0], [1, 1, 0]]),
        np.array([[5, 5, 1]]),
    ]
    write_npz(tmp_path / "a.npz", dict.fromkeys(("train", "valid", "test"), sketches))
    findings = inspect([tmp_path / "a.npz"])
    assert findings.notes == {
        "do not lift the pen at their end": 3,
        "have an offset above 1000, to which training clamps it": 3,
        "have one point only": 3,
    }
    assert findings.scale_factor == pytest.approx(load(["a.npz"], tmp_path).scale_factor)


def test_random_sketches_depend_on_the_seed_not_on_the_pieces(tmp_path, monkeypatch):
    from sketchrnn_fast.data import sources

    write_bin(tmp_path / "a.bin", [[([k], [k])] for k in range(200)])
    first = inspect([tmp_path], pictured=10, seed=1).chosen
    monkeypatch.setattr(sources, "BIN_BYTES", 100)
    again = inspect([tmp_path], pictured=10, seed=1).chosen
    other = inspect([tmp_path], pictured=10, seed=2).chosen
    values = [[int(sketch[0, 0]) for sketch in chosen] for chosen in (first, again, other)]
    assert values[0] == values[1] != values[2]
    assert values[0] == sorted(values[0])
    assert len(set(values[0])) == 10


def test_what_is_no_file_of_drawings_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"a\.npz is not an npz file"):
        inspect([tmp_path / "a.npz"])
    np.savez(tmp_path / "b.npz", x=np.ones(3))
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("a\nb.npy", b"")
    with pytest.raises(DatasetError, match=r"c\.npz has 'a\\nb'; it takes the splits") as error:
        inspect([tmp_path / "c.npz"])
    assert "\n" not in str(error.value)
    with pytest.raises(DatasetError, match=r"b\.npz has x; it takes the splits train, valid, test"):
        inspect([tmp_path / "b.npz"])
