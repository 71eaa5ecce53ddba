"""From names to splits: merging, the length limit, the scale factor, and the real datasets."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import DatasetError, load, random_batch, read_npz, write_npz


def line(length, step, dtype=np.int16):
    sketch = np.tile(np.array([step, -step, 0], dtype), (length, 1))
    sketch[-1, 2] = 1
    return sketch


@pytest.fixture
def folder(tmp_path):
    write_npz(
        tmp_path / "a.npz",
        {"train": [line(2, 1), line(4, 2)], "valid": [line(3, 3)], "test": [line(6, 4)]},
    )
    write_npz(
        tmp_path / "b.npz",
        {"train": [line(4, 5, np.float64)], "valid": [line(1, 6)], "test": [line(2, 7)]},
    )
    return tmp_path


def test_files_are_merged_split_by_split_in_the_given_order(folder):
    splits = load(["b.npz", "a.npz"], folder)
    firsts = [round(s[0, 0] * splits.scale_factor) for s in splits.train]
    assert firsts == [1, 5, 2]  # ascending in length; of the two of length 4, b's comes first
    assert splits.valid.lengths.tolist() == [1, 3]
    assert splits.test.lengths.tolist() == [2, 6]


def test_the_limit_is_the_longest_sketch_of_any_split_of_any_file(folder):
    assert load(["a.npz", "b.npz"], folder).max_seq_len == 6
    assert load(["b.npz"], folder).max_seq_len == 4


def test_the_train_splits_deviation_divides_all_splits(folder):
    splits = load(["a.npz"], folder)
    steps = np.array([1] * 2 + [2] * 4)
    assert splits.scale_factor == pytest.approx(np.std(np.concatenate([steps, -steps])))
    factor = np.float32(splits.scale_factor)
    assert_array_equal(splits.test[0][:, 0], np.float32(4) / factor)
    assert_array_equal(splits.valid[0][:, 1], np.float32(-3) / factor)


def test_a_given_limit_leaves_out_longer_sketches_also_of_the_scale_factor(folder):
    splits = load(["a.npz", "b.npz"], folder, max_seq_len=3)
    assert splits.max_seq_len == 3
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (1, 2, 1)
    assert splits.scale_factor == 1.0


def test_a_given_scale_factor_divides_all_splits(folder):
    splits = load(["a.npz"], folder, scale_factor=4.0)
    assert splits.scale_factor == 4.0
    assert splits.test[0][0].tolist() == [1, -1, 0]


def test_a_given_limit_may_exceed_every_sketch(folder):
    assert load(["a.npz"], folder, max_seq_len=250).max_seq_len == 250


def test_a_limit_that_leaves_a_split_empty_is_refused_by_name(folder):
    with pytest.raises(DatasetError, match=r"a\.npz, split test has no sketch of at most 3 points"):
        load(["a.npz"], folder, max_seq_len=3)


def test_datasets_are_looked_up_in_the_current_folder_unless_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(load(["a.npz"]).train) == 2


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["a.npz", "no.npz"], r"no\.npz does not exist; no\.npz is looked up in"),
        (["cats"], "no dataset 'cats'; it takes the name of an .npz file or of a store's folder"),
        ([], "it takes a list of at least one name"),
        ("a.npz", "it takes a list of at least one name"),
    ],
)
def test_names_that_are_no_dataset_are_refused(names, sentence, folder):
    with pytest.raises(DatasetError, match=sentence):
        load(names, folder)


def test_a_wrong_sketch_is_refused_by_file_split_and_index(folder):
    bad = [line(2, 1), np.array([[0, 0, 3]])]
    write_npz(folder / "bad.npz", {"train": [line(1, 1)], "valid": bad, "test": bad})
    with pytest.raises(
        DatasetError, match=r"^bad\.npz, split valid, sketch 1, point 0 has the pen 3; it must be"
    ):
        load(["a.npz", "bad.npz"], folder)


def test_a_split_without_sketches_is_refused(folder):
    write_npz(folder / "bad.npz", {"train": [line(1, 1)], "valid": [], "test": [line(1, 1)]})
    with pytest.raises(DatasetError, match=r"bad\.npz, split valid holds no sketches"):
        load(["bad.npz"], folder)


def test_drawings_without_any_extent_are_refused(folder):
    flat = [np.zeros((3, 3), np.int16)]
    write_npz(folder / "bad.npz", dict.fromkeys(("train", "valid", "test"), flat))
    with pytest.raises(DatasetError, match=r"the scale factor is 0\.0; it must be above 0"):
        load(["bad.npz"], folder)


def test_importing_the_data_package_imports_no_heavy_package():
    program = (
        "import sys, sketchrnn_fast.data, sketchrnn_fast.render;"
        "print([n for n in ('torch', 'matplotlib', 'HersheyFonts', 'platformdirs') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# --------------------------------------------------------------------------------------------
# The real datasets (model_spec 10)

REAL = {
    "aaron_sheep": ((7400, 300, 300), 250, "18.519829", 926_652, 20),
    "kanji.rdp200": ((10_358, 600, 500), 70, "22.730356", 320_570, 2),
    "short_kanji": ((10_000, 600, 500), 88, "99.71245", 406_111, 2),
    "omniglot": ((30_000, 1000, 1000), 157, "53.43705", 933_430, 2),
}


@pytest.mark.parametrize("name", REAL)
def test_real_datasets_have_the_figures_of_the_specification(name, real_data):
    counts, longest, factor, points, shortest = REAL[name]
    splits = load([f"{name}.npz"], real_data)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == counts
    assert splits.max_seq_len == longest
    assert np.float32(splits.scale_factor) == np.float32(factor)
    assert len(splits.train.points) == points
    assert splits.train.lengths[0] == shortest


def test_every_real_sketch_is_read_as_numpy_would_unpickle_it(real_data):
    for name in REAL:
        ours = read_npz(real_data / f"{name}.npz")
        theirs = np.load(real_data / f"{name}.npz", allow_pickle=True, encoding="latin1")
        for split, sketches in ours.items():
            assert len(sketches) == len(theirs[split])
            for mine, other in zip(sketches, theirs[split], strict=True):
                assert mine.dtype == other.dtype
                assert mine.tobytes() == other.tobytes()


def test_two_real_datasets_merge(real_data):
    splits = load(["aaron_sheep.npz", "short_kanji.npz"], real_data)
    assert len(splits.train) == 17_400
    assert splits.max_seq_len == 250


def test_aaron_sheep_loads_in_under_two_seconds(real_data):
    started = time.perf_counter()
    load(["aaron_sheep.npz"], real_data)
    assert time.perf_counter() - started < 2


def test_a_sheep_batch_takes_a_small_part_of_a_training_step(real_data):
    """3 % of a step of some seconds; the measured time is 2 ms (docs/data.md)."""
    splits = load(["aaron_sheep.npz"], real_data)
    seconds = []
    for seed in range(5):
        started = time.perf_counter()
        random_batch(
            splits.train, 100, 250, seed=seed, random_scale_factor=0.15, augment_stroke_prob=0.1
        )
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.03
