"""The built-in dataset: what it holds, that it never changes, and its cache."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from sketchrnn_fast.data import DatasetError, hershey, load, read_npz
from sketchrnn_fast.strokes import bounds

# sha256 over the sketches of `make()`; it changes with VERSION and with nothing else.
DIGEST = "7a65f5739807d7cd2975da4b50268f9df44b89c0ddd4eafdff3416beb49654a4"


@pytest.fixture(scope="module")
def made():
    return hershey.make()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    hershey.sketches(folder)
    return folder


def every(made):
    return [sketch for split in made.values() for sketch in split]


def test_the_splits_have_20000_1000_and_1000_sketches(made):
    assert {split: len(made[split]) for split in made} == hershey.COUNTS
    assert hershey.COUNTS == {"train": 20_000, "valid": 1_000, "test": 1_000}


def test_the_sketches_are_the_same_on_every_machine(made):
    digest = hashlib.sha256()
    for sketch in every(made):
        digest.update(sketch.astype("<i2").tobytes())
    assert digest.hexdigest() == DIGEST


def test_another_seed_gives_other_sketches(made):
    other = hershey.make(seed=1)
    assert all(len(other[split]) == count for split, count in hershey.COUNTS.items())
    shared = {s.tobytes() for s in other["train"]} & {s.tobytes() for s in made["train"]}
    assert len(shared) < 200  # a dash or a dot may come out alike


def test_no_two_sketches_are_equal_within_or_across_splits(made):
    assert len({sketch.tobytes() for sketch in every(made)}) == 22_000


def test_every_sketch_is_int16_of_2_to_64_points_and_ends_with_a_lift(made):
    for sketch in every(made):
        assert sketch.dtype == np.int16
        assert sketch.shape[1] == 3
        assert 2 <= len(sketch) <= hershey.MAX_POINTS
        assert sketch[-1, 2] == 1
        assert np.isin(sketch[:, 2], (0, 1)).all()


def test_every_drawing_has_an_extent_and_lies_near_its_line(made):
    for sketch in every(made):
        assert np.abs(sketch[1:, :2]).max() > 0
        min_x, max_x, min_y, max_y = bounds(sketch)
        assert -250 < min_x <= max_x < 500
        assert -200 < min_y <= max_y < 200


def glyph_lines(character, font_name="futural"):
    from HersheyFonts import HersheyFonts

    font = HersheyFonts()
    font.load_default_font(font_name)
    [glyph] = hershey._glyphs(font, character)
    return hershey._join(glyph)


def test_lines_that_touch_are_joined_and_turned_where_needed():
    # Three strokes in the font: both sides from the top, and the bar.
    assert glyph_lines("A") == [[(1, 9), (9, -12), (17, 9)], [(4, 2), (14, 2)]]


def test_a_corner_is_drawn_in_one_line():
    assert glyph_lines("L") == [[(4, -12), (4, 9), (16, 9)]]


def test_long_segments_are_cut_into_equal_parts_that_end_where_they_did():
    cut = hershey._subdivide(np.array([[0, 0], [0, 0], [30, 0], [30, 12]]))
    np.testing.assert_allclose(cut, [[0, 0], [10, 0], [20, 0], [30, 0], [30, 12]], atol=1e-12)


def test_letters_stand_upright_with_y_down():
    """An L goes down in two parts, then to the right."""
    drawings = hershey._all_drawings()
    letter = hershey.LETTERS.index("L")
    start = int(drawings.lengths[:letter].sum())
    points = drawings.points[start : start + drawings.lengths[letter]]
    steps = np.diff(points, axis=0)
    assert steps[:2].tolist() == [[0, 10.5], [0, 10.5]]
    assert steps[2:].tolist() == [[12, 0]]


def test_the_mix_is_half_plain_letters_and_a_fifth_words():
    drawings = hershey._all_drawings()
    draws = ((np.arange(1000) + 0.5) / 1000).astype(np.float32)
    chosen = hershey._choose(drawings, draws, draws[::-1])
    kind = np.searchsorted(drawings.kind_ends, chosen, side="right")
    assert np.bincount(kind).tolist() == [500, 100, 200, 200]
    assert drawings.kind_ends[0] == 2 * 62


def test_every_font_gives_glyphs():
    from HersheyFonts import HersheyFonts

    font = HersheyFonts()
    for font_name in font.default_font_names:
        assert sum(1 for _ in hershey._texts(font, [font_name], None)) > 30


def test_the_cache_gives_what_was_made(made, cache):
    [path] = cache.iterdir()
    assert path.name == f"hershey-v{hershey.VERSION}.npz"
    cached = hershey.sketches(cache)
    for split, sketches in made.items():
        assert len(cached[split]) == len(sketches)
        for ours, theirs in zip(cached[split], sketches, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()


def test_a_cached_dataset_is_not_made_again(cache, monkeypatch):
    monkeypatch.setattr(hershey, "make", lambda: pytest.fail("it was made again"))
    assert len(hershey.sketches(cache)["train"]) == 20_000


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_cache_is_made_anew_with_a_warning(damage, cache, tmp_path):
    [path] = cache.iterdir()
    copy = tmp_path / path.name
    if damage == "cut":
        copy.write_bytes(path.read_bytes()[:1000])
    else:
        np.savez(copy, **dict.fromkeys(("train", "valid", "test"), np.zeros((1, 2, 3))))
    with pytest.warns(UserWarning, match="is made anew"):
        hershey.sketches(tmp_path)
    assert copy.read_bytes() == path.read_bytes()


def test_a_cache_that_cannot_be_written_gives_a_warning_and_the_dataset(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be kept in .*; it will be made anew"):
        sketches = hershey.sketches(tmp_path / "file" / "cache")
    assert len(sketches["train"]) == 20_000


def test_the_environment_names_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SKETCHRNN_FAST_CACHE", str(tmp_path))
    assert hershey.cache_folder() == tmp_path
    monkeypatch.delenv("SKETCHRNN_FAST_CACHE")
    assert hershey.cache_folder().name == "sketchrnn-fast"


def test_the_name_hershey_loads_the_built_in_dataset(cache):
    splits = load(["hershey"], cache_dir=cache)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (20_000, 1_000, 1_000)
    assert splits.max_seq_len == 64
    assert np.std(splits.train.points[:, :2]) == pytest.approx(1.0, rel=1e-5)


def test_a_file_named_hershey_is_not_the_built_in_dataset(tmp_path, cache):
    with pytest.raises(DatasetError, match=r"hershey\.npz does not exist"):
        load(["hershey.npz"], tmp_path, cache_dir=cache)
    [path] = cache.iterdir()
    assert len(read_npz(path)["valid"]) == 1_000
