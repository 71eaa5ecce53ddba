"""Published decoders: what is read from a `.gen.json`, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import INTEGERS, SHAPES, UNITS, content
from tolerances import assert_close

from sketchrnn_fast import generation
from sketchrnn_fast.interop import magenta, sketch_rnn_js
from sketchrnn_fast.interop.sketch_rnn_js import VARIABLES, ModelFileError, read_decoder

PUBLISHED = {"bear": (175, 62.4323), "bicycle": (139, 86.8476), "rabbit": (155, 61.0124)}


def write(folder: Path, value: Any) -> Path:
    path = folder / "knot.gen.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", [2, "gen"])
def test_a_decoder_is_read_as_an_unconditional_model(tmp_path: Path, mode: Any) -> None:
    value = content()
    value[0]["mode"] = mode
    model = read_decoder(write(tmp_path, value))
    config = model.config
    assert (config.conditional, config.dec_model, config.dec_rnn_size) == (False, "lstm", UNITS)
    assert (config.num_mixture, config.max_seq_len) == (20, 30)
    assert float(model.scale_factor) == 50.5
    assert model.decoder_cell.forget_bias == 1.0
    assert not model.training


def test_a_weight_is_ten_times_its_share_of_32767(tmp_path: Path) -> None:
    found = magenta.variables(read_decoder(write(tmp_path, content())))
    assert list(found) == list(VARIABLES)
    for name, integers in zip(VARIABLES, INTEGERS, strict=True):
        expected = 10 * integers.astype(np.float64) / 32767
        np.testing.assert_allclose(found[name], expected, rtol=2e-7, atol=0)


def test_sketches_come_in_the_files_units(tmp_path: Path) -> None:
    model = read_decoder(write(tmp_path, content()))
    in_units = generation.sample(model, 4, seed=3)
    model.scale_factor.fill_(1.0)
    for sketch, plain in zip(in_units, generation.sample(model, 4, seed=3), strict=True):
        assert_close(sketch[:, :2], 50.5 * plain[:, :2], torch.float32)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_decoder_draws_sketches_that_end(shared: Path, name: str) -> None:
    model = read_decoder(shared / "data" / "pretrained_js" / f"{name}.gen.json")
    assert model.config.dec_rnn_size == 512
    max_seq_len, scale_factor = PUBLISHED[name]
    assert model.config.max_seq_len == max_seq_len
    assert float(model.scale_factor) == pytest.approx(scale_factor)
    sketches = generation.sample(model, 6, temperature=0.25, mode="js", seed=1)
    extents = [np.ptp(np.cumsum(sketch[:, :2], axis=0), axis=0).max() for sketch in sketches]
    assert 100 < np.median(extents) < 1500  # pixels of a canvas
    for sketch in sketches:
        assert 1 <= sketch[:, 2].sum() < len(sketch) / 3
    assert min(map(len, sketches)) < max_seq_len


def with_info(**changes: Any) -> Callable[[list[Any]], Any]:
    return lambda value: [{**value[0], **changes}, *value[1:]]


def with_text(place: int, change: Callable[[str], Any]) -> Callable[[list[Any]], Any]:
    def changed(value: list[Any]) -> list[Any]:
        value[2][place] = change(value[2][place])
        return value

    return changed


def with_shapes(shapes: Any) -> Callable[[list[Any]], Any]:
    return lambda value: [value[0], shapes, value[2]]


BROKEN: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "empty": (lambda _: "", "it is no JSON, or it is cut short"),
    "cut short": (lambda value: json.dumps(value)[:-90], "it is no JSON, or it is cut short"),
    "deep": (lambda _: "[" * 9000, "it is no JSON, or it is cut short"),
    "an object": (lambda value: value[0], "it is not an array of an object, shapes and weights"),
    "two items": (lambda value: value[:2], "it is not an array of an object, shapes and weights"),
    "swapped": (lambda value: value[::-1], "it is not an array of an object, shapes and weights"),
    "a VAE": (with_info(mode=1), 'its mode is 1; a decoder has 2 or "gen", and models with an'),
    "mode true": (with_info(mode=True), "its mode is True; a decoder has"),
    "no mode": (lambda value: [{}, *value[1:]], "its mode is None; a decoder has"),
    "a list as mode": (with_info(mode=[2]), "its mode is [2]; a decoder has"),
    "no points": (with_info(max_seq_len=0), "its max_seq_len is 0; it must be a number of points"),
    "half a point": (with_info(max_seq_len=1.5), "its max_seq_len is 1.5; it must be a number"),
    "endless": (
        with_info(max_seq_len=10**9),
        "its max_seq_len is 1000000000; it must be a number of points, 1 to 1048576",
    ),
    "scale 0": (with_info(scale_factor=0), "its scale_factor is 0; it must be a number above 0"),
    "scale NaN": (with_info(scale_factor=math.nan), "its scale_factor is nan; it must be"),
    "scale denormal": (with_info(scale_factor=1e-45), "its scale_factor is 1e-45; it must be a"),
    "scale 0 in float32": (with_info(scale_factor=1e-60), "its scale_factor is 1e-60; it must be"),
    "scale infinite": (with_info(scale_factor=1e39), "its scale_factor is 1e+39; it must be"),
    "scale text": (with_info(scale_factor="1"), "its scale_factor is '1'; it must be a number"),
    "no shapes": (with_shapes([]), "its shapes are []; a decoder of N units, at most 2048"),
    "four shapes": (with_shapes(SHAPES[:4]), "its shapes are [[3, 123], [123], [5, 12], [3, 12]]"),
    "K of 5": (with_shapes([[3, 33], [33], *SHAPES[2:]]), "its shapes are [[3, 33], [33],"),
    "no units": (with_shapes([[0, 123], [123], [5, 0], [0, 0], [0]]), "its shapes are [[0, 123]"),
    "huge": (with_shapes([[10**9, 123], [123], [5, 4], [4], [4]]), "its shapes are [[1000000000,"),
    "numbers": (with_shapes([3, 123]), "its shapes are [3, 123]; a decoder"),
    "four weights": (
        lambda value: [*value[:2], value[2][:4]],
        "it has 4 weights for 5 shapes",
    ),
    "integers": (
        with_text(1, lambda _: [0] * 123),
        "output_b is a list; with shape [123] it takes a string of 328 characters",
    ),
    "a short string": (
        with_text(4, lambda text: text[4:]),
        "bias is 28 characters; with shape [12] it takes a string of 32 characters",
    ),
    "no base64": (with_text(2, lambda text: "!" + text[1:]), "W_xh is no base64"),
    "beyond ASCII": (with_text(2, lambda text: "é" + text[1:]), "W_xh is no base64"),
    "padding": (
        with_text(4, lambda text: text[:-4] + "AA=="),
        "bias holds 22 bytes; [12] takes 24",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_malformed_file_is_one_clear_sentence(
    tmp_path: Path, change: Callable[[list[Any]], Any], sentence: str
) -> None:
    path = write(tmp_path, change(copy.deepcopy(content())))
    with pytest.raises(ModelFileError, match=f"^{re.escape(f'{path}: {sentence}')}") as error:
        read_decoder(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        *(with_info(mode=value) for value in ("a" * 10**7, ["a" * 10**6] * 9, int("9" * 4000))),
        *(with_info(max_seq_len=value) for value in ("b" * 10**6, 10**3999, {"b" * 999: 1})),
        *(with_info(scale_factor=value) for value in ("c" * 10**6, 10**3999, [[[[["c"]]]]] * 99)),
        *(with_shapes(value) for value in ([10**3999], ["d" * 10**6] * 9, [[[9]] * 99] * 9)),
    ],
)
def test_what_a_message_quotes_is_cut(
    tmp_path: Path, change: Callable[[list[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(), change(copy.deepcopy(content())))
    with pytest.raises(ModelFileError) as error:
        read_decoder("knot.gen.json")
    assert len(str(error.value)) < 300


def test_a_file_of_countless_values_is_refused_in_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, "[" + "[]," * 10**6 + "[]]")
    tracemalloc.start()
    with pytest.raises(ModelFileError, match=r"it holds more values than a decoder has$"):
        read_decoder(path)
    assert tracemalloc.get_traced_memory()[1] < 3 * path.stat().st_size
    tracemalloc.stop()


def test_the_largest_decoder_that_is_taken_sets_the_size_of_its_file(tmp_path: Path) -> None:
    weights = sum(map(math.prod, sketch_rnn_js._expected_shapes(sketch_rnn_js._MOST_UNITS)))
    assert 0 < sketch_rnn_js._MOST_BYTES - 2 * weights * 4 / 3 <= 2**20
    path = tmp_path / "huge.gen.json"
    with path.open("wb") as stream:
        stream.truncate(sketch_rnn_js._MOST_BYTES + 1)
    with pytest.raises(ModelFileError, match=r"it has more than \d+ bytes; no decoder is that"):
        read_decoder(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nowhere.gen.json cannot be read: No such file"):
        read_decoder(tmp_path / "nowhere.gen.json")
    with pytest.raises(ModelFileError, match=r"cannot be read: Is a directory"):
        read_decoder(tmp_path)
    (tmp_path / "binary.gen.json").write_bytes(bytes(range(256)))
    with pytest.raises(ModelFileError, match="it is no JSON, or it is cut short"):
        read_decoder(tmp_path / "binary.gen.json")
