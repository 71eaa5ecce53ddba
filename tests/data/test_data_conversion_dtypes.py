"""Which numbers a conversion keeps, and in which dtype."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sketchrnn_fast.data import DatasetError, load, open_store, read_npz, write_npz
from sketchrnn_fast.data.conversion import Options, convert
from sketchrnn_fast.data.npz import SPLITS


def dealt(path):
    """The sketches of all splits of a dataset, sorted."""
    splits = load([path.name], path.parent, scale_factor=1.0)
    return sorted(
        split[k].tolist()
        for split in (splits.train, splits.valid, splits.test)
        for k in range(len(split))
    )


@pytest.mark.parametrize("suffix", [".npz", ""])
def test_sketches_in_json_lines_that_are_not_whole_stay_as_they_are(tmp_path, suffix):
    rows = [[[0.25 + k, 0.5, 0], [0.25, -0.5, 1]] for k in range(30)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"strokes": row}) + "\n" for row in rows))
    out = tmp_path / f"out{suffix}"
    convert([path], out)
    assert dealt(out) == sorted(rows)


@pytest.mark.usefixtures("small_pieces")
def test_fractions_late_in_a_file_are_kept_and_recordings_beside_them_rounded(tmp_path):
    whole = [[[k + 1, 2, 0], [3, 4, 1]] for k in range(40)]
    late = [[[k + 0.25, 0.5, 0], [0.25, -0.5, 1]] for k in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in whole + late))
    convert([path], tmp_path / "alone")
    assert open_store(tmp_path / "alone").dtype == "float32"
    assert open_store(tmp_path / "alone").provenance["options"]["dtype"] == "float32"
    assert dealt(tmp_path / "alone") == sorted(whole + late)

    lines = "".join(
        json.dumps({"drawing": [[[0, 77, 100 + k], [0, 1, 90], [0, 1, 2]]]}) + "\n"
        for k in range(30)
    )
    (tmp_path / "raw.ndjson").write_text(lines)
    convert([tmp_path / "raw.ndjson"], tmp_path / "raw")
    assert open_store(tmp_path / "raw").dtype == "int16"
    convert([tmp_path / "raw.ndjson", path], tmp_path / "both")
    assert dealt(tmp_path / "both") == sorted(dealt(tmp_path / "raw") + whole + late)
    convert([path], tmp_path / "rounded", Options(dtype="int16"))
    assert open_store(tmp_path / "rounded").dtype == "int16"


@pytest.mark.usefixtures("small_pieces")
def test_repetitions_are_found_whatever_the_dtype_of_their_piece(tmp_path):
    whole = [[[k + 1, 2, 0], [3, 4, 1]] for k in range(60)]
    late = [[[k + 0.25, 0.5, 0], [0.25, -0.5, 1]] for k in range(60)]
    path = tmp_path / "a.jsonl"
    rows = [row for pair in zip(late, whole, strict=True) for row in pair]
    path.write_text("".join(json.dumps(row) + "\n" for row in whole + rows))
    convert([path], tmp_path / "out", Options(deduplicate=True))
    assert dealt(tmp_path / "out") == sorted(whole + late)


def test_numbers_too_large_for_int16_are_kept_too(tmp_path):
    rows = [[[40_000 + k, 2, 0], [3, 4, 1]] for k in range(30)]
    write_npz(tmp_path / "a.npz", {name: [np.array(row) for row in rows] for name in SPLITS})
    convert([tmp_path / "a.npz"], tmp_path / "out.npz")
    kept = [sketch for split in read_npz(tmp_path / "out.npz").values() for sketch in split]
    assert sorted(sketch.tolist() for sketch in kept) == sorted(rows * 3)
    with pytest.raises(DatasetError, match="has offsets that int16 cannot hold"):
        convert([tmp_path / "a.npz"], tmp_path / "narrow", Options(dtype="int16"))
