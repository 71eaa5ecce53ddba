"""The store and the mapped dataset: the same batches as from memory, and damage is told."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sketchrnn_fast.data import (
    DatasetError,
    SketchDataset,
    batch,
    evaluation_batches,
    load,
    open_store,
    random_batch,
    write_npz,
)
from sketchrnn_fast.data.inspection import validate
from sketchrnn_fast.data.mapped import MappedDataset
from sketchrnn_fast.data.moments import LengthTable
from sketchrnn_fast.data.ragged import Sketches
from sketchrnn_fast.data.store_writing import StoreWriter

SPLITS = ("train", "valid", "test")


def sketch(length, rng, dtype=np.int16):
    rows = rng.integers(-1500, 1500, (length, 3))
    rows[:, 2] = rng.integers(0, 2, length)
    return rows.astype(dtype)


def make_splits(seed=0, sizes=(40, 12, 12), dtype=np.int16, longest=20):
    rng = np.random.default_rng(seed)
    return {
        split: [sketch(rng.integers(1, longest + 1), rng, dtype) for _ in range(size)]
        for split, size in zip(SPLITS, sizes, strict=True)
    }


def write_store(folder, splits, dtype=np.int16, chunk=7):
    folder.mkdir()
    writer = StoreWriter(folder, np.dtype(dtype))
    for split, sketches in splits.items():
        for start in range(0, len(sketches), chunk):
            some = sketches[start : start + chunk]
            lengths = np.array([len(rows) for rows in some], np.int64)
            writer.append(
                split, Sketches(np.concatenate(some), lengths), np.zeros(len(some), np.int32)
            )
    writer.finish(["cat"], {"made_by": "a test"})
    return folder


@pytest.fixture
def folder(tmp_path):
    write_store(tmp_path / "a", make_splits())
    write_npz(tmp_path / "a.npz", make_splits())
    write_store(tmp_path / "b", make_splits(1), np.float32)
    write_npz(tmp_path / "b.npz", make_splits(1, dtype=np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        (["a"], ["a.npz"]),
        (["b"], ["b.npz"]),
        (["a", "b"], ["a.npz", "b.npz"]),
        (["b", "a.npz"], ["b.npz", "a.npz"]),
    ],
)
@pytest.mark.parametrize("limit", [None, 9])
def test_batches_from_disk_are_those_from_memory_to_the_bit(folder, stored, loaded, limit):
    ours = load(stored, folder, limit)
    theirs = load(loaded, folder, limit, scale_factor=ours.scale_factor)
    assert ours.max_seq_len == theirs.max_seq_len
    for split in SPLITS:
        mine, other = getattr(ours, split), getattr(theirs, split)
        assert isinstance(mine, MappedDataset)
        assert isinstance(other, SketchDataset)
        assert (len(mine), mine.left_out) == (len(other), other.left_out)
        assert mine.max_seq_len == other.max_seq_len
        assert_array_equal(mine.lengths, other.lengths)
        for index in (0, len(mine) // 2, -1):
            assert_array_equal(mine[index], other[index])
        pairs = zip(evaluation_batches(mine, 5, 20), evaluation_batches(other, 5, 20), strict=True)
        for first, second in pairs:
            assert first.strokes.tobytes() == second.strokes.tobytes()
        options = {"random_scale_factor": 0.15, "augment_stroke_prob": 0.1}
        first, second = (random_batch(one, 2, 20, seed=3, **options) for one in (mine, other))
        assert first.strokes.tobytes() == second.strokes.tobytes()
        assert_array_equal(first.indices, second.indices)


@pytest.mark.parametrize("limit", [None, 9])
@pytest.mark.parametrize("name", ["a", "b"])
def test_the_scale_factor_is_that_of_memory_but_for_its_last_digits(folder, name, limit):
    ours = load([name], folder, limit).scale_factor
    assert ours == pytest.approx(load([f"{name}.npz"], folder, limit).scale_factor, rel=1e-6)


@pytest.mark.parametrize("name", ["aaron_sheep", "omniglot", "short_kanji", "kanji.rdp200"])
def test_real_datasets_have_the_published_scale_factor_also_from_sums(real_data, name):
    splits = load([f"{name}.npz"], real_data, scale_factor=1.0)
    train = splits.train
    assert isinstance(train, SketchDataset)
    table = LengthTable.of(Sketches(train.points, train.lengths))
    expected = load([f"{name}.npz"], real_data).scale_factor
    assert table.scale_factor() == pytest.approx(expected, rel=2e-6)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(1, 8))
def test_the_order_is_the_stable_sort_by_length(tmp_path_factory, lengths, chunk):
    rng = np.random.default_rng(0)
    splits = {key: [sketch(length, rng) for length in lengths] for key in SPLITS}
    store = open_store(write_store(tmp_path_factory.mktemp("s") / "a", splits, chunk=chunk))
    for split in store.splits.values():
        assert_array_equal(split.order, np.argsort(lengths, kind="stable"))
        assert_array_equal(split.offsets, np.concatenate([[0], np.cumsum(lengths)]))
        assert split.table.sketches == len(lengths)


def test_a_mapped_dataset_survives_pickling_without_its_points(folder):
    train = load(["a"], folder).train
    before = train.gather([3, 1])[0]
    content = pickle.dumps(train)
    assert len(content) < 10_000
    assert_array_equal(pickle.loads(content).gather([3, 1])[0], before)


def test_indices_that_there_are_not_are_refused(folder):
    train = load(["a"], folder).train
    for indices in ([40], [-1], [0, 99]):
        with pytest.raises(IndexError, match="has 40 sketches; an index is outside of them"):
            batch(train, indices, 20)
    with pytest.raises(IndexError, match="there is no index 40"):
        train[40]


def test_a_limit_that_leaves_a_split_empty_is_refused_by_name(folder):
    splits = make_splits()
    splits["test"] = [rows for rows in splits["test"] if len(rows) > 3]
    write_store(folder / "c", splits)
    with pytest.raises(
        DatasetError, match=r"c, split (valid|test) has no sketch of at most 3 points"
    ):
        load(["c"], folder, 3)


def damage(folder, file, change):
    path = folder / file
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    else:
        array = np.array(np.load(path))
        np.save(path, change(array))


def no_version(content):
    content["version"] = 2


def no_train(content):
    del content["splits"]["train"]


def no_length(content):
    content["splits"]["train"][0][0] = -1


def too_many(content):
    content["splits"]["train"][0][1] = 1 << 47


def other_counts(content):
    content["splits"]["train"][0][1] += 1


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("sketches.json", no_version, "is of version 2; this program reads 1"),
        ("sketches.json", no_train, r"sketches\.json is damaged"),
        ("sketches.json", no_length, r"sketches\.json is damaged"),
        ("sketches.json", too_many, r"is of int16|is damaged"),
        ("sketches.json", other_counts, r"points\.npy is of int16 \[\d+, 3\]; the store's descr"),
        ("train/points.npy", lambda a: a.astype(np.int32), r"points\.npy is of int32"),
        ("train/points.npy", lambda a: a[:-1], r"points\.npy is of int16"),
        ("valid/offsets.npy", lambda a: a[:-1], r"offsets\.npy is of int64"),
        ("test/order.npy", lambda a: a.astype(object), r"order\.npy is of object"),
    ],
)
def test_a_store_whose_files_do_not_fit_is_refused_when_opened(folder, file, change, sentence):
    damage(folder / "a", file, change)
    with pytest.raises(DatasetError, match=sentence):
        load(["a"], folder)


def test_a_store_that_is_cut_short_is_refused_when_opened(folder):
    for file in ("train/points.npy", "test/labels.npy"):
        path = folder / "a" / file
        content = path.read_bytes()
        for length in (0, 10, 127, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(DatasetError, match=file.rpartition("/")[2]):
                open_store(folder / "a")
        path.write_bytes(content)
    (folder / "a" / "sketches.json").write_text("{")
    with pytest.raises(DatasetError, match="is damaged"):
        open_store(folder / "a")


def swapped(array):
    array[[3, 4]] = array[[4, 3]]
    return array


def repeated(array):
    array[0] = array[1]
    return array


def far(array):
    array[5] = 1 << 40
    return array


def bad_pen(array):
    array[7, 2] = 3
    return array


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("train/offsets.npy", far, "offsets are damaged"),
        ("train/order.npy", far, "its order names sketches that there are not"),
        ("train/order.npy", repeated, "leaves out sketches, or names some twice"),
        ("train/order.npy", lambda a: a[::-1], "its order is not by length"),
        ("train/points.npy", bad_pen, "has the pen 3 at point"),
        ("train/labels.npy", lambda a: a + 1, "has the label 1; there are 1 classes"),
    ],
)
def test_validate_finds_wrong_values_in_a_store(folder, file, change, sentence):
    assert list(validate([folder / "a"])) == []
    damage(folder / "a", file, change)
    found = []
    try:
        found += validate([folder / "a"])
    except DatasetError as error:
        found.append(str(error))
    assert any(sentence in problem for problem in found), found


def test_training_tells_damage_instead_of_reading_other_sketches(folder):
    for file, change in (
        ("order.npy", far),
        ("order.npy", lambda a: a[::-1]),
        ("offsets.npy", far),
    ):
        path = folder / "a" / "train" / file
        content = path.read_bytes()
        damage(folder / "a", f"train/{file}", change)
        train = load(["a"], folder).train
        with pytest.raises(DatasetError, match=r"of a store (is|are) damaged"):
            list(evaluation_batches(train, 5, 20))
        path.write_bytes(content)


@given(st.lists(st.lists(st.integers(-2000, 2000), min_size=2, max_size=8), min_size=1, max_size=9))
def test_sums_by_length_answer_for_every_limit(found):
    arrays = [np.array([(x, x // 2, 0) for x in values], np.int16) for values in found]
    lengths = np.array([len(array) for array in arrays])
    half = len(arrays) // 2
    tables = [
        LengthTable.of(Sketches(np.concatenate(part), np.array([len(a) for a in part])))
        for part in (arrays[:half], arrays[half:])
        if part
    ]
    table = LengthTable.from_rows(json.loads(json.dumps(LengthTable.total(tables).to_rows())))
    for limit in range(1, 9):
        some = [array for array in arrays if len(array) <= limit]
        part = table.up_to(limit)
        assert part.sketches == len(some)
        if some:
            offsets = np.clip(np.concatenate(some)[:, :2].astype(float), -1000, 1000)
            assert part.scale_factor() == pytest.approx(np.std(offsets), rel=1e-6, abs=1e-3)
    assert table.points == lengths.sum()
